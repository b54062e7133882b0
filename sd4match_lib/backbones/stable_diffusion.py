"""Stable Diffusion 1 and 2 as a feature extractor: one denoising step, read inside the UNet's decoder.

Stock diffusers modules, less what lies behind the last wanted up block; forward hooks read the wanted ones.
All randomness belongs to the image (seed, image id, ensemble member) and is drawn on the CPU in float32, so
that a feature does not depend on its batch, on the order, or on the device (up to the rounding of its
arithmetic).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.capture import capture
from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.cut import cut_unet, is_cut
from sd4match_lib.backbones.fast import MOST_ROWS, FastPass
from sd4match_lib.backbones.latent_diffusion import SHARED_FILES, LatentDiffusion
from sd4match_lib.backbones.loading import config_levels
from sd4match_lib.errors import NoLayerError, UserError
from sd4match_lib.geometry import HW

_SMALL = 32  # cells a side


class StableDiffusion(LatentDiffusion):
    """A frozen Stable Diffusion model, read at its decoder; layers are "up_blocks.0", "up_blocks.1", ..."""

    part, denoiser_kind = "unet", "UNet2DConditionModel"
    text_kinds: ClassVar[tuple[str, ...]] = ("CLIPTextModel",)
    tokenizer_kind, width_name = "CLIPTokenizer", "hidden_size"
    context_name = "cross_attention_dim"
    files: ClassVar[tuple[str, ...]] = (
        *SHARED_FILES,
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "text_encoder/model.safetensors",
        # Without either, the tokenizer would load all the same, knowing no word.
        "tokenizer/vocab.json|tokenizer/tokenizer.json",
    )
    weights_file = "unet/diffusion_pytorch_model.safetensors"
    told: ClassVar[str | None] = None
    """What the UNet is told beside the context, by its configuration's `addition_embed_type`."""
    _fast: FastPass | None = None

    @classmethod
    def cut(cls, denoiser: Any, layers: Sequence[str], where: Path) -> None:
        """End the UNet with the last of the up blocks; see `LatentDiffusion.cut`."""
        told = {name: denoiser.config[name] for name in ("addition_embed_type", "class_embed_type")}
        if told != {"addition_embed_type": cls.told, "class_embed_type": None}:
            raise UserError(
                f"{where} is a UNet that is told {told}: it is of another family of models; "
                "correct model.backbone in the profile."
            )
        cut_unet(denoiser, max((block_index(layer, len(denoiser.up_blocks)) for layer in layers), default=0))

    @classmethod
    def text_of(cls, *loaded: tuple[Any, Any]) -> TextEncoder:
        """One CLIP; see `LatentDiffusion.text_of`."""
        return ClipTextEncoder(*loaded[0])

    @classmethod
    def grid_hw(cls, folder: Path, *, image_hw: HW, layer: str) -> HW:
        """Every up block but the last doubles the grid; see `DiffusionBackbone.grid_hw`."""
        vae_levels, levels = (config_levels(folder / part / "config.json") for part in ("vae", "unet"))
        block = block_index(layer, levels)
        latent = [side // 2 ** (vae_levels - 1) for side in image_hw]
        halvings = levels - 1 - min(block + 1, levels - 1)
        height, width = (-(-side // 2**halvings) for side in latent)
        return height, width

    def read_layers(
        self, noisy: Tensor, timestep: int, context: Tensor, layers: Sequence[str]
    ) -> list[Tensor]:
        """See `DiffusionBackbone.read_layers`.

        Raises:
            UserError: a layer was not asked for when the model was loaded.
        """
        for layer in layers:
            if is_cut(self.denoiser.get_submodule(layer)):
                raise UserError(f"{layer} was cut off; load the model with it among the layers.")
        # Made there: a number would be copied to the device, and the program would wait for that.
        step = torch.full((), timestep, dtype=torch.long, device=noisy.device)
        conditions = self.conditions(noisy, context)
        if self._fast is not None:
            found = dict(zip(self._fast.layers, self._fast(noisy, step, conditions), strict=True))
            return [found[layer] for layer in layers]
        with capture(self.denoiser, layers) as outputs:
            self.denoiser(noisy, step, **conditions)
        return [outputs[layer] for layer in layers]

    def conditions(self, noisy: Tensor, context: Tensor) -> dict[str, Any]:
        """Return what the UNet is told beside latents and step: the context, as its own keyword."""
        return {"encoder_hidden_states": context}

    def make_fast(self, layers: Sequence[str]) -> None:
        """See `DiffusionBackbone.make_fast`."""
        self._fast = FastPass(self.denoiser, layers)

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
        """Plain attention on a CPU; see `DiffusionBackbone.learning`."""
        from diffusers.models.attention_processor import AttnProcessor

        before = self.denoiser.attn_processors
        if self.device.type == "cpu" and self.denoiser.config.sample_size <= _SMALL:
            # There the fused kernel's way back takes twice the time of plain attention's, whose memory is
            # that of all pairs of cells.
            self.denoiser.set_attn_processor(AttnProcessor())
        try:
            with super().learning(checkpoint_activations=checkpoint_activations):
                yield
        finally:
            self.denoiser.set_attn_processor(dict(before))


def block_index(layer: str, blocks: int) -> int:
    """Return the index of the up block that a layer's name means.

    Raises:
        NoLayerError: the UNet has no such block.
    """
    names = [f"up_blocks.{index}" for index in range(blocks)]
    if layer not in names:
        raise NoLayerError(
            f"there is no layer {layer!r}: this UNet has {names[0]} to {names[-1]}; name one of these."
        )
    return names.index(layer)
