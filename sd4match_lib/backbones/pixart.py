"""PixArt (Chen et al., alpha and Sigma): a diffusion transformer, to which nothing like an up block belongs.

Text is T5's: no start token, the learned rows, the end token, and a padding that attention does not see. T5
has no position embeddings, so that the padding is known by its embedding alone. The context holds T5's
answer and, in one column more, which positions are seen.

Layers are "transformer_blocks.<k>", what block k puts out, and "transformer_blocks.<k>.modulated": what its
self-attention is fed, normalised and modulated by the step (AdaLN). The raw outputs of diffusion transformers
have a few channels of huge values that say little of a place; the modulated ones are what Gan et al. (DiTF,
2025) match with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import DiffusionBackbone, TextEncoder
from sd4match_lib.backbones.capture import capture
from sd4match_lib.backbones.loading import (
    config_levels,
    config_number,
    importing,
    load_part,
    quiet_loading,
)
from sd4match_lib.errors import UserError
from sd4match_lib.geometry import HW

LENGTH = 120
"""T5's positions that PixArt-alpha was trained with. Sigma's 300 add padding alone, which is not seen."""

_BLOCKS, _MODULATED = "transformer_blocks.", ".modulated"


class T5TextEncoder(TextEncoder):
    """A frozen T5 encoder and its tokenizer; see `TextEncoder`."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Freeze a stock `T5EncoderModel`."""
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.length = LENGTH
        self.width = self.model.config.d_model
        self.most_rows = LENGTH - 1
        self.vocabulary_size = self.model.config.vocab_size

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.model.dtype

    def to(self, device: torch.device | str) -> None:
        """Move the model; contexts that were made elsewhere are forgotten."""
        self.model.to(device)
        self._contexts.clear()

    def token_ids(self, strings: Sequence[str]) -> Tensor:
        """Tokenise to words, end, padding; see `TextEncoder.token_ids`."""
        encoded = self.tokenizer(
            list(strings), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        return encoded["input_ids"].to(self.device)

    def random_ids(self, generator: torch.Generator) -> Tensor:
        """Draw words up to the end token; see `TextEncoder.random_ids`."""
        ids = torch.randint(self.vocabulary_size, (1, LENGTH), generator=generator).to(self.device)
        ids[:, -1] = self.tokenizer.eos_token_id
        return ids

    def embed_ids(self, token_ids: Tensor) -> Tensor:
        """Return the words' embeddings; T5 adds no positions. See `TextEncoder.embed_ids`."""
        with torch.no_grad():
            embeds: Tensor = self.model.get_input_embeddings()(token_ids)
        return embeds

    def assemble(self, learned: Tensor) -> Tensor:
        """Put learned rows first, then the end token, then padding; see `TextEncoder.assemble`."""
        rows, width = learned.shape[-2:]
        if rows > self.most_rows:
            raise UserError(
                f"prompt length {rows} does not fit: the text model has {LENGTH} positions, of which the end "
                f"token takes one; use at most {self.most_rows}."
            )
        if width != self.width:
            raise UserError(
                f"the prompt is {width} wide and this text model {self.width}; it was made for another model."
            )
        ids = torch.full(
            (1, LENGTH - rows), self.tokenizer.pad_token_id, dtype=torch.long, device=self.device
        )
        ids[:, 0] = self.tokenizer.eos_token_id
        fixed = self.embed_ids(ids).to(learned).expand(len(learned), -1, -1)
        return torch.cat([learned, fixed], 1)

    def encode_tokens(self, token_embeds: Tensor) -> Tensor:
        """Run T5 on token embeddings.

        Args:
            token_embeds: (B, L, D); gradients flow back to it.

        Returns:
            (B, L, D + 1): T5's answer, and 1 where a position is seen, 0 for padding.

        Raises:
            UserError: the shape is not (B, L, D) of this text model.
        """
        if token_embeds.shape[1:] != (LENGTH, self.width):
            raise UserError(
                f"token embeddings are {tuple(token_embeds.shape)}, this text model needs "
                f"(batch, {LENGTH}, {self.width}); they were made for another model."
            )
        embeds = token_embeds.to(self.device, self.dtype)
        padding = self.embed_ids(torch.tensor([[self.tokenizer.pad_token_id]], device=self.device))
        seen = (embeds.detach() != padding).any(2)
        hidden = self.model(inputs_embeds=embeds, attention_mask=seen.long()).last_hidden_state
        return torch.cat([hidden, seen.to(hidden)[..., None]], 2)


class PixArt(DiffusionBackbone):
    """A frozen PixArt model; see `DiffusionBackbone`, and above for its layers."""

    files = (
        "transformer/diffusion_pytorch_model.safetensors",
        "transformer/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        # T5-XXL comes in two parts and a list of what lies where.
        "text_encoder/model.safetensors|text_encoder/model.safetensors.index.json",
        "text_encoder/model.safetensors|text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model.safetensors|text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/tokenizer.json|tokenizer/spiece.model",
        "scheduler/scheduler_config.json",
    )
    weights_file = "transformer/diffusion_pytorch_model.safetensors"
    encoder_files = ("vae/diffusion_pytorch_model.safetensors", "vae/config.json")

    def __init__(self, transformer: Any, vae: Any, text: T5TextEncoder, scheduler: Any) -> None:
        """Freeze stock diffusers modules."""
        self.transformer: Any = transformer.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False)
        self.text = text
        self.scheduler: Any = scheduler

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        layers: Sequence[str],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a model in diffusers layout, less what lies behind the last layer."""
        with importing("diffusers"):
            from diffusers import AutoencoderKL, DDIMScheduler, PixArtTransformer2DModel

        with quiet_loading():
            transformer = load_part(PixArtTransformer2DModel, folder, "transformer", dtype=dtype)
            vae = load_part(AutoencoderKL, folder, "vae", dtype=dtype)
            scheduler = load_part(DDIMScheduler, folder, "scheduler")
        blocks = transformer.transformer_blocks
        last = max((_block(layer, len(blocks)) for layer in layers), default=0)
        transformer.transformer_blocks = blocks[: last + 1]
        vae.decoder = nn.Identity()
        return cls(
            transformer.to(device),
            vae.to(device),
            cls.load_text(folder, dtype=dtype, device=device),
            scheduler,
        )

    @classmethod
    def load_text(
        cls, folder: Path | str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> T5TextEncoder:
        """Load `text_encoder/` and `tokenizer/`; see `DiffusionBackbone.load_text`."""
        from transformers import AutoTokenizer, T5EncoderModel

        with quiet_loading():
            model = load_part(T5EncoderModel, folder, "text_encoder", dtype=dtype)
            tokenizer = load_part(AutoTokenizer, folder, "tokenizer")
        return T5TextEncoder(model.to(device), tokenizer)

    @classmethod
    def token_width(cls, folder: Path) -> int:
        """See `DiffusionBackbone.token_width`."""
        return config_number(folder / "text_encoder/config.json", "d_model")

    @classmethod
    def grid_hw(cls, folder: Path, *, image_hw: HW, layer: str) -> HW:
        """Every layer has one token a patch of the latents; see `DiffusionBackbone.grid_hw`."""
        path = folder / "transformer/config.json"
        _block(layer, config_number(path, "num_layers"))
        side = 2 ** (config_levels(folder / "vae/config.json") - 1) * config_number(path, "patch_size")
        return image_hw[0] // side, image_hw[1] // side

    @property
    def device(self) -> torch.device:
        """Where the transformer lies."""
        return self.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer computes in."""
        return self.transformer.dtype

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """See `DiffusionBackbone.add_noise`."""
        noisy: Tensor = self.scheduler.add_noise(
            clean, noise, torch.full((len(clean),), timestep, dtype=torch.long)
        )
        return noisy

    def read_layers(
        self, noisy: Tensor, timestep: int, context: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """See `DiffusionBackbone.read_layers`.

        Raises:
            UserError: a layer was not asked for when the model was loaded.
        """
        blocks = self.transformer.transformer_blocks
        for layer in layers:
            _block(layer, len(blocks))
        names = {layer: layer.replace(_MODULATED, ".attn1") for layer in layers}
        steps = torch.full((len(noisy),), timestep, dtype=torch.long, device=noisy.device)
        fed = [name for layer, name in names.items() if layer.endswith(_MODULATED)]
        with capture(self.transformer, list(names.values()), inputs=fed) as outputs:
            self.transformer(
                noisy,
                encoder_hidden_states=context[..., :-1],
                encoder_attention_mask=context[..., -1],
                timestep=steps,
                added_cond_kwargs=self._sizes(noisy),
            )
        side = self.transformer.config.patch_size
        grid = noisy.shape[-2] // side, noisy.shape[-1] // side
        return [outputs[names[layer]].transpose(1, 2).unflatten(2, grid) for layer in layers]

    @contextmanager
    def learning(self, *, checkpoint_activations: bool) -> Iterator[None]:
        """See `DiffusionBackbone.learning`."""
        if checkpoint_activations:
            self.transformer.enable_gradient_checkpointing()
        try:
            yield
        finally:
            if checkpoint_activations:
                self.transformer.disable_gradient_checkpointing()

    def _sizes(self, noisy: Tensor) -> dict[str, Tensor | None]:
        """The picture's size in pixels and its shape, for the models that were trained to be told them."""
        if not self.transformer.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        height, width = (side * factor for side in noisy.shape[-2:])
        size = torch.tensor([[height, width]], device=noisy.device, dtype=noisy.dtype)
        shape = torch.tensor([[height / width]], device=noisy.device, dtype=noisy.dtype)
        return {"resolution": size.expand(len(noisy), -1), "aspect_ratio": shape.expand(len(noisy), -1)}


def _block(layer: str, blocks: int) -> int:
    """The index of the block that a layer's name means."""
    number = layer.removesuffix(_MODULATED).removeprefix(_BLOCKS)
    if not layer.startswith(_BLOCKS) or not number.isdecimal() or int(number) >= blocks:
        raise UserError(
            f"features.layer is {layer!r}, but this transformer has {_BLOCKS}0 to {_BLOCKS}{blocks - 1}, "
            f"each also with {_MODULATED} behind; name one of these."
        )
    return int(number)
