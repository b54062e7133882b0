"""CLIP's text model: strings to token embeddings, token embeddings to the UNet's context.

A learned prompt stands in for rows of the embedding layer's output, positions included, and passes through
the rest of the text model like any word (Sec. 3.2 of the paper).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.latent_diffusion import StockTextEncoder

FILL_TOKEN_ID = 0
"""The token id of the rows behind the end token of a learned prompt (released configuration)."""


def inner_text_model(model: Any) -> Any:
    """Return the module that owns `embeddings`: `model.text_model` up to transformers 4, later the model."""
    return getattr(model, "text_model", model)


class ClipTextEncoder(StockTextEncoder):
    """A frozen CLIP text model, its embedding layer (words and positions) and its tokenizer."""

    starts = 1

    def __init__(self, model: nn.Module, tokenizer: Callable[..., Any]) -> None:
        """Freeze `model` (a stock `CLIPTextModel`) and pair it with its `CLIPTokenizer`."""
        self.embeddings: Any = inner_text_model(model).embeddings
        words, places = self.embeddings.token_embedding, self.embeddings.position_embedding
        super().__init__(model, tokenizer, words, length=places.num_embeddings, fill_id=FILL_TOKEN_ID)

    def embed_ids(self, token_ids: Tensor) -> Tensor:
        """Return token plus position embeddings; see `TextEncoder.embed_ids`."""
        with torch.no_grad():
            return self.embeddings(input_ids=token_ids)

    def positions(self, rows: int) -> Tensor:
        """Return the position embeddings behind the start token; see `TextEncoder.positions`."""
        found: Tensor = self.embeddings.position_embedding.weight[1 : rows + 1]
        return found

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
        self.check_shape(token_embeds)
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
