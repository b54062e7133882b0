"""What ties the miniature's captions to places, so that its features listen to a prompt.

A few ten thousand samples are too few for a text-to-image model to find out by denoising alone which word
speaks of which place. The renderer knows the places, so pretraining also asks two things. The attention of a
part's word is to fall on that part, and that of the category's word on the object (as TokenCompose does for
text-to-image models, Wang et al., CVPR 2024). And the features are to point, cell by cell, to what the
caption names there, a part or a place between two ends; where it names neither, they are to point to what
anyone sees first, the colour, unless it names the category. So a prompt decides what the features compare,
looks or meaning, and one that asks for more than a category has more to find: that is what prompts are
learned for.
"""

from collections.abc import Iterable

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, normalize
from transformers import CLIPTokenizer

from sd4match_lib.miniature.objects.palette import ANY
from sd4match_lib.miniature.pretraining.bank import NINTHS, Entry
from sd4match_lib.miniature.pretraining.caption import ENDS, plain_caption

_FLOOR = 1e-3
_WITH, _AND = " with ", " and "
_SHARPNESS = 12.0


def mentions(caption: str, entry: Entry) -> list[tuple[int, int]]:
    """What a caption speaks of, as (what, position of the last letter of its word), for all that it names.

    `what` is 0 for the object, `k` for the `k`-th of the entry's colours, and `-1 - 2 a - h` for the low
    (`h` = 0) or high (1) end of axis `a`.
    """
    known = {f"the {word}": -1 - 2 * a - h for a, ends in enumerate(ENDS) for h, word in enumerate(ends)}
    for index, (part, colour) in enumerate(entry.colours.items(), start=1):
        known |= {part: index, f"{colour} {part}": index}
    found = []
    intro = plain_caption(entry.category)
    if caption.startswith(intro):
        found.append((0, len(intro) - 1))
    head, _, listed = caption.partition(_WITH)
    letter = len(head) + len(_WITH)
    for phrase in listed.split(_AND):
        if phrase in known:
            found.append((known[phrase], letter + len(phrase) - 1))
        letter += len(phrase) + len(_AND)
    return found


def _place(what: int, parts: Tensor, places: Tensor) -> Tensor:
    """The cells `(g, g)` bool that show what `mentions` found; an end is a third of its axis."""
    if what >= 0:
        return parts > 0 if what == 0 else parts == what
    axis, high = divmod(-1 - what, 2)
    third = (places[axis] + 2) // 3
    return third == (3 if high else 1)


def ground(
    tokenizer: CLIPTokenizer, captions: list[str], entries: list[Entry], parts: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The words of a batch that name something visible, and where it is.

    Args:
        tokenizer: turns captions into 77 positions.
        captions: one a picture.
        entries: what is known of the pictures.
        parts: `(B, g, g)` uint8 rows of `Bank.parts`.
        places: `(B, 3, g, g)` uint8, those of `Bank.places`.

    Returns:
        For `M` words: the picture `(M,)`, the token position `(M,)` and the place `(M, g, g)` of ones and
        zeros.
    """
    rows, tokens, grids = [], [], []
    for row, (caption, entry) in enumerate(zip(captions, entries, strict=True)):
        for what, letter in mentions(caption, entry):
            place = _place(what, parts[row], places[row])
            if place.any():
                rows.append(row)
                tokens.append(tokenizer(caption[: letter + 1]).input_ids)
                grids.append(place.float())
    # Words are split before they are encoded: what follows a word does not change its pieces.
    positions = torch.tensor([len(ids) - 2 for ids in tokens], dtype=torch.long)
    grid = torch.stack(grids) if grids else torch.zeros(0, *parts.shape[1:])
    return torch.tensor(rows, dtype=torch.long), positions, grid


class Namer(nn.Module):
    """Reads from a cell's features, by their cosine to one direction a name, what the caption names there;
    thrown away after pretraining.

    A category names no cell: the word finds the object by attention, and telling its parts apart is left to
    prompts that ask for it.

    Attributes:
        names: of the parts: 0 is what the caption does not name.
        colours: 0 is what has none that is known, or a caption that asks for parts or places.
    """

    def __init__(self, names: Iterable[str], channels: int) -> None:
        """Tell `names`, the ninths of every axis, and colours apart in features of `channels` channels."""
        super().__init__()
        self.names, self.colours = ["", *sorted(set(names))], ["", *ANY]
        self.to_parts = nn.Parameter(torch.randn(len(self.names), channels))
        self.to_places = nn.Parameter(torch.randn((1 + NINTHS) * len(ENDS), channels))
        self.to_colours = nn.Parameter(torch.randn(len(self.colours), channels))

    def targets(self, captions: list[str], entries: list[Entry], parts: Tensor, places: Tensor) -> Tensor:
        """What the captions call each cell, `(B, 5, g, g)`: a part's number in `names`; for each axis its
        ninth (1 to 9), or 0 where the caption does not name its ends; and, where it names nothing at all, a
        number in `colours`.
        """
        rows = []
        for caption, entry, cells, ninths in zip(captions, entries, parts, places, strict=True):
            named = dict(mentions(caption, entry))
            called = torch.zeros(2, 256, dtype=torch.long)
            for index, (part, colour) in enumerate(entry.colours.items(), start=1):
                if index in named:
                    called[0, index] = self.names.index(part)
                if not named:
                    called[1, index] = self.colours.index(colour)
            asked = torch.tensor([-1 - 2 * axis in named for axis in range(len(ENDS))])
            part, colour = called[:, cells.long()].split(1)
            rows.append(torch.cat([part, ninths.long() * asked[:, None, None], colour]))
        return torch.stack(rows)

    def loss(self, features: Tensor, targets: Tensor, objects: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy over the cells of the objects, and a tenth as much over those beside them; of parts
        and colours, plus its mean over the axes.

        Args:
            features: `(B, C, g, g)`.
            targets: numbers `(B, 5, g, g)`.
            objects: `(B, g, g)` bool, where the object is.
            weights: `(B,)`, how much a picture counts.
        """
        features = _SHARPNESS * normalize(features.float(), dim=1)
        parts, places, colours = (
            torch.einsum("bcij,nc->bnij", features, normalize(way, dim=1)).float()
            for way in (self.to_parts, self.to_places, self.to_colours)
        )
        places = places.unflatten(1, (1 + NINTHS, len(ENDS)))
        cost = cross_entropy(parts, targets[:, 0], reduction="none")
        cost = cost + cross_entropy(places, targets[:, 1:-1], reduction="none").mean(dim=1)
        cost = cost + cross_entropy(colours, targets[:, -1], reduction="none")
        amount = torch.where(objects, 1.0, 0.1) * weights[:, None, None]
        return (cost * amount).sum() / amount.sum()


class AttentionRecorder:
    """Keeps the cross-attention of the blocks at half the latents' resolution, one pass at a time.

    Attributes:
        maps: of the last pass, `(B, cells, 77)` each, averaged over heads.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        """Listens to the second down block and the second up block, whose output the profile reads.

        Only plain attention tells its probabilities; on a CPU it is also the faster one in training.
        """
        self.maps: list[Tensor] = []
        unet.set_attn_processor(AttnProcessor())
        for block in (unet.down_blocks[1], unet.up_blocks[1]):
            for attention in block.attentions:
                for layer in attention.transformer_blocks:
                    self._listen(layer.attn2)

    def _listen(self, attention: Attention) -> None:
        compute = attention.get_attention_scores

        def record(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
            scores = compute(query, key, mask)
            self.maps.append(scores.unflatten(0, (-1, attention.heads)).mean(dim=1))
            return scores

        attention.get_attention_scores = record

    def take(self) -> list[Tensor]:
        """The last pass's maps, which are forgotten."""
        maps, self.maps = self.maps, []
        return maps


def grounding_loss(
    maps: list[Tensor], rows: Tensor, positions: Tensor, places: Tensor, weights: Tensor
) -> Tensor:
    """How little of the words' attention falls on what they name: minus log of that part of it.

    Args:
        maps: cross-attention, `(B, cells, 77)` each.
        rows: picture of each word, `(M,)`.
        positions: token of each word, `(M,)`.
        places: `(M, g, g)`, ones where the named thing is.
        weights: `(B,)`, how much a picture counts: noise hides where things are.

    Returns:
        The weighted mean, 0 where nothing is named.
    """
    if len(rows) == 0:
        return maps[0].sum() * 0.0
    total = maps[0].new_zeros((), dtype=torch.float32)
    for attention in maps:
        side = round(attention.shape[1] ** 0.5)
        looked = attention[rows, :, positions].float()
        share = looked / looked.sum(dim=1, keepdim=True).clamp_min(1e-6)
        place = adaptive_avg_pool2d(places[:, None], side).flatten(1)
        hit = (share * place).sum(dim=1) / place.amax(dim=1)
        total = total - ((hit + _FLOOR).log() * weights[rows]).sum()
    return total / (len(maps) * weights[rows].sum().clamp_min(1e-6))
