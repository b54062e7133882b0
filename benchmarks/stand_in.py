"""Models of SD2-1's and DINOv2-base's true shapes that know nothing: for what hangs on sizes alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sd4match_lib.backbones.stand_in import build_text_model, build_unet, build_vae
from sd4match_lib.miniature.pretraining.networks import build_scheduler
from sd4match_lib.miniature.pretraining.vocabulary import build_tokenizer


def build_vision() -> Any:
    """Return a vision model of DINOv2-base's shapes."""
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(
        Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, image_size=518)
    )


def write_stand_in(folder: Path, minipair: Path, *, side: int = 768) -> Path:
    """Write the models in bfloat16 (some 3 GB), and a profile like `paper` on them.

    Args:
        folder: where models, results and cache go.
        minipair: MiniPair's folder in SPair-71k's layout.
        side: of the network's input in pixels.

    Returns:
        The profile's file.
    """
    sd = folder / "sd"
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        for build, part in ((build_unet, "unet"), (build_vae, "vae"), (build_text_model, "text_encoder")):
            build().save_pretrained(sd / part)
        build_vision().save_pretrained(folder / "dinov2")
    finally:
        torch.set_default_dtype(torch.float32)
    build_tokenizer().save_pretrained(sd / "tokenizer")
    build_scheduler().save_pretrained(sd / "scheduler")
    path = folder / "stand_in.toml"
    path.write_text(
        'extends = "paper"\nname = "stand_in"\n'
        f'results_dir = "{folder}/results"\ncache_dir = "{folder}/cache"\n'
        f'[model]\nsources = ["{sd}"]\nimage_hw = [{side}, {side}]\ndtype = "bfloat16"\n'
        f'[vision]\nsources = ["{folder}/dinov2"]\n'
        f'[features]\nensemble = 1\n[datasets.spair]\nroot = "{minipair}"\n'
        "[datasets.spair.max_pairs]\ntrain = 2\nval = 1\ntest = 2\n"
        "[training]\nsteps = 2\nbatch_size = 2\naccumulate = 2\nvalidate_every = 2\nvalidation_pairs = 1\n",
        encoding="utf-8",
    )
    return path
