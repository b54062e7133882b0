"""The miniature's recipe: four stages, each step- or time-boxed, resumable, on a CPU or one GPU.

A working folder holds the rendered bank, checkpoints, logs and, under `weights/`, the finished models in
fp16, laid out as the package ships them.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.miniature.pretraining.bank import Bank, build_bank
from sd4match_lib.miniature.pretraining.captioner import pretrain_captioner
from sd4match_lib.miniature.pretraining.card import draw_card
from sd4match_lib.miniature.pretraining.diffusion import pretrain_diffusion
from sd4match_lib.miniature.pretraining.loop import Box
from sd4match_lib.miniature.pretraining.networks import build_scheduler
from sd4match_lib.miniature.pretraining.vae import pretrain_vae
from sd4match_lib.miniature.pretraining.vision import pretrain_vision
from sd4match_lib.miniature.pretraining.vocabulary import build_tokenizer
from sd4match_lib.utils.paths import resolve_path

OBJECTS: Final = {"vae": 8192, "vision": 16384, "diffusion": 8192, "captioner": 8192}
"""How many of the bank's objects each stage opens; diffusion and captioner share the latents of theirs."""
CAPTIONED: Final = 4096
"""How many of its pictures the captioner sees."""
BOXES: Final = {
    "vae": Box(None, None, 16, 2e-3),
    "vision": Box(None, None, 96, 1e-3, warmup=60),
    "diffusion": Box(None, None, 16, 8e-4, warmup=100, average=0.995),
    "captioner": Box(None, None, 32, 3e-3, warmup=20),
}
"""Batch and learning rate of each stage; the command adds when to stop."""


def run(
    stage: str,
    *,
    out: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    device: str | None = None,
    fresh: bool = False,
) -> None:
    """Runs one stage; the order is vae, vision, diffusion (needs vae), captioner (needs all three).

    Args:
        stage: one of `BOXES`.
        out: working folder; `cache/miniature` when None.
        steps: stop after so many steps in all, interrupted ones included.
        minutes: stop after so much training time in all.
        device: `cpu` or `cuda`; a GPU where there is one when None.
        fresh: forget the stage's checkpoint and log.

    Raises:
        UserError: on an unknown stage, a box without end, or where an earlier stage is missing.
    """
    if stage not in BOXES:
        raise UserError(f"there is no pretraining stage {stage!r}; choose one of {', '.join(BOXES)}")
    folder = out or resolve_path("cache/miniature")
    if fresh:
        for old in folder.glob(f"{stage}*.*"):
            old.unlink()
        if stage == "vae":
            (folder / "latents.safetensors").unlink(missing_ok=True)
    box = replace(BOXES[stage], steps=steps, minutes=minutes)
    weights, where = folder / "weights", resolve_device(device)
    bank = build_bank(folder / "bank", OBJECTS[stage])
    match stage:
        case "vae":
            _export(pretrain_vae(bank, box, folder, where), weights / "diffusion" / "vae")
        case "vision":
            _export(pretrain_vision(bank, box, folder, where), weights / "vision")
        case "diffusion":
            _diffusion(bank, box, folder, where)
        case _:
            _captioner(bank, box, folder, where)


def _diffusion(bank: Bank, box: Box, folder: Path, device: torch.device) -> None:
    """Trains UNet and text model and writes them with tokenizer and scheduler."""
    target = folder / "weights" / "diffusion"
    vae, tokenizer = _load(AutoencoderKL, target / "vae", "vae"), build_tokenizer()
    unet, text = pretrain_diffusion(bank, vae, tokenizer, box, folder, device)
    for model in (vae, unet, text):
        model.cpu().half()
    vae.register_to_config(_name_or_path="")  # where it lay on this machine is nobody's business
    pipeline = StableDiffusionPipeline(
        vae, text, tokenizer, unet, build_scheduler(), None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(target)


def _captioner(bank: Bank, box: Box, folder: Path, device: torch.device) -> None:
    """Trains the implicit captioner on the finished models, and draws the model card's pictures."""
    weights = folder / "weights"
    vae = _load(AutoencoderKL, weights / "diffusion" / "vae", "vae")
    unet = _load(UNet2DConditionModel, weights / "diffusion" / "unet", "diffusion")
    text = _load(CLIPTextModel, weights / "diffusion" / "text_encoder", "diffusion")
    model = StableDiffusion(
        unet.to(device),
        vae.to(device),
        ClipTextEncoder(text.to(device), build_tokenizer()),
        build_scheduler(),
    )
    vision = VisionFeatures.from_folder(weights / "vision", load_profile("mini").vision, device=device)
    captioner = pretrain_captioner(bank, model, vision, CAPTIONED, box, folder, device)
    captioner.cpu().save(
        weights / "captioner.safetensors",
        {"trained on": "MiniPair renders, denoising loss", "licence": "Apache-2.0"},
    )
    draw_card(folder)


def _load(kind: Any, folder: Path, stage: str) -> Any:
    """Loads a finished part in fp32."""
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: run `sd4match miniature pretrain {stage}` first")
    return kind.from_pretrained(folder).float()


def _export(model: nn.Module, folder: Path) -> None:
    """Writes a finished model in fp16, replacing what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    model.cpu().half().save_pretrained(folder)  # type: ignore[operator]
    model.float()
