"""What a prompt is: tokens for a batch, and a scope that says what may be cached.

A new kind of prompt is one file with one subclass of `Prompt`, and one line in `config.names`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.vision import VisionTokens
from sd4match_lib.config.profile import Profile
from sd4match_lib.utils.fingerprint import code_hash

if TYPE_CHECKING:
    from sd4match_lib.prompts.learned import LearnedPrompt


class Scope(StrEnum):
    """What a prompt depends on, and with it the features that it gives."""

    DATASET = "dataset"
    """One prompt for everything."""
    IMAGE = "image"
    """One prompt per image, or per category: features once per image."""
    PAIR = "pair"
    """One prompt per pair: features once per pair."""


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """What a prompt may look at, one row per prompt wanted.

    A row is an image for prompts of scope dataset and image, and a pair for those of scope pair.

    Attributes:
        image_ids: of the images; of a pair the source.
        categories: in the data set's own words.
        trg_image_ids: of the pairs' targets; empty where rows are images.
        vision: the vision model's tokens of the images (of a pair the source), for prompts that need them.
        trg_vision: those of the pairs' targets.
    """

    image_ids: tuple[str, ...]
    categories: tuple[str, ...]
    trg_image_ids: tuple[str, ...] = ()
    vision: VisionTokens | None = None
    trg_vision: VisionTokens | None = None

    def __len__(self) -> int:
        """How many rows."""
        return len(self.image_ids)

    def select(self, rows: Sequence[int]) -> PromptBatch:
        """Return some of the rows."""
        return PromptBatch(
            tuple(self.image_ids[row] for row in rows),
            tuple(self.categories[row] for row in rows),
            tuple(self.trg_image_ids[row] for row in rows) if self.trg_image_ids else (),
            self.vision.select(rows) if self.vision is not None else None,
            self.trg_vision.select(rows) if self.trg_vision is not None else None,
        )


class Prompt(nn.Module, ABC):
    """A prompt, learned or not.

    Symbols: `B` rows of the batch, `L` tokens (77), `D` token width.

    Attributes:
        scope: what the prompt depends on.
        needs_vision: whether batches must carry `vision` (and, in scope pair, `trg_vision`).
    """

    scope: Scope
    needs_vision: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it mixes; none where the profile's own layer is read."""
        return ()

    def mix(self, maps: list[Tensor]) -> list[Tensor]:
        """Return what is matched of the maps (B, C_k, h_k, w_k) that were read: here, as they are."""
        return maps

    @classmethod
    def from_profile(cls, profile: Profile) -> Self:
        """Make the prompt that `--prompt NAME` means; prompts with weights of their own load them here.

        Raises:
            UserError: the weights are missing or damaged.
        """
        return cls()

    @staticmethod
    def from_pretrained(source: Path | str, *, revision: str | None = None) -> LearnedPrompt:
        """Load a learned prompt from a folder, a file or the hub; see `hub.from_pretrained`."""
        from sd4match_lib.prompts.hub import from_pretrained

        return from_pretrained(source, revision=revision)

    @abstractmethod
    def tokens(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the assembled token embeddings (B, L, D) that go into the encoder's text model."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return plain data that says exactly which prompt this is, hashes of learned weights included.

        The code of a class of one's own need not be in it; `fingerprint` adds it.
        """

    def fingerprint(self) -> dict[str, Any]:
        """Return the identity, and for a class written outside this library a hash of its code.

        What was computed under a prompt is found again by this: a class of one's own may say other words
        tomorrow under the same identity.
        """
        code = code_hash(type(self))
        return {**self.identity(), "code": code} if code else self.identity()

    def cache_keys(self, batch: PromptBatch) -> list[str]:
        """Return one key per row; rows with equal keys have the same prompt."""
        match self.scope:
            case Scope.DATASET:
                return [""] * len(batch)
            case Scope.IMAGE:
                return list(batch.image_ids)
            case Scope.PAIR:
                return [
                    f"{src}\n{trg}" for src, trg in zip(batch.image_ids, batch.trg_image_ids, strict=True)
                ]

    def context(self, batch: PromptBatch, encoder: TextEncoder) -> Tensor:
        """Return the cross-attention input (B, L, D), encoding each distinct prompt of the batch once."""
        keys = self.cache_keys(batch)
        distinct = list(dict.fromkeys(keys))
        firsts = batch.select([keys.index(key) for key in distinct])
        contexts = encoder.encode_tokens(self.tokens(firsts, encoder))
        return take_rows(contexts, [distinct.index(key) for key in keys])


def take_rows(values: Tensor, places: Sequence[int]) -> Tensor:
    """Return rows of a tensor, some perhaps several times, with gradients that are the same in every run.

    Indexing with a list gives the same rows, but on several threads (and on a GPU) its way back adds up the
    gradients of a repeated row in any order, and a training then ends with another prompt each time.

    Args:
        values: (K, ...).
        places: `B` numbers from 0 to K - 1.

    Returns:
        (B, ...).
    """
    rows = values.unbind()
    return torch.stack([rows[place] for place in places])
