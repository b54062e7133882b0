"""What the learned prompts share: where they are learned, how they start, and how they are kept.

A prompt is rows of numbers. In the space `tokens`, the paper's, they stand in for the output of the text
model's embedding layer and pass through the text model; in the space `hidden`, the released code's other
mode, they stand in for the text model's output.
"""

from abc import abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.data.categories import category_noun
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import Prompt, PromptBatch
from sd4match_lib.prompts.mixture import LayerMixture
from sd4match_lib.prompts.prompt_file import PromptFile, weights_hash, write_prompt_file

DEFAULT_LENGTH = 75
RANDOM_START = "random"
EMPTY_START = "empty"


class Space(StrEnum):
    """Where a prompt is learned."""

    TOKENS = "tokens"
    HIDDEN = "hidden"


class LearnedPrompt(Prompt):
    """A prompt whose rows are learned with the matching loss.

    Symbols: `P` rows of the prompt, `L` token positions of the text model (77), `D` token width.

    Attributes:
        kind: the word for it in files and on the command line.
        space: where its rows live.
        mixture: the weights of several layers that are learned with it, or None for the profile's one layer.
        about: where its weights come from, for people.
    """

    kind: ClassVar[str]

    def __init__(self, space: Space | str) -> None:
        """Say where the rows live."""
        super().__init__()
        try:
            self.space = Space(space)
        except ValueError:
            raise UserError(f"there is no space {str(space)!r}; use one of {', '.join(Space)}.") from None
        self.mixture: LayerMixture | None = None
        self.about: dict[str, Any] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """See `Prompt.layers`."""
        return self.mixture.layers if self.mixture else ()

    def mix(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the mixture, where there is one; see `Prompt.mix`."""
        return [self.mixture(maps)] if self.mixture else maps

    @abstractmethod
    def embeddings(self, batch: PromptBatch) -> Tensor:
        """Return the learned rows (B, P, D) of each row of the batch."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""

    @abstractmethod
    def initialise(self, encoder: TextEncoder, seed: int) -> None:
        """Set the weights that training starts from."""

    def parameter_groups(self, learning_rate: float, linear_learning_rate: float) -> list[dict[str, Any]]:
        """Return what an optimizer takes: linear layers have a rate of their own."""
        linear = [p for m in self.modules() if isinstance(m, nn.Linear) for p in m.parameters()]
        inside = {id(p) for p in linear}
        groups = [{"params": [p for p in self.parameters() if id(p) not in inside], "lr": learning_rate}]
        return [*groups, {"params": linear, "lr": linear_learning_rate}] if linear else groups

    def tokens(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the assembled token embeddings; see `Prompt.tokens`.

        Raises:
            UserError: the prompt is learned behind the text model, or made for another one.
        """
        if self.space is Space.HIDDEN:
            raise UserError(
                f"this {self.kind} prompt is learned behind the text model, so it has no token embeddings."
            )
        return encoder.assemble(self.embeddings(batch))

    def context(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the cross-attention input; see `Prompt.context`.

        In the space `hidden`, `L` rows are all of it; fewer stand between the first and the last row of the
        empty prompt's.

        Raises:
            UserError: the prompt was made for another text model.
        """
        if self.space is Space.TOKENS:
            return super().context(batch, encoder)
        rows = self.embeddings(batch)
        check_fit(rows.shape[1], rows.shape[2], encoder, self.space)
        if rows.shape[1] == encoder.length:
            return rows
        empty = encoder.encode_prompt([""]).to(rows).expand(len(rows), -1, -1)
        first, last = encoder.starts, encoder.starts + rows.shape[1]
        return torch.cat([empty[:, :first], rows, empty[:, last:]], dim=1)

    def identity(self) -> dict[str, Any]:
        """Return kind, configuration and a hash of the weights; see `Prompt.identity`."""
        return {"kind": self.kind, **self._whole_config(), "weights": weights_hash(self.state_dict())}

    def _whole_config(self) -> dict[str, Any]:
        return self.config() | ({"mixture": list(self.layers)} if self.mixture else {})

    def save(self, path: Path | str, about: Mapping[str, Any]) -> None:
        """Write weights and header to a `.safetensors` file; `about`: model, data, steps, seed, metrics."""
        write_prompt_file(path, PromptFile(self.kind, self._whole_config(), dict(about), self.state_dict()))

    def save_pretrained(self, folder: Path | str) -> list[Path]:
        """Write weights and card to a folder, which `from_pretrained` reads; see `hub.save_pretrained`."""
        from sd4match_lib.prompts.hub import save_pretrained

        return save_pretrained(self, folder)

    def push_to_hub(self, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
        """Upload weights and card to the Hugging Face hub; see `hub.push_to_hub`."""
        from sd4match_lib.prompts.hub import push_to_hub

        return push_to_hub(self, repo_id, private=private, revision=revision)


def check_fit(length: int, width: int, encoder: TextEncoder, space: Space | str) -> None:
    """Refuse a prompt that this text model cannot read; `hidden` ones may fill all of its positions.

    Raises:
        UserError: it is too long, or of another width.
    """
    most = encoder.length if space == Space.HIDDEN else encoder.most_rows
    if not 1 <= length <= most:
        raise UserError(
            f"prompt length {length} does not fit: this text model has {encoder.length} positions, so in "
            f"the space {str(space)!r} use 1 to {most} rows."
        )
    if width != encoder.width:
        raise UserError(
            f"the prompt is {width} wide and this text model {encoder.width}; it was made for another model."
        )


@torch.no_grad()
def start_embeddings(
    init: str, length: int, encoder: TextEncoder, generator: torch.Generator, space: Space, category: str = ""
) -> Tensor:
    """Return the rows that learning starts from (Table 4 of the paper).

    Args:
        init: "random": so many ids drawn from the vocabulary; "empty": the empty string; any other text as it
            is, with the category in the place of "{category}".
        length: `P`.
        encoder: the text model.
        generator: where random ids come from.
        space: in `tokens` the embedding layer's output is taken, in `hidden` the text model's.
        category: what "{category}" stands for.

    Returns:
        (P, D) float32: the rows behind the start token, or all of them where `P` fills the text model.

    Raises:
        UserError: the length does not fit, or the text needs a category and there is none.
    """
    check_fit(length, encoder.width, encoder, space)
    if "{category}" in init and not category:
        raise UserError(f"the start {init!r} needs a category; only class prompts have one.")
    if init == RANDOM_START:
        ids = encoder.random_ids(generator)
    else:
        text = "" if init == EMPTY_START else init.replace("{category}", category_noun(category))
        ids = encoder.token_ids([text])
    whole = encoder.embed_ids(ids)
    if space is Space.HIDDEN:
        whole = encoder.encode_tokens(whole)
    first = 0 if length == encoder.length else encoder.starts
    return whole[0, first : first + length].float().cpu()
