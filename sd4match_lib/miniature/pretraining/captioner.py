"""Training of the implicit captioner: what the vision model sees must help the frozen UNet to denoise."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import mse_loss

from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.miniature.pretraining.diffusion import encode_latents
from sd4match_lib.miniature.pretraining.loop import Batch, Budget, Objective, pretrain
from sd4match_lib.miniature.pretraining.renders import RenderedObjects
from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.utils.progress import progress


class CaptioningObjective(Objective):
    """Denoising with the captioner's prompt; UNet and text model stay frozen.

    A batch's `patches` are the vision model's CLS descriptors, `(B, 1, D)`.
    """

    def __init__(self, captioner: ImplicitCaptioner, model: StableDiffusion, factor: float) -> None:
        """Keeps the frozen model; `factor` is its autoencoder's scaling factor."""
        super().__init__()
        self.captioner, self.factor = captioner, factor
        self.unet, self.text = model.denoiser.requires_grad_(False), model.text
        self.scheduler = model.scheduler

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The mean squared error of v."""
        assert batch.latents is not None and batch.patches is not None
        z = batch.latents.float() * self.factor
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        timesteps = torch.randint(1000, (len(z),), generator=generator).to(z.device)
        noisy = self.scheduler.add_noise(z, noise, timesteps)
        target = self.scheduler.get_velocity(z, noise, timesteps)
        rows = self.captioner.learned(batch.patches[:, 0])
        context = self.text.encode_tokens(self.text.assemble(rows))
        return {"loss": mse_loss(self.unet(noisy, timesteps, context).sample.float(), target)}


def pretrain_captioner(
    objects: RenderedObjects,
    model: StableDiffusion,
    vision: VisionFeatures,
    budget: Budget,
    folder: Path,
    device: torch.device,
) -> ImplicitCaptioner:
    """Trains projection and positions on the pictures; `model` must be whole, with VAE and all up blocks."""
    torch.manual_seed(0)
    mean, deviation = encode_latents(model.vae, objects, folder, device)
    descriptors = _descriptors(vision, objects)
    captioner = ImplicitCaptioner(descriptors.shape[1], model.text.width)
    objective = CaptioningObjective(captioner, model, model.vae.config.scaling_factor)

    def batches(step: int, generator: torch.Generator) -> Batch:
        index = torch.randint(len(descriptors), (budget.batch,), generator=generator)
        z = mean[index] + deviation[index] * torch.randn(mean[index].shape, generator=generator).half()
        return Batch(latents=z, patches=descriptors[index, None])

    pretrain("captioner", objective, batches, budget, folder, device)
    return captioner


@torch.no_grad()
def _descriptors(vision: VisionFeatures, objects: RenderedObjects) -> Tensor:
    """CLS descriptors `(M, D)` of the pictures."""
    images = [Image.fromarray(rgb) for rgb in objects.images]
    batches = [images[i : i + 64] for i in range(0, len(images), 64)]
    shown = progress(batches, description="descriptors", unit="batch")
    return torch.cat([vision.tokens(batch).cls.cpu() for batch in shown])
