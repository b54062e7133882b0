"""PixArt (Chen et al., alpha and Sigma): a diffusion transformer, to which nothing like an up block belongs.

Text is T5's: no start token, the learned rows, the end token, and a padding that attention does not see. T5
has no position embeddings, so that the padding is known by its embedding alone. The context holds T5's
answer and, in one column more, which positions are seen.

Layers are "transformer_blocks.<k>", what block k puts out, and "transformer_blocks.<k>.modulated": what its
self-attention is fed, normalised and modulated by the step (AdaLN). The raw outputs of diffusion transformers
have a few channels of huge values that say little of a place; the modulated ones are what Gan et al. (DiTF,
2025) match with.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.capture import capture
from sd4match_lib.backbones.latent_diffusion import SHARED_FILES, LatentDiffusion, StockTextEncoder
from sd4match_lib.backbones.loading import config_levels, config_number
from sd4match_lib.errors import NoLayerError
from sd4match_lib.geometry import HW

LENGTH = 120
"""T5's positions that PixArt-alpha was trained with. Sigma's 300 add padding alone, which is not seen."""

_BLOCKS, _MODULATED = "transformer_blocks.", ".modulated"


class T5TextEncoder(StockTextEncoder):
    """A frozen T5 encoder and its tokenizer; see `StockTextEncoder`."""

    starts = 0

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Freeze a stock `T5EncoderModel`."""
        words = model.get_input_embeddings()
        super().__init__(model, tokenizer, words, length=LENGTH, fill_id=tokenizer.pad_token_id)

    def embed_ids(self, token_ids: Tensor) -> Tensor:
        """Return the words' embeddings; T5 adds no positions. See `TextEncoder.embed_ids`."""
        with torch.no_grad():
            embeds: Tensor = self.words(token_ids)
        return embeds

    def positions(self, rows: int) -> Tensor:
        """There are none; see `TextEncoder.positions`."""
        return self.words.weight.new_zeros(rows, self.width)

    def encode_tokens(self, token_embeds: Tensor) -> Tensor:
        """Run T5 on token embeddings.

        Args:
            token_embeds: (B, L, D); gradients flow back to it.

        Returns:
            (B, L, D + 1): T5's answer, and 1 where a position is seen, 0 for padding.

        Raises:
            UserError: the shape is not (B, L, D) of this text model.
        """
        self.check_shape(token_embeds)
        embeds = token_embeds.to(self.device, self.dtype)
        seen = (embeds.detach() != self.words.weight[self.fill_id]).any(2)
        hidden = self.model(inputs_embeds=embeds, attention_mask=seen.long()).last_hidden_state
        return torch.cat([hidden, seen.to(hidden)[..., None]], 2)


class PixArt(LatentDiffusion):
    """A frozen PixArt model; see `DiffusionBackbone`, and above for its layers."""

    part, denoiser_kind = "transformer", "PixArtTransformer2DModel"
    text_kinds, tokenizer_kind, width_name = ("T5EncoderModel",), "AutoTokenizer", "d_model"
    context_name = "caption_channels"
    files = (
        *SHARED_FILES,
        "transformer/diffusion_pytorch_model.safetensors",
        "transformer/config.json",
        # T5-XXL comes in two parts and a list of what lies where.
        "text_encoder/model.safetensors|text_encoder/model.safetensors.index.json",
        "text_encoder/model.safetensors|text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model.safetensors|text_encoder/model-00002-of-00002.safetensors",
        "tokenizer/tokenizer.json|tokenizer/spiece.model",
    )
    weights_file = "transformer/diffusion_pytorch_model.safetensors"

    @classmethod
    def cut(cls, denoiser: Any, layers: Sequence[str], where: Path) -> None:
        """End the transformer with the last of the blocks; see `LatentDiffusion.cut`."""
        blocks = denoiser.transformer_blocks
        last = max((_block(layer, len(blocks)) for layer in layers), default=0)
        denoiser.transformer_blocks = blocks[: last + 1]

    @classmethod
    def text_of(cls, *loaded: tuple[Any, Any]) -> TextEncoder:
        """One T5; see `LatentDiffusion.text_of`."""
        return T5TextEncoder(*loaded[0])

    @classmethod
    def grid_hw(cls, folder: Path, *, image_hw: HW, layer: str) -> HW:
        """Every layer has one token a patch of the latents; see `DiffusionBackbone.grid_hw`."""
        path = folder / "transformer/config.json"
        _block(layer, config_number(path, "num_layers"))
        side = 2 ** (config_levels(folder / "vae/config.json") - 1) * config_number(path, "patch_size")
        return image_hw[0] // side, image_hw[1] // side

    def read_layers(
        self, noisy: Tensor, timestep: int, context: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """See `DiffusionBackbone.read_layers`.

        Raises:
            UserError: a layer was not asked for when the model was loaded.
        """
        blocks = self.denoiser.transformer_blocks
        for layer in layers:
            _block(layer, len(blocks))
        names = {layer: layer.replace(_MODULATED, ".attn1") for layer in layers}
        steps = torch.full((len(noisy),), timestep, dtype=torch.long, device=noisy.device)
        fed = [name for layer, name in names.items() if layer.endswith(_MODULATED)]
        with capture(self.denoiser, list(names.values()), inputs=fed) as outputs:
            self.denoiser(
                noisy,
                encoder_hidden_states=context[..., :-1],
                encoder_attention_mask=context[..., -1],
                timestep=steps,
                added_cond_kwargs=self._sizes(noisy),
            )
        side = self.denoiser.config.patch_size
        grid = noisy.shape[-2] // side, noisy.shape[-1] // side
        return [outputs[names[layer]].transpose(1, 2).unflatten(2, grid) for layer in layers]

    def _sizes(self, noisy: Tensor) -> dict[str, Tensor | None]:
        """The picture's size in pixels and its shape, for the models that were trained to be told them."""
        if not self.denoiser.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        height, width = (side * self.factor for side in noisy.shape[-2:])
        size = torch.tensor([[height, width]], device=noisy.device, dtype=noisy.dtype)
        shape = torch.tensor([[height / width]], device=noisy.device, dtype=noisy.dtype)
        return {"resolution": size.expand(len(noisy), -1), "aspect_ratio": shape.expand(len(noisy), -1)}


def _block(layer: str, blocks: int) -> int:
    """The index of the block that a layer's name means."""
    number = layer.removesuffix(_MODULATED).removeprefix(_BLOCKS)
    digits = number.isascii() and number.isdecimal()
    if not layer.startswith(_BLOCKS) or not digits or int(number) >= blocks:
        raise NoLayerError(
            f"there is no layer {layer!r}: this transformer has {_BLOCKS}0 to {_BLOCKS}{blocks - 1}, "
            f"each also with {_MODULATED} behind; name one of these."
        )
    return int(number)
