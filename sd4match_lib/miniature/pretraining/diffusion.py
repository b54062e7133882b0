"""Pretraining of the miniature's UNet and text model: v-prediction on latents, with captions that name parts,
colours, views and ends, whose words are told where to look.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from sd4match_lib.backbones.capture import capture
from sd4match_lib.miniature.pretraining.bank import Bank
from sd4match_lib.miniature.pretraining.caption import ends_caption, plain_caption, random_caption
from sd4match_lib.miniature.pretraining.grounding import AttentionRecorder, Namer, ground, grounding_loss
from sd4match_lib.miniature.pretraining.loop import Box, pretrain
from sd4match_lib.miniature.pretraining.networks import build_scheduler, build_text_encoder, build_unet
from sd4match_lib.miniature.pretraining.probe import Probe, build_probe
from sd4match_lib.miniature.pretraining.vae import to_unit
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.progress import progress

_READ_LAYER, _READ_TIMESTEP, _INFLUENCE_TIMESTEP = "up_blocks.1", 50, 261
_LOW_TIMESTEPS = 0.25
_GROUNDING, _NAMING = 0.1, 0.5


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """`(B, 77)` token ids, padded and cut as Stable Diffusion's pipelines do."""
    ids: Tensor = tokenizer(
        texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def bank_latents(vae: AutoencoderKL, bank: Bank, folder: Path, device: torch.device) -> tuple[Tensor, Tensor]:
    """Means and deviations of the bank's latents, `(M, 4, 32, 32)` float16, unscaled; encoded once and kept
    in `folder`.
    """
    path = folder / "latents.safetensors"
    if not path.is_file():
        vae.to(device).eval()
        means, deviations = [], []
        for batch in progress(
            torch.from_numpy(bank.images).split(64), description="encoding the bank", unit="batch"
        ):
            with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
                posterior = vae.encode(to_unit(batch).to(device)).latent_dist
            means.append(posterior.mean.half().cpu())
            deviations.append(posterior.std.half().cpu())
        atomic_write_bytes(
            path, save({"mean": torch.cat(means).contiguous(), "std": torch.cat(deviations).contiguous()})
        )
    tensors = load_file(path)
    return tensors["mean"], tensors["std"]


def pretrain_diffusion(
    bank: Bank, vae: AutoencoderKL, tokenizer: CLIPTokenizer, box: Box, folder: Path, device: torch.device
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Trains UNet and text model together on denoising, grounding and naming; a quarter of the timesteps
    is drawn from the half in which features are read.
    """
    torch.manual_seed(0)
    scheduler, factor = build_scheduler(), vae.config.scaling_factor
    unet = build_unet()
    namer = Namer(
        (part for entry in bank.entries for part in entry.colours), unet.config.block_out_channels[-2]
    )
    modules = nn.ModuleDict({"unet": unet, "text": build_text_encoder(tokenizer), "namer": namer})
    recorder = AttentionRecorder(unet)
    parts, places = torch.from_numpy(bank.parts), torch.from_numpy(bank.places)
    read: list[Tensor] = []
    unet.get_submodule(_READ_LAYER).register_forward_hook(
        lambda _module, _inputs, output: read.append(output)
    )
    clean = scheduler.alphas_cumprod
    mean, deviation = bank_latents(vae, bank, folder, device)
    watch = _Watch(build_probe(), vae, tokenizer, scheduler, device)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(mean), (box.batch,), generator=generator)
        words = np.random.default_rng([step, 1])
        entries = [bank.entries[i] for i in index.tolist()]
        texts = [random_caption(e.category, e.azimuth, e.colours, words) for e in entries]
        z = (mean[index] + deviation[index] * torch.randn(mean[index].shape, generator=generator)) * factor
        noise = torch.randn(z.shape, generator=generator)
        low = torch.rand(box.batch, generator=generator) < _LOW_TIMESTEPS
        timesteps = torch.randint(1000, (box.batch,), generator=generator) // (1 + low.long())
        noisy, target = scheduler.add_noise(z, noise, timesteps), scheduler.get_velocity(z, noise, timesteps)
        context = modules["text"](tokenize(tokenizer, texts).to(device)).last_hidden_state
        output = modules["unet"](noisy.to(device), timesteps.to(device), context).sample
        words_seen = ground(tokenizer, texts, entries, parts[index], places[index])
        placed = [tensor.to(device) for tensor in (*words_seen, clean[timesteps])]
        denoising = mse_loss(output.float(), target.to(device))
        grounding = grounding_loss(recorder.take(), *placed)
        called = namer.targets(texts, entries, parts[index], places[index])
        objects = parts[index] > 0
        naming = namer.loss(read.pop(), called.to(device), objects.to(device), clean[timesteps].to(device))
        return {
            "loss": denoising + _GROUNDING * grounding + _NAMING * naming,
            "denoising": denoising.detach(),
            "grounding": grounding.detach(),
            "naming": naming.detach(),
        }

    def measure() -> dict[str, float]:
        found = watch(modules["unet"], modules["text"])
        recorder.take()
        read.clear()
        return found

    pretrain("diffusion", modules, loss, box, folder, device, watch=measure)
    return modules["unet"], modules["text"]


class _Watch:
    """Measures what pretraining is for, on the probe: PCK with the text and the empty prompt, one that
    names everything and one that names all ends, and the text's influence on the features.
    """

    def __init__(
        self,
        probe: Probe,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        scheduler: DDIMScheduler,
        device: torch.device,
    ) -> None:
        """Encodes the probe's pictures once."""
        self.probe, self.scheduler, self.device = probe, scheduler, device
        vae.to(device).eval()
        with torch.no_grad():
            parts = [vae.encode(to_unit(b).to(device)).latent_dist.mean for b in probe.images.split(32)]
        self.latents = torch.cat(parts) * vae.config.scaling_factor
        self.ids = tokenize(tokenizer, [plain_caption(c) for c in probe.categories]).to(device)
        self.full = tokenize(tokenizer, probe.captions).to(device)
        self.ends = tokenize(tokenizer, [ends_caption()] * len(probe.categories)).to(device)
        self.empty = tokenize(tokenizer, [""] * len(probe.categories)).to(device)

    @torch.no_grad()
    def __call__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> dict[str, float]:
        """Returns the named measurements; `influence` is the relative change of the normalised features from
        empty to text at t = 261.
        """

        def read(ids: Tensor, timestep: int) -> Tensor:
            return self._features(unet, text(ids).last_hidden_state, timestep)

        with_text, without = read(self.ids, _READ_TIMESTEP), read(self.empty, _READ_TIMESTEP)
        change = (
            (read(self.ids, _INFLUENCE_TIMESTEP) - read(self.empty, _INFLUENCE_TIMESTEP)).norm(dim=1).mean()
        )
        return {
            "pck_text": self.probe.pck(with_text),
            "pck_empty": self.probe.pck(without),
            "pck_full": self.probe.pck(read(self.full, _READ_TIMESTEP)),
            "pck_ends": self.probe.pck(read(self.ends, _READ_TIMESTEP)),
            "pck_latents": self.probe.pck(self.latents.cpu()),
            "influence": float(change),
        }

    def _features(self, unet: UNet2DConditionModel, context: Tensor, timestep: int) -> Tensor:
        """L2-normalised features of the probe's pictures, `(M, C, h, w)`, on the CPU."""
        noise = torch.randn(self.latents.shape, generator=torch.Generator().manual_seed(timestep)).to(
            self.device
        )
        steps = torch.full((len(noise),), timestep)
        noisy = self.scheduler.add_noise(self.latents, noise, steps.to(self.device))
        parts = []
        for z, words in zip(noisy.split(32), context.split(32), strict=True):
            with capture(unet, (_READ_LAYER,)) as read:
                unet(z, timestep, words)
            parts.append(torch.nn.functional.normalize(read[_READ_LAYER].float(), dim=1).cpu())
        return torch.cat(parts)
