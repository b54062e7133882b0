"""CLIP's text model: strings to token embeddings, token embeddings to the UNet's context.

A learned prompt stands in for rows of the embedding layer's output, positions included, and passes through
the rest of the text model like any word (Sec. 3.2 of the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.errors import UserError

FILL_TOKEN_ID = 0
"""The token id of the rows behind the end token of a learned prompt (released configuration)."""


def inner_text_model(model: Any) -> Any:
    """Return the module that owns `embeddings`: `model.text_model` up to transformers 4, later the model."""
    return getattr(model, "text_model", model)


class ClipTextEncoder(TextEncoder):
    """A frozen CLIP text model and its tokenizer; see `TextEncoder`.

    Attributes:
        model: the text model, without gradients of its own.
        tokenizer: its tokenizer.
        embeddings: its embedding layer.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[..., Any]) -> None:
        """Freeze `model` (a stock `CLIPTextModel`) and pair it with its `CLIPTokenizer`."""
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.embeddings: Any = inner_text_model(model).embeddings
        self.length = self.embeddings.position_embedding.num_embeddings
        self.width = self.embeddings.token_embedding.embedding_dim
        self.most_rows = self.length - 2
        self.vocabulary_size = self.embeddings.token_embedding.num_embeddings

    @property
    def device(self) -> torch.device:
        """Where the text model lies."""
        return self.embeddings.token_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the text model computes in."""
        return self.embeddings.token_embedding.weight.dtype

    def to(self, device: torch.device | str) -> None:
        """Move the text model; contexts that were made elsewhere are forgotten."""
        self.model.to(device)
        self._contexts.clear()

    def token_ids(self, strings: Sequence[str]) -> Tensor:
        """Tokenise to exactly `L` ids: start, words, end, then the tokenizer's own padding; too long is cut.

        Args:
            strings: `B` prompts.

        Returns:
            (B, L) int64 on the text model's device.
        """
        encoded = self.tokenizer(
            list(strings), padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        return encoded["input_ids"].to(self.device)

    def embed_ids(self, token_ids: Tensor) -> Tensor:
        """Return what the embedding layer makes of (B, L) ids: token plus position embeddings, (B, L, D)."""
        with torch.no_grad():
            return self.embeddings(input_ids=token_ids)

    def random_ids(self, generator: torch.Generator) -> Tensor:
        """Draw words between the start and the end token; see `TextEncoder.random_ids`."""
        ids = torch.randint(self.vocabulary_size, (1, self.length), generator=generator).to(self.device)
        ids[:, 0], ids[:, -1] = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return ids

    def assemble(self, learned: Tensor) -> Tensor:
        """Put learned rows between the start and the end token.

        Row 0 is the start token, rows 1..P are `learned` as they are (no position embedding is added), row P
        + 1 is the end token, and the rest token id 0; every fixed row carries the position embedding of its
        own row.

        Args:
            learned: (B, P, D); gradients flow back to it.

        Returns:
            (B, L, D) in `learned`'s dtype.

        Raises:
            UserError: the prompt has more than L - 2 rows or another width than the text model.
        """
        rows, width = learned.shape[-2:]
        if rows > self.length - 2:
            raise UserError(
                f"prompt length {rows} does not fit: the text model has {self.length} positions, of which "
                f"the start and the end token take two; use at most {self.length - 2}."
            )
        if width != self.width:
            raise UserError(
                f"the prompt is {width} wide and this text model {self.width}; it was made for another model."
            )
        ids = torch.full((1, self.length), FILL_TOKEN_ID, dtype=torch.long, device=self.device)
        ids[:, 0] = self.tokenizer.bos_token_id
        ids[:, rows + 1] = self.tokenizer.eos_token_id
        fixed = self.embed_ids(ids).to(learned).expand(len(learned), -1, -1)
        return torch.cat([fixed[:, :1], learned, fixed[:, rows + 1 :]], dim=1)

    def encode_tokens(self, token_embeds: Tensor) -> Tensor:
        """Run the text model on token embeddings.

        They replace the output of the embedding layer through a hook, so that everything behind it, the
        causal mask above all, is the library's own. The final layer norm is applied. SD2's convention to read
        the layer before the last needs nothing here: its checkpoint simply has one layer less.

        Args:
            token_embeds: (B, L, D), positions included; gradients flow back to it.

        Returns:
            The context (B, L, D) for the UNet's cross-attention, in the text model's dtype.

        Raises:
            UserError: the shape is not (B, L, D) of this text model.
        """
        if token_embeds.shape[1:] != (self.length, self.width):
            raise UserError(
                f"token embeddings are {tuple(token_embeds.shape)}, this text model needs "
                f"(batch, {self.length}, {self.width}); they were made for another model."
            )
        # The ids only give the shape: their embeddings are replaced.
        ids = torch.zeros(token_embeds.shape[:2], dtype=torch.long, device=self.device)
        hidden: Tensor = self.run(token_embeds, ids).last_hidden_state
        return hidden

    def run(self, token_embeds: Tensor, token_ids: Tensor, **options: Any) -> Any:
        """Run the stock model on token embeddings (B, L, D) in place of those of `token_ids` (B, L).

        Returns:
            The stock model's own answer to `options`; gradients flow back to the embeddings.
        """
        replacement = token_embeds.to(device=self.device, dtype=self.dtype)

        def replace(_module: nn.Module, _inputs: Any, _output: Tensor) -> Tensor:
            return replacement

        handle = self.embeddings.register_forward_hook(replace)
        try:
            return self.model(input_ids=token_ids, **options)
        finally:
            handle.remove()
