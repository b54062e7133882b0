"""Stable Diffusion as a feature extractor: one denoising step, read inside the UNet's decoder.

Stock diffusers modules; a forward hook reads the wanted up blocks and ends the pass there, so nothing behind
them is computed. All randomness belongs to the image (seed, image id, ensemble member) and is drawn on the
CPU in float32, so that a feature does not depend on its batch, on the order, or on the device (up to the
rounding of its arithmetic).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from sd4match_lib.backbones.capture import capture_up_blocks
from sd4match_lib.backbones.clip_text import TextEncoder
from sd4match_lib.backbones.latents import Latents, image_noise
from sd4match_lib.backbones.weights import quiet_loading
from sd4match_lib.errors import UserError

_SMALL = 32  # cells a side


class StableDiffusionFeatures:
    """A frozen Stable Diffusion model, read at its decoder.

    Symbols: `B` batch, `C` channels, `H W` network input in pixels, `h w` feature grid, `L` tokens, `D` token
    width, `E` ensemble members.

    Attributes:
        text: the text model (`TextEncoder`).
        up_block: index of the last up block that can be read; later ones never run.
        passes: how many images have gone through the UNet, counting each member (for cost accounts).
    """

    def __init__(self, unet: Any, vae: Any, text: TextEncoder, scheduler: Any, *, up_block: int = 1) -> None:
        """Freeze stock diffusers modules and read them at `up_block`.

        Raises:
            UserError: the UNet has no such up block.
        """
        if not 0 <= up_block < len(unet.up_blocks):
            raise UserError(
                f"features.up_block is {up_block}, but this UNet has up blocks 0 to "
                f"{len(unet.up_blocks) - 1}; name one of these."
            )
        self.unet: Any = unet.eval().requires_grad_(False)
        self.vae: Any = vae.eval().requires_grad_(False)
        self.text = text
        self.scheduler: Any = scheduler
        self.up_block = up_block
        self.passes = 0

    @classmethod
    def from_folder(
        cls,
        folder: Path | str,
        *,
        up_block: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a model in diffusers layout (`unet/ vae/ text_encoder/ tokenizer/ scheduler/`).

        The up blocks behind `up_block` and the VAE's decoder are dropped from memory.

        Args:
            folder: a local folder; see `loading.resolve_model` for hub ids and mirrors.
            up_block: the last up block that will be read.
            dtype: what everything computes in.
            device: where everything lies.

        Raises:
            UserError: a part of the model is missing or unreadable, or there is no such up block.
        """
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        def load(kind: Any, part: str, **options: Any) -> Any:
            try:
                return kind.from_pretrained(folder, subfolder=part, local_files_only=True, **options)
            except Exception as error:  # the libraries raise anything from OSError to SafetensorError
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise UserError(f"{Path(folder) / part} cannot be loaded: {reason}") from error

        with quiet_loading():
            unet = load(UNet2DConditionModel, "unet", dtype=dtype)
            vae = load(AutoencoderKL, "vae", dtype=dtype)
            text_model = load(CLIPTextModel, "text_encoder", dtype=dtype)
            tokenizer = load(CLIPTokenizer, "tokenizer")
            # `add_noise` only knows the betas, which every scheduler class reads alike from the model's own
            # file.
            scheduler = load(DDIMScheduler, "scheduler")
        features = cls(unet, vae, TextEncoder(text_model, tokenizer), scheduler, up_block=up_block)
        for index in range(up_block + 1, len(unet.up_blocks)):
            # In place of shortening the list: the UNet asks which block is the last when sizes are odd.
            unet.up_blocks[index] = nn.Identity()
        vae.decoder = nn.Identity()
        return features.to(device)

    def to(self, device: torch.device | str) -> Self:
        """Move all modules to `device`; returns self."""
        for part in (self.unet, self.vae, self.text):
            part.to(device)
        return self

    def ready_to_learn(self, *, checkpoint_activations: bool) -> None:
        """Make the way back through the UNet cheap; it gives the same as before.

        Args:
            checkpoint_activations: compute activations twice to save memory.
        """
        from diffusers.models.attention_processor import AttnProcessor

        if checkpoint_activations:
            self.unet.enable_gradient_checkpointing()
        if self.device.type == "cpu" and self.unet.config.sample_size <= _SMALL:
            # There the fused kernel's way back takes twice the time of plain attention's, whose memory is
            # that of all pairs of cells.
            self.unet.set_attn_processor(AttnProcessor())

    @property
    def device(self) -> torch.device:
        """Where the UNet lies."""
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes in."""
        return self.unet.dtype

    def encode(self, images: Tensor) -> Latents:
        """Run the VAE's encoder, image by image: its activations are the peak of memory.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            The latents on the CPU in float32; without gradients.
        """
        means, stds = [], []
        with torch.no_grad():
            for image in images.split(1):
                posterior = self.vae.encode(image.to(self.vae.device, self.vae.dtype)).latent_dist
                means.append(posterior.mean.float().cpu())
                stds.append(posterior.std.float().cpu())
        return Latents(torch.cat(means), torch.cat(stds))

    def sample(self, latents: Latents, image_ids: Sequence[str], *, seed: int | str) -> Tensor:
        """Draw `z = (mean + std * noise) * scaling_factor`, the noise by (seed, image id).

        Returns:
            (B, 4, H/f, W/f) float32 on the CPU.
        """
        noise = torch.stack([image_noise(seed, name, "vae", latents.mean.shape[1:]) for name in image_ids])
        return (latents.mean + latents.std * noise) * self.vae.config.scaling_factor

    def features(
        self,
        latents: Latents,
        image_ids: Sequence[str],
        context: Tensor,
        *,
        timestep: int,
        ensemble: int = 1,
        seed: int | str = 0,
    ) -> Tensor:
        """Return the output of `up_block` at `timestep`, averaged over the ensemble.

        Args:
            latents: of `B` images.
            image_ids: their `B` ids, which decide their noises.
            context: (B, L, D) or (1, L, D), the cross-attention input; gradients flow back to it.
            timestep: diffusion step `t`, the same for all.
            ensemble: `E` independent noises; the features are averaged, not yet normalised.
            seed: the experiment's seed.

        Returns:
            (B, C, h, w) float32 on the model's device.
        """
        return self.pyramid(
            latents, image_ids, context, (self.up_block,), timestep=timestep, ensemble=ensemble, seed=seed
        )[0]

    def pyramid(
        self,
        latents: Latents,
        image_ids: Sequence[str],
        context: Tensor,
        up_blocks: Sequence[int],
        *,
        timestep: int,
        ensemble: int = 1,
        seed: int | str = 0,
    ) -> list[Tensor]:
        """Return the outputs of several up blocks of the same pass; see `features`.

        Args:
            latents: of `B` images.
            image_ids: their `B` ids.
            context: (B, L, D) or (1, L, D).
            up_blocks: indices, none behind the `up_block` of this extractor.
            timestep: diffusion step.
            ensemble: number of noises.
            seed: the experiment's seed.

        Returns:
            One (B, C_k, h_k, w_k) float32 for each of `up_blocks`, in their order.
        """
        if max(up_blocks) > self.up_block:
            raise UserError(
                f"up block {max(up_blocks)} was cut off; load the model with up_block={max(up_blocks)}."
            )
        if len(image_ids) != len(latents):
            raise UserError(f"there are {len(latents)} latents but {len(image_ids)} image ids.")
        clean = self.sample(latents, image_ids, seed=seed)
        context = context.to(self.device, self.dtype).expand(len(latents), -1, -1)
        steps = torch.full((len(latents),), timestep, dtype=torch.long)
        sums: list[Tensor] = []
        for member in range(ensemble):
            noise = torch.stack([image_noise(seed, name, member, clean.shape[1:]) for name in image_ids])
            noisy = self.scheduler.add_noise(clean, noise, steps).to(self.device, self.dtype)
            with capture_up_blocks(self.unet, up_blocks) as outputs:
                self.unet(noisy, timestep, encoder_hidden_states=context)
            self.passes += len(latents)
            maps = [outputs[index].float() for index in up_blocks]
            sums = maps if not sums else [total + new for total, new in zip(sums, maps, strict=True)]
        return [total / ensemble for total in sums]
