"""CleanDIFT (Stracke et al., CVPR 2025): a Stable Diffusion whose UNet was tuned to read clean pictures.

The UNet of Stable Diffusion 1 or 2 with other weights: its folder is that of the model it was tuned from,
with the tuned file in place of ``unet/diffusion_pytorch_model.safetensors``. No noise is added, so that one
pass says all and an ensemble would repeat it. The step still goes in, as a number to the UNet.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from sd4match_lib.backbones.latents import Latents
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.errors import UserError


class CleanDift(StableDiffusion):
    """A frozen CleanDIFT model, read as Stable Diffusion is, without noise."""

    def sample(self, latents: Latents, image_ids: Sequence[str], *, seed: int | str) -> Tensor:
        """Return the scaled mean of the latents: nothing about a picture is drawn."""
        return latents.mean * self.vae.config.scaling_factor

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return the latents as they are."""
        return clean

    def noised(self, *given: Any, ensemble: int = 1, **settings: Any) -> Iterator[Tensor]:
        """See `DiffusionBackbone.noised`.

        Raises:
            UserError: more than one pass is asked for.
        """
        if ensemble != 1:
            raise UserError(f"ensemble is {ensemble}, but CleanDIFT adds no noise to average; use 1.")
        return super().noised(*given, **settings)
