"""Pretraining of the miniature's autoencoder."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from sd4match_lib.miniature.pretraining.loop import Batch, Budget, Objective, pretrain
from sd4match_lib.miniature.pretraining.networks import build_vae
from sd4match_lib.miniature.pretraining.renders import RenderedObjects

_CROP = 64
_KL_WEIGHT = 1e-4


def to_unit(images: Tensor) -> Tensor:
    """`(B, S, S, 3)` uint8 to `(B, 3, S, S)` float32 in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


class VaeObjective(Objective):
    """Absolute and squared error, of the picture and of its slopes, plus a little KL."""

    def __init__(self) -> None:
        """Builds the untrained autoencoder."""
        super().__init__()
        self.vae = build_vae()

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Of a batch of crops; `error` is the reconstruction's, `kl` per latent value."""
        assert batch.images is not None
        target = to_unit(batch.images)
        posterior = self.vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(target.device)
        off = self.vae.decode(posterior.mean + posterior.std * noise).sample.float() - target
        slopes = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
        error = off.abs().mean() + off.square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": error + 0.5 * slopes + _KL_WEIGHT * kl, "error": error.detach(), "kl": kl.detach()}


def pretrain_vae(
    objects: RenderedObjects, budget: Budget, folder: Path, device: torch.device
) -> AutoencoderKL:
    """Trains on random crops, then measures the scaling factor (1 / deviation of the latents)."""
    torch.manual_seed(0)
    objective, pictures = VaeObjective(), torch.from_numpy(objects.images)

    def crops(step: int, generator: torch.Generator) -> Batch:
        images = pictures[torch.randint(len(pictures), (budget.batch,), generator=generator)]
        y, x = torch.randint((images.shape[1] - _CROP) // 4 + 1, (2,), generator=generator).mul(4).tolist()
        return Batch(images=images[:, y : y + _CROP, x : x + _CROP])

    pretrain("vae", objective, crops, budget, folder, device)
    factor = 1 / _deviation(objective.vae, pictures[:512], device)
    objective.vae.register_to_config(scaling_factor=round(factor, 5))
    return objective.vae


@torch.no_grad()
def _deviation(vae: AutoencoderKL, pictures: Tensor, device: torch.device) -> float:
    """Standard deviation of the latents of some pictures."""
    parts = [vae.encode(to_unit(batch).to(device)).latent_dist for batch in pictures.split(32)]
    means, variances = torch.cat([p.mean for p in parts]), torch.cat([p.var for p in parts])
    return float((means.var() + variances.mean()).sqrt())
