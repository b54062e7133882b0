"""Training of the implicit captioner: what the vision model sees must help the frozen UNet to denoise."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.miniature.pretraining.bank import Bank
from sd4match_lib.miniature.pretraining.diffusion import bank_latents
from sd4match_lib.miniature.pretraining.loop import Box, pretrain
from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.utils.progress import progress


def pretrain_captioner(
    bank: Bank,
    model: StableDiffusion,
    vision: VisionFeatures,
    pictures: int,
    box: Box,
    folder: Path,
    device: torch.device,
) -> ImplicitCaptioner:
    """Trains projection and positions on the denoising loss of the bank's first `pictures` pictures; all else
    stays frozen.

    `model` must be whole: with its VAE and all up blocks.
    """
    torch.manual_seed(0)
    mean, deviation = (part[:pictures] for part in bank_latents(model.vae, bank, folder, device))
    descriptors = _descriptors(vision, bank, pictures)
    captioner = ImplicitCaptioner(descriptors.shape[1], model.text.width)
    factor = model.vae.config.scaling_factor

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(mean), (box.batch,), generator=generator)
        z = (mean[index] + deviation[index] * torch.randn(mean[index].shape, generator=generator)) * factor
        noise = torch.randn(z.shape, generator=generator)
        timesteps = torch.randint(1000, (box.batch,), generator=generator)
        noisy = model.scheduler.add_noise(z, noise, timesteps).to(device)
        target = model.scheduler.get_velocity(z, noise, timesteps).to(device)
        rows = captioner.learned(descriptors[index].to(device))
        context = model.text.encode_tokens(model.text.assemble(rows))
        return {"loss": mse_loss(model.unet(noisy, timesteps.to(device), context).sample.float(), target)}

    pretrain("captioner", nn.ModuleDict({"captioner": captioner}), loss, box, folder, device)
    return captioner


@torch.no_grad()
def _descriptors(vision: VisionFeatures, bank: Bank, pictures: int) -> Tensor:
    """CLS descriptors `(M, D)` of the bank's first pictures."""
    images = [Image.fromarray(rgb) for rgb in bank.images[:pictures]]
    batches = [images[i : i + 64] for i in range(0, len(images), 64)]
    return torch.cat(
        [
            vision.tokens(batch).cls.cpu()
            for batch in progress(batches, description="descriptors", unit="batch")
        ]
    )
