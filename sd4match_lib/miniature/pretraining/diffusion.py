"""Pretraining of the miniature's UNet: v-prediction on latents of pictures with whole captions, as SD2-1's.

On top of denoising: min-SNR weights (Hang et al. 2023).
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from sd4match_lib.backbones.capture import capture
from sd4match_lib.errors import UserError
from sd4match_lib.miniature.pretraining.caption import plain_caption, random_caption
from sd4match_lib.miniature.pretraining.loop import Batch, Budget, Objective, pretrain
from sd4match_lib.miniature.pretraining.networks import build_scheduler, build_unet
from sd4match_lib.miniature.pretraining.probe import build_probe
from sd4match_lib.miniature.pretraining.renders import RenderedObjects
from sd4match_lib.miniature.pretraining.text import tokenize
from sd4match_lib.miniature.pretraining.vae import to_unit
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.progress import progress
from sd4match_lib.utils.reading import read_tensor_header

_READ_LAYER, _READ_TIMESTEPS = "up_blocks.1", (50, 261)
_SNR_CAP = 5.0


@dataclass(frozen=True)
class Teachers:
    """The finished models that the UNet is trained with; all stay frozen."""

    vae: AutoencoderKL
    text: CLIPTextModel
    tokenizer: CLIPTokenizer


def min_snr_weight(signal: Tensor) -> Tensor:
    """Min-SNR weights of the error of the clean latent, as weights of v's, which is (SNR + 1) times as large.

    Args:
        signal: the scheduler's cumulative alphas of the steps, any shape.
    """
    snr = signal / (1 - signal)
    return snr.clamp(max=_SNR_CAP) / (snr + 1)


class DenoisingObjective(Objective):
    """Denoising of latents under a frozen text model."""

    def __init__(self, text: CLIPTextModel, factor: float) -> None:
        """Builds the untrained UNet.

        Args:
            text: the frozen text model.
            factor: the autoencoder's scaling factor.
        """
        super().__init__()
        self.unet, self.text, self.factor = build_unet(), text.requires_grad_(False), factor
        # In training on a CPU, plain attention takes half the time of the fused kernel's backward pass.
        self.unet.set_attn_processor(AttnProcessor())
        self.signal: Tensor
        self.register_buffer("signal", build_scheduler().alphas_cumprod.clone(), persistent=False)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """`denoising` is the plain error of v."""
        assert batch.latents is not None and batch.captions is not None
        z = batch.latents.float() * self.factor
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        timesteps = torch.randint(1000, (len(z),), generator=generator).to(z.device)
        signal = self.signal[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * z + (1 - signal).sqrt() * noise
        target = signal.sqrt() * noise - (1 - signal).sqrt() * z
        with torch.no_grad():
            context = self.text(batch.captions).last_hidden_state
        output = self.unet(noisy, timesteps, context).sample.float()
        error = (output - target).square().mean(dim=(1, 2, 3))
        weight = min_snr_weight(signal.view(-1))
        return {"loss": (weight * error).mean() / weight.mean(), "denoising": error.mean().detach()}


def encode_latents(
    vae: AutoencoderKL, objects: RenderedObjects, folder: Path, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Means and deviations of the pictures' latents, `(N, 4, 32, 32)` float16, unscaled.

    They are made once, and kept in `folder` until autoencoder or pictures change.
    """
    vae.to(device).eval()
    path = folder / "diffusion_latents.safetensors"
    digest = hashlib.sha256(objects.images[::97].tobytes())
    for weight in vae.state_dict().values():
        digest.update(weight.cpu().contiguous().numpy().tobytes())
    made_of = {"made_of": digest.hexdigest(), "pictures": str(len(objects.images))}
    if path.is_file():
        with suppress(UserError):  # a damaged file is made again
            if read_tensor_header(path)[1] == made_of:
                kept = load_file(path)
                return kept["mean"], kept["std"]
    means, deviations = [], []
    batches = torch.from_numpy(objects.images).split(64)
    for batch in progress(batches, description="latents of the pictures", unit="batch"):
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            posterior = vae.encode(to_unit(batch).to(device)).latent_dist
        means.append(posterior.mean.half().cpu())
        deviations.append(posterior.std.half().cpu())
    mean, deviation = torch.cat(means).contiguous(), torch.cat(deviations).contiguous()
    atomic_write_bytes(path, save({"mean": mean, "std": deviation}, metadata=made_of))
    return mean, deviation


def pretrain_diffusion(
    objects: RenderedObjects, teachers: Teachers, budget: Budget, folder: Path, device: torch.device
) -> UNet2DConditionModel:
    """Trains the UNet on the pictures' latents and random captions of them."""
    torch.manual_seed(0)
    mean, deviation = encode_latents(teachers.vae, objects, folder, device)
    factor = teachers.vae.config.scaling_factor
    objective = DenoisingObjective(teachers.text, factor)
    watch = DiffusionProbe(teachers, objective.unet, device)

    def batches(step: int, generator: torch.Generator) -> Batch:
        index = torch.randint(len(mean), (budget.batch,), generator=generator)
        words = np.random.default_rng([step, 1])
        texts = [random_caption(objects.facts[i], words) for i in index.tolist()]
        z = mean[index] + deviation[index] * torch.randn(mean[index].shape, generator=generator).half()
        return Batch(captions=tokenize(teachers.tokenizer, texts), latents=z)

    pretrain("diffusion", objective, batches, budget, folder, device, watch=watch)
    objective.unet.set_attn_processor(AttnProcessor2_0())
    return objective.unet


class DiffusionProbe:
    """Measures on the probe: PCK with the empty, the text and the full prompt, the text's influence on the
    features, and the denoising error of pictures that were not trained on. The probe's keypoints are for this
    measurement alone.
    """

    def __init__(self, teachers: Teachers, unet: UNet2DConditionModel, device: torch.device) -> None:
        """Encodes the probe's pictures and captions once; `unet` may go on training between measurements."""
        self.probe, self.unet, self.device = build_probe(), unet, device
        self.scheduler: DDIMScheduler = build_scheduler()
        probe, vae, text = self.probe, teachers.vae.to(device).eval(), teachers.text.to(device)
        texts = {
            "empty": [""] * len(probe.categories),
            "text": [plain_caption(category) for category in probe.categories],
            "full": probe.captions,
        }
        with torch.no_grad():
            parts = [vae.encode(to_unit(b).to(device)).latent_dist.mean for b in probe.images.split(32)]
            self.contexts = {
                name: text(tokenize(teachers.tokenizer, lines).to(device)).last_hidden_state.float()
                for name, lines in texts.items()
            }
        self.latents = torch.cat(parts) * vae.config.scaling_factor

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """Returns the named measurements; `influence` is the relative change of the normalised features from
        empty to text at the later of the two timesteps.
        """
        found: dict[str, float] = {}
        for t in _READ_TIMESTEPS:
            features = {name: self._features(context, t) for name, context in self.contexts.items()}
            found |= {f"pck_{name}_{t}": self.probe.pck(maps) for name, maps in features.items()}
            found["influence"] = float((features["text"] - features["empty"]).norm(dim=1).mean())
        found["pck_latents"] = self.probe.pck(self.latents.cpu())
        found["held_out"] = self._error(self.contexts["text"])
        return found

    def _noisy(self, timestep: int) -> tuple[Tensor, Tensor]:
        """The probe's latents with noise, and the noise."""
        generator = torch.Generator().manual_seed(timestep)
        noise = torch.randn(self.latents.shape, generator=generator).to(self.device)
        steps = torch.full((len(noise),), timestep, device=self.device)
        return self.scheduler.add_noise(self.latents, noise, steps), noise

    def _error(self, context: Tensor) -> float:
        """Mean squared error of v over five noise levels."""
        errors = []
        for t in range(100, 1000, 200):
            noisy, noise = self._noisy(t)
            steps = torch.full((len(noise),), t, device=self.device)
            target = self.scheduler.get_velocity(self.latents, noise, steps)
            output = torch.cat(
                [self.unet(z, t, c).sample for z, c in zip(noisy.split(32), context.split(32), strict=True)]
            )
            errors.append((output.float() - target).square().mean())
        return float(torch.stack(errors).mean())

    def _features(self, context: Tensor, timestep: int) -> Tensor:
        """L2-normalised features of the probe's pictures, `(M, C, h, w)`, on the CPU."""
        noisy, _ = self._noisy(timestep)
        parts = []
        for z, words in zip(noisy.split(32), context.split(32), strict=True):
            with capture(self.unet, (_READ_LAYER,)) as read:
                self.unet(z, timestep, words)
            parts.append(normalize(read[_READ_LAYER].float(), dim=1).cpu())
        return torch.cat(parts)
