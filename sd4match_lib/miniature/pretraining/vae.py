"""Pretraining of the miniature's autoencoder."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from sd4match_lib.miniature.pretraining.bank import Bank
from sd4match_lib.miniature.pretraining.loop import Box, pretrain
from sd4match_lib.miniature.pretraining.networks import build_vae

_CROP = 64
_KL_WEIGHT = 1e-4


def to_unit(images: Tensor) -> Tensor:
    """`(B, S, S, 3)` uint8 to `(B, 3, S, S)` float32 in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def pretrain_vae(bank: Bank, box: Box, folder: Path, device: torch.device) -> AutoencoderKL:
    """Trains on random crops: absolute and squared error plus a whisper of KL; then measures the scaling
    factor (1 / deviation of the latents).
    """
    torch.manual_seed(0)
    vae, pictures = build_vae(), torch.from_numpy(bank.images)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        images = pictures[torch.randint(len(pictures), (box.batch,), generator=generator)]
        y, x = torch.randint((images.shape[1] - _CROP) // 4 + 1, (2,), generator=generator).mul(4).tolist()
        target = to_unit(images[:, y : y + _CROP, x : x + _CROP]).to(device)
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        output = vae.decode(posterior.mean + posterior.std * noise).sample
        error = (output.float() - target).abs().mean() + (output.float() - target).square().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": error + _KL_WEIGHT * kl, "error": error.detach(), "kl": kl.detach()}

    pretrain("vae", nn.ModuleDict({"vae": vae}), loss, box, folder, device)
    vae.register_to_config(scaling_factor=round(1 / _deviation(vae, pictures[:512], device), 5))
    return vae


@torch.no_grad()
def _deviation(vae: AutoencoderKL, pictures: Tensor, device: torch.device) -> float:
    """Standard deviation of the latents of some pictures."""
    parts = [vae.encode(to_unit(batch).to(device)).latent_dist for batch in pictures.split(32)]
    means, variances = torch.cat([p.mean for p in parts]), torch.cat([p.var for p in parts])
    return float((means.var() + variances.mean()).sqrt())
