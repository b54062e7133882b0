"""Stable Diffusion 1 and 2 as a feature extractor: one denoising step, read inside the UNet's decoder.

Stock diffusers modules, less what lies behind the last wanted up block; forward hooks read the wanted ones.
All randomness belongs to the image (seed, image id, ensemble member) and is drawn on the CPU in float32, so
that a feature does not depend on its batch, on the order, or on the device (up to the rounding of its
arithmetic).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.base import DiffusionBackbone
from sd4match_lib.backbones.capture import capture
from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.cut import cut_unet, is_cut
from sd4match_lib.backbones.fast import MOST_ROWS, FastPass
from sd4match_lib.backbones.loading import (
    config_levels,
    config_number,
    importing,
    load_part,
    quiet_loading,
)
from sd4match_lib.errors import UserError
from sd4match_lib.geometry import HW

_SMALL = 32  # cells a side


class StableDiffusion(DiffusionBackbone):
    """A frozen Stable Diffusion model, read at its decoder; layers are "up_blocks.0", "up_blocks.1", ..."""

    files: ClassVar[tuple[str, ...]] = (
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        # Without either, the tokenizer would load all the same, knowing no word.
        "tokenizer/vocab.json|tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    )
    weights_file = "unet/diffusion_pytorch_model.safetensors"
    told: ClassVar[str | None] = None
    """What the UNet is told beside the context, by its configuration's `addition_embed_type`."""
    encoder_files = ("vae/diffusion_pytorch_model.safetensors", "vae/config.json")

    def __init__(self, unet: Any, vae: Any, text: ClipTextEncoder, scheduler: Any) -> None:
        """Freeze stock diffusers modules."""
        self.unet: Any = unet.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False)
        self.text = text
        self.scheduler: Any = scheduler
        self._fast: FastPass | None = None

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        layers: Sequence[str],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a model in diffusers layout, less the VAE's decoder; see `DiffusionBackbone.from_folder`."""
        with importing("diffusers"):
            from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

        with quiet_loading():
            unet = load_part(UNet2DConditionModel, folder, "unet", dtype=dtype)
            vae = load_part(AutoencoderKL, folder, "vae", dtype=dtype)
            # `add_noise` only knows the betas, which every scheduler class reads alike from the model's own
            # file.
            scheduler = load_part(DDIMScheduler, folder, "scheduler")
        told = {name: unet.config[name] for name in ("addition_embed_type", "class_embed_type")}
        if told != {"addition_embed_type": cls.told, "class_embed_type": None}:
            raise UserError(
                f"{Path(folder) / 'unet'} is a UNet that is told {told}: it is of another family of models; "
                "correct model.backbone in the profile."
            )
        last = max((block_index(layer, len(unet.up_blocks)) for layer in layers), default=0)
        cut_unet(unet, last)
        vae.decoder = nn.Identity()
        text = cls.load_text(folder, dtype=dtype, device=device)
        return cls(unet.to(device), vae.to(device), text, scheduler)

    @classmethod
    def load_text(
        cls, folder: Path | str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> ClipTextEncoder:
        """Load `text_encoder/` and `tokenizer/`; see `DiffusionBackbone.load_text`."""
        from transformers import CLIPTextModel, CLIPTokenizer

        with quiet_loading():
            model = load_part(CLIPTextModel, folder, "text_encoder", dtype=dtype)
            tokenizer = load_part(CLIPTokenizer, folder, "tokenizer")
        return ClipTextEncoder(model.to(device), tokenizer)

    @classmethod
    def token_width(cls, folder: Path) -> int:
        """See `DiffusionBackbone.token_width`."""
        return config_number(folder / "text_encoder/config.json", "hidden_size")

    @classmethod
    def grid_hw(cls, folder: Path, *, image_hw: HW, layer: str) -> HW:
        """Every up block but the last doubles the grid; see `DiffusionBackbone.grid_hw`."""
        vae_levels, levels = (config_levels(folder / part / "config.json") for part in ("vae", "unet"))
        block = block_index(layer, levels)
        latent = [side // 2 ** (vae_levels - 1) for side in image_hw]
        halvings = levels - 1 - min(block + 1, levels - 1)
        height, width = (-(-side // 2**halvings) for side in latent)
        return height, width

    @property
    def device(self) -> torch.device:
        """Where the UNet lies."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes in."""
        return self.unet.dtype

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """See `DiffusionBackbone.add_noise`."""
        steps = torch.full((len(clean),), timestep, dtype=torch.long)
        noisy: Tensor = self.scheduler.add_noise(clean, noise, steps)
        return noisy

    def read_layers(
        self, noisy: Tensor, timestep: int, context: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """See `DiffusionBackbone.read_layers`.

        Raises:
            UserError: a layer was not asked for when the model was loaded.
        """
        for layer in layers:
            if is_cut(self.unet.get_submodule(layer)):
                raise UserError(f"{layer} was cut off; load the model with it among the layers.")
        # Made there: a number would be copied to the device, and the program would wait for that.
        step = torch.full((), timestep, dtype=torch.long, device=noisy.device)
        conditions = self.conditions(noisy, context)
        if self._fast is not None:
            found = dict(zip(self._fast.layers, self._fast(noisy, step, conditions), strict=True))
            return [found[layer] for layer in layers]
        with capture(self.unet, layers) as outputs:
            self.unet(noisy, step, **conditions)
        return [outputs[layer] for layer in layers]

    def conditions(self, noisy: Tensor, context: Tensor) -> dict[str, Any]:
        """Return what the UNet is told beside latents and step: the context, as its own keyword."""
        return {"encoder_hidden_states": context}

    def make_fast(self, layers: Sequence[str]) -> None:
        """See `DiffusionBackbone.make_fast`."""
        self._fast = FastPass(self.unet, layers)

    @property
    def warm_up_s(self) -> float:
        """See `DiffusionBackbone.warm_up_s`."""
        return self._fast.warm_up_s if self._fast else 0.0

    def portion(self, images: int, ensemble: int) -> tuple[int, int]:
        """See `DiffusionBackbone.portion`; a training's passes are its own size."""
        if self._fast is None or torch.is_grad_enabled():
            return super().portion(images, ensemble)
        return self._fast.portion(images, ensemble, self.most_rows or MOST_ROWS)

    @contextmanager
    def learning(self, *, checkpoint_activations: bool) -> Iterator[None]:
        """Plain attention on a CPU, and checkpoints where asked for; see `DiffusionBackbone.learning`."""
        from diffusers.models.attention_processor import AttnProcessor

        before = self.unet.attn_processors
        if checkpoint_activations:
            self.unet.enable_gradient_checkpointing()
        if self.device.type == "cpu" and self.unet.config.sample_size <= _SMALL:
            # There the fused kernel's way back takes twice the time of plain attention's, whose memory is
            # that of all pairs of cells.
            self.unet.set_attn_processor(AttnProcessor())
        try:
            yield
        finally:
            self.unet.set_attn_processor(dict(before))
            if checkpoint_activations:
                self.unet.disable_gradient_checkpointing()


def block_index(layer: str, blocks: int) -> int:
    """Return the index of the up block that a layer's name means.

    Raises:
        UserError: the UNet has no such block.
    """
    names = [f"up_blocks.{index}" for index in range(blocks)]
    if layer not in names:
        raise UserError(
            f"features.layer is {layer!r}, but this UNet has {names[0]} to {names[-1]}; name one of these."
        )
    return names.index(layer)
