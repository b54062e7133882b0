"""The miniature's recipe: five stages, each bounded in steps or minutes, resumable, on a CPU or one GPU.

A working folder holds the rendered pictures, checkpoints, logs and, under `weights/`, the finished models in
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
from sd4match_lib.backbones.loading import load_part
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.miniature.pretraining.captioner import pretrain_captioner
from sd4match_lib.miniature.pretraining.card import draw_card
from sd4match_lib.miniature.pretraining.diffusion import Teachers, pretrain_diffusion
from sd4match_lib.miniature.pretraining.loop import Budget, checkpoint_files
from sd4match_lib.miniature.pretraining.memory import hold_memory
from sd4match_lib.miniature.pretraining.networks import build_scheduler
from sd4match_lib.miniature.pretraining.renders import RenderedObjects, render_objects
from sd4match_lib.miniature.pretraining.text import pretrain_text
from sd4match_lib.miniature.pretraining.vae import pretrain_vae
from sd4match_lib.miniature.pretraining.vision import pretrain_vision
from sd4match_lib.miniature.pretraining.vocabulary import build_tokenizer
from sd4match_lib.utils.locks import WorkLock
from sd4match_lib.utils.paths import resolve_path

FOLDER: Final = "cache/miniature"
"""The working folder, unless another is named."""
PICTURES: Final = {"vae": 8192, "text": 40_960, "vision": 40_960, "diffusion": 40_960, "captioner": 4096}
"""How many of the pictures each stage opens."""
BUDGETS: Final = {
    "vae": Budget(None, None, 16, 2e-3),
    "text": Budget(None, None, 128, 1e-3, warmup=100, average=0.99),
    "vision": Budget(None, None, 64, 1e-3, warmup=200, average=0.994),
    "diffusion": Budget(None, None, 32, 6e-4, warmup=300, average=0.999, watch_every_s=1800.0),
    "captioner": Budget(None, None, 32, 3e-3, warmup=20),
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
    """Runs one stage; diffusion needs vae and text, the captioner needs all four.

    Args:
        stage: one of `BUDGETS`.
        out: working folder; `cache/miniature` when None.
        steps: stop after so many steps in all, interrupted ones included.
        minutes: stop after so much training time in all.
        device: `cpu` or `cuda`; a GPU where there is one when None.
        fresh: forget the stage's checkpoint and log.

    Raises:
        UserError: on an unknown stage, a budget without end, an earlier stage that is missing or damaged, or
            a checkpoint that is.
    """
    if stage not in BUDGETS:
        raise UserError(f"there is no pretraining stage {stage!r}; choose one of {', '.join(BUDGETS)}")
    hold_memory()
    folder = out or resolve_path(FOLDER)
    budget = replace(BUDGETS[stage], steps=steps, minutes=minutes)
    budget.check_end(stage)  # before pictures are rendered
    weights, where = folder / "weights", resolve_device(device)
    with WorkLock(folder, stage):
        if fresh:
            for path in checkpoint_files(folder, stage):
                path.unlink(missing_ok=True)
        match stage:
            case "vae":
                vae = pretrain_vae(_objects(folder, stage), budget, folder, where)
                _export(vae, weights / "diffusion" / "vae")
            case "text":
                text = pretrain_text(_objects(folder, stage), build_tokenizer(), budget, folder, where)
                _export(text, weights / "diffusion" / "text_encoder")
            case "vision":
                _export(pretrain_vision(_objects(folder, stage), budget, folder, where), weights / "vision")
            case "diffusion":
                _diffusion(budget, folder, where)
            case _:
                _captioner(budget, folder, where)


def _objects(folder: Path, stage: str) -> RenderedObjects:
    return render_objects(folder / "renders", PICTURES[stage])


def _diffusion(budget: Budget, folder: Path, device: torch.device) -> None:
    """Trains the UNet and writes it with autoencoder, text model, tokenizer and scheduler."""
    target = folder / "weights" / "diffusion"
    vae, tokenizer = _load(AutoencoderKL, target / "vae", "vae"), build_tokenizer()
    text = _load(CLIPTextModel, target / "text_encoder", "text")
    teachers = Teachers(vae, text, tokenizer)
    unet = pretrain_diffusion(_objects(folder, "diffusion"), teachers, budget, folder, device)
    for model in (vae, unet, text):
        model.cpu().half()
    vae.register_to_config(_name_or_path="")  # where it lay on this machine is nobody's business
    pipeline = StableDiffusionPipeline(
        vae, text, tokenizer, unet, build_scheduler(), None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(target)


def _captioner(budget: Budget, folder: Path, device: torch.device) -> None:
    """Trains the implicit captioner on the finished models, and draws the model card's pictures."""
    weights = folder / "weights"
    vae = _load(AutoencoderKL, weights / "diffusion" / "vae", "vae")
    unet = _load(UNet2DConditionModel, weights / "diffusion" / "unet", "diffusion")
    text = _load(CLIPTextModel, weights / "diffusion" / "text_encoder", "text")
    model = StableDiffusion(
        unet.to(device),
        vae.to(device),
        ClipTextEncoder(text.to(device), build_tokenizer()),
        build_scheduler(),
    )
    vision = VisionFeatures.from_folder(weights / "vision", load_profile("mini").vision, device=device)
    captioner = pretrain_captioner(_objects(folder, "captioner"), model, vision, budget, folder, device)
    captioner.cpu().save(
        weights / "captioner.safetensors",
        {"trained on": "MiniPair renders, denoising loss", "licence": "Apache-2.0"},
    )
    draw_card(folder)


def _load(kind: Any, folder: Path, stage: str) -> Any:
    """Loads a finished part in fp32."""
    try:
        return load_part(kind, folder.parent, folder.name).float()
    except UserError as error:
        raise UserError(f"{error} Run `sd4match miniature pretrain {stage}` first.") from error


def _export(model: nn.Module, folder: Path) -> None:
    """Writes a finished model in fp16, replacing what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    model.cpu().half().save_pretrained(folder)  # type: ignore[operator]
    model.float()
