"""Pictures that a diffusion model in diffusers layout paints from prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from sd4match_lib.analysis.generate import load_pipeline


def sample_pictures(
    folder: Path, prompts: Sequence[str], *, steps: int = 30, guidance: float = 3.0, seed: int = 0
) -> list[Image.Image]:
    """Runs the whole pipeline once for each prompt, each from its own noise (DDIM, classifier-free guidance).

    Args:
        folder: the model in diffusers layout.
        prompts: what to paint.
        steps: denoising steps.
        guidance: weight of the guidance, 1 is none.
        seed: picture `i` starts from noise `seed + i`.
    """
    pipeline = load_pipeline(folder, torch.float32, "cpu")
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    output = pipeline(list(prompts), num_inference_steps=steps, guidance_scale=guidance, generator=generators)
    pictures: list[Image.Image] = output.images
    return pictures
