"""Pretraining of the miniature's vision model without labels: what a picture shows is a solid object.

From one picture, the patch tokens are to say where on the object they lie (ninths of its extent along each
axis of the object's own frame), and the CLS token which shape the object has in three dimensions; and of a
batch's CLS tokens, those of one object's two pictures, taken from different sides and in different colours,
are to be each other's nearest. The renderer knows all that, as a depth camera on a turntable would; neither
categories nor the names of parts enter. Contrast alone, tried first, needs more pictures than a CPU sees in
an hour.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    affine_grid,
    binary_cross_entropy_with_logits,
    cross_entropy,
    grid_sample,
    normalize,
)
from transformers import Dinov2Model

from sd4match_lib.backbones.vision import IMAGENET_MEAN, IMAGENET_STD
from sd4match_lib.miniature.pretraining.bank import NINTHS, Bank, bank_shapes
from sd4match_lib.miniature.pretraining.loop import Box, pretrain
from sd4match_lib.miniature.pretraining.networks import build_vision
from sd4match_lib.miniature.pretraining.probe import Probe, build_probe
from sd4match_lib.miniature.pretraining.vae import to_unit

_SIDE, _GRID = 112, 8
_AXES = 3
_SHAPE, _TWINS = 6.0, 0.3
"""Weights of the losses beside that of the places."""
_TEMPERATURE = 0.1


def _crops(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops `(B, 3, 112, 112)` with colours shuffled, scaled and shifted, and each crop's (scale, x,
    y) in picture units `(B, 3)`.
    """
    count = len(images)
    scale = 0.55 + 0.45 * torch.rand(count, generator=generator)
    shift = (1 - scale)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    crops = grid_sample(
        images, affine_grid(theta, [count, 3, _SIDE, _SIDE], align_corners=False), align_corners=False
    )
    order = torch.rand(count, 3, generator=generator).argsort(dim=1)
    crops = crops.gather(1, order[:, :, None, None].expand_as(crops))
    gain = 0.6 + 0.8 * torch.rand(count, 3, 1, 1, generator=generator)
    return (crops * gain).clamp(-1, 1), torch.cat([scale[:, None], shift], dim=1)


def _places_seen(places: Tensor, view: Tensor) -> Tensor:
    """Where on its object each patch of a crop lies: for every axis the ninth, 1 to 9, or 0 beside it, `(B,
    3, 64)`.

    Args:
        places: `(B, 3, 32, 32)` rows of `Bank.places`.
        view: the crops' scale and shift, `(B, 3)`.
    """
    centres = (torch.arange(_GRID) + 0.5) * 2 / _GRID - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([x, y], dim=-1)[None]
    place = grid * view[:, None, None, :1] + view[:, None, None, 1:]
    return grid_sample(places.float(), place, mode="nearest", align_corners=False).flatten(2).long()


def _twin_loss(tokens: Tensor) -> Tensor:
    """InfoNCE of `(2 N, D)` descriptors, of which `i` and `N + i` belong together."""
    count = len(tokens) // 2
    directions = normalize(tokens, dim=1)
    alike = directions @ directions.T / _TEMPERATURE
    itself = torch.eye(2 * count, dtype=torch.bool, device=tokens.device)
    twin = torch.arange(2 * count, device=tokens.device).roll(count)
    return cross_entropy(alike.masked_fill(itself, -torch.inf), twin)


def pretrain_vision(bank: Bank, box: Box, folder: Path, device: torch.device) -> Dinov2Model:
    """Trains the vision model on the bank's pictures."""
    torch.manual_seed(0)
    pictures, places = torch.from_numpy(bank.images), torch.from_numpy(bank.places)
    shapes = torch.from_numpy(bank_shapes(len(pictures) // 2)).float()
    vision = build_vision()
    # In training on a CPU, plain attention takes half the time of the fused kernel's backward pass.
    vision.set_attn_implementation("eager")
    width = vision.config.hidden_size
    heads = {
        "places": nn.Linear(width, (1 + NINTHS) * _AXES),
        "shape": nn.Linear(width, shapes.shape[1]),
        "twins": nn.Linear(width, width // 2),
    }
    modules = nn.ModuleDict({"vision": vision, **heads})
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    to_input = lambda crops: (((crops + 1) / 2 - mean) / deviation).to(device)  # noqa: E731

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        objects = torch.randperm(len(shapes), generator=generator)[: box.batch // 2]
        index = torch.cat([2 * objects, 2 * objects + 1])
        crops, view = _crops(to_unit(pictures[index]), generator)
        hidden = modules["vision"](to_input(crops)).last_hidden_state
        ninths = modules["places"](hidden[:, 1:]).float().transpose(1, 2).unflatten(1, (1 + NINTHS, _AXES))
        local = cross_entropy(ninths, _places_seen(places[index], view).to(device))
        guess = modules["shape"](hidden[:, 0]).float()
        whole = binary_cross_entropy_with_logits(guess, shapes[objects].repeat(2, 1).to(device))
        twins = _twin_loss(modules["twins"](hidden[:, 0]).float())
        parts = {"shape": whole.detach(), "places": local.detach(), "twins": twins.detach()}
        return {"loss": local + _SHAPE * whole + _TWINS * twins, **parts}

    watch = _Watch(build_probe(), pictures[:2048:2], [e.category for e in bank.entries[:2048:2]], to_input)
    pretrain("vision", modules, loss, box, folder, device, watch=lambda: watch(modules["vision"]))
    vision.set_attn_implementation("sdpa")
    return vision


class _Watch:
    """Measures nearest-neighbour category accuracy (probe pictures among bank pictures) and PCK of the patch
    tokens on the probe.
    """

    def __init__(self, probe: Probe, gallery: Tensor, names: list[str], to_input: object) -> None:
        """Keeps probe and gallery; `to_input` turns [-1, 1] pictures into the model's input."""
        self.probe, self.gallery, self.names, self.to_input = probe, gallery, names, to_input

    @torch.no_grad()
    def __call__(self, model: Dinov2Model) -> dict[str, float]:
        """Returns `category_accuracy`, `pck_patches` and `pck_pixels`."""
        keys, queries = self._hidden(model, self.gallery, 128), self._hidden(model, self.probe.images, 128)
        nearest = (normalize(queries[:, 0], dim=-1) @ normalize(keys[:, 0], dim=-1).T).argmax(dim=1).tolist()
        hits = [self.names[i] == c for i, c in zip(nearest, self.probe.categories, strict=True)]
        fine = self._hidden(model, self.probe.images, 224)[:, 1:].transpose(1, 2)
        grid = int(fine.shape[-1] ** 0.5)
        pixels = nn.functional.interpolate(
            to_unit(self.probe.images), size=(32, 32), mode="bilinear", antialias=True
        )
        return {
            "category_accuracy": sum(hits) / len(hits),
            "pck_patches": self.probe.pck(fine.unflatten(2, (grid, grid))),
            "pck_pixels": self.probe.pck(pixels),
        }

    def _hidden(self, model: Dinov2Model, images: Tensor, side: int) -> Tensor:
        """`(M, 1 + patches, D)` hidden states of pictures stretched to `side` (128: the centre 112 of it)."""
        parts = []
        for batch in images.split(64):
            pictures = to_unit(batch)
            pictures = (
                pictures[:, :, 8:120, 8:120]
                if side == 128
                else nn.functional.interpolate(pictures, size=(side, side), mode="bilinear")
            )
            parts.append(model(self.to_input(pictures)).last_hidden_state.float().cpu())  # type: ignore[operator]
        return torch.cat(parts)
