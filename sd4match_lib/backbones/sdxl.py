"""Stable Diffusion XL: two text encoders, a pooled description and the picture's size beside the context.

A learned row is as wide as both encoders' embeddings together; each encoder gets its part. The context holds,
for every position, what both make of it (the layer before the last, without its norm, as SDXL reads them),
and as one row more the pooled description of the second encoder, zeros behind it.

The size that the UNet is told is the network input's own, uncropped, in place of the original picture's:
pictures are stretched to it before anything looks at them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.errors import UserError


class SdxlTextEncoder(TextEncoder):
    """SDXL's two text encoders as one whose rows are as wide as both; see `TextEncoder`.

    The second, OpenCLIP ViT-bigG, also describes the whole text. Token ids are (B, L, 2) here: the two
    tokenizers fill up with different tokens.
    """

    def __init__(self, first: ClipTextEncoder, second: ClipTextEncoder) -> None:
        """Join two encoders of the same length and vocabulary."""
        super().__init__()
        self.first, self.second = first, second
        self.length = first.length
        self.width = first.width + second.width
        self.starts, self.most_rows = first.starts, first.most_rows

    @property
    def device(self) -> torch.device:
        """Where both lie."""
        return self.first.device

    @property
    def dtype(self) -> torch.dtype:
        """What both compute in."""
        return self.first.dtype

    def token_ids(self, strings: Sequence[str]) -> Tensor:
        """Tokenise to (B, L, 2) ids; see `TextEncoder.token_ids`."""
        return torch.stack([self.first.token_ids(strings), self.second.token_ids(strings)], -1)

    def random_ids(self, generator: torch.Generator) -> Tensor:
        """Draw the same words for both; see `TextEncoder.random_ids`."""
        return self.first.random_ids(generator)[..., None].expand(-1, -1, 2)

    def embed_ids(self, token_ids: Tensor) -> Tensor:
        """Return both embeddings side by side; see `TextEncoder.embed_ids`."""
        parts = self.first.embed_ids(token_ids[..., 0]), self.second.embed_ids(token_ids[..., 1])
        return torch.cat(parts, -1)

    def vocabulary(self) -> tuple[list[str], Tensor]:
        """Return both embeddings of each word side by side; see `TextEncoder.vocabulary`."""
        (words, first), (_, second) = self.first.vocabulary(), self.second.vocabulary()
        return words, torch.cat([first, second], -1)

    def positions(self, rows: int) -> Tensor:
        """Return both encoders' side by side; see `TextEncoder.positions`."""
        return torch.cat([self.first.positions(rows), self.second.positions(rows)], -1)

    def assemble(self, learned: Tensor) -> Tensor:
        """Put learned rows between both encoders' fixed tokens; see `TextEncoder.assemble`."""
        if learned.shape[-1] != self.width:
            raise UserError(
                f"the prompt is {learned.shape[-1]} wide and this model's two text encoders together "
                f"{self.width}; it was made for another model."
            )
        first, second = learned.split([self.first.width, self.second.width], -1)
        return torch.cat([self.first.assemble(first), self.second.assemble(second)], -1)

    def encode_tokens(self, token_embeds: Tensor) -> Tensor:
        """Run both encoders.

        Args:
            token_embeds: (B, L, D).

        Returns:
            (B, L + 1, D): both hidden states side by side, and in the last row the pooled description.

        Raises:
            UserError: the shape is not this model's.
        """
        self.check_shape(token_embeds)
        first, second = token_embeds.split([self.first.width, self.second.width], -1)
        ids = _ids_with_end(second, self.second)
        pairs = (self.first, first), (self.second, second)
        answers = [encoder.run(rows, ids, output_hidden_states=True) for encoder, rows in pairs]
        hidden = torch.cat([answer.hidden_states[-2] for answer in answers], -1)
        pooled = answers[1].text_embeds
        return torch.cat([hidden, pad(pooled, (0, self.width - pooled.shape[-1]))[:, None]], 1)


class StableDiffusionXL(StableDiffusion):
    """A frozen SDXL, read at its decoder: layers "up_blocks.0" to "up_blocks.2"."""

    told = "text_time"
    text_kinds = ("CLIPTextModel", "CLIPTextModelWithProjection")
    files = (
        *StableDiffusion.files,
        "text_encoder_2/model.safetensors",
        "text_encoder_2/config.json",
        "tokenizer_2/tokenizer_config.json",
        "tokenizer_2/vocab.json|tokenizer_2/tokenizer.json",
    )

    def __init__(self, *parts: Any) -> None:
        """Keep the VAE in float32 where its configuration says that half precision overflows."""
        super().__init__(*parts)
        if self.dtype == torch.float16 and self.vae.config.force_upcast:
            self.vae = self.vae.float()

    @classmethod
    def text_of(cls, *loaded: tuple[Any, Any]) -> TextEncoder:
        """Two CLIPs; see `LatentDiffusion.text_of`."""
        return SdxlTextEncoder(*(ClipTextEncoder(*parts) for parts in loaded))

    def conditions(self, noisy: Tensor, context: Tensor) -> dict[str, Any]:
        """Unpack the context, and say the picture's size; see `StableDiffusion.conditions`.

        Raises:
            UserError: the context has no pooled description: a prompt that was learned behind the text
                encoders fills all positions.
        """
        length = self.text.length
        if context.shape[1] != length + 1:
            raise UserError(
                f"SDXL needs {length} rows and a pooled description, not {context.shape[1]} rows: learn the "
                "prompt in the space 'tokens', or shorter."
            )
        size = [side * self.factor for side in noisy.shape[-2:]]
        # Original size, the crop's corner, target size: (height, width) each.
        time_ids = torch.tensor([*size, 0, 0, *size], device=noisy.device, dtype=noisy.dtype)
        config = self.denoiser.config
        width = config.projection_class_embeddings_input_dim - len(time_ids) * config.addition_time_embed_dim
        pooled = context[:, length, :width]
        return {
            "encoder_hidden_states": context[:, :length],
            "added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids.expand(len(noisy), -1)},
        }


def _ids_with_end(token_embeds: Tensor, encoder: ClipTextEncoder) -> Tensor:
    """Token ids (B, L) that say where each row's text ends; what stands elsewhere does not matter.

    It ends at the first row that is the end token's own embedding in its place. Learned rows are not, so that
    assembled prompts and strings are read alike.
    """
    end: int = encoder.tokenizer.eos_token_id
    ids = torch.full((1, encoder.length), end, dtype=torch.long, device=encoder.device)
    gap = (token_embeds.to(encoder.device, torch.float32) - encoder.embed_ids(ids).float()).abs().amax(2)
    # The first of several equal minima: tokenizers may fill up with the end token.
    place = (gap == gap.amin(1, keepdim=True)).int().argmax(1)
    found = torch.zeros(token_embeds.shape[:2], dtype=torch.long, device=encoder.device)
    found[torch.arange(len(found)), place] = end
    return found
