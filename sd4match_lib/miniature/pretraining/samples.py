"""Pictures that a diffusion model in diffusers layout paints from prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from sd4match_lib.analysis.generate import load_pipeline


def sample_pictures(folder: Path, prompts: Sequence[str], *, steps: int = 30) -> list[Image.Image]:
    """Runs the whole pipeline once for each prompt, each from its own noise (DDIM, guidance of 3).

    Args:
        folder: the model in diffusers layout.
        prompts: what to paint.
        steps: denoising steps.
    """
    pipeline = load_pipeline(folder, torch.float32, "cpu")
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    output = pipeline(list(prompts), num_inference_steps=steps, guidance_scale=3.0, generator=generators)
    pictures: list[Image.Image] = output.images
    return pictures
