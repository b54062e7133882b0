"""Pictures that the profile's whole diffusion model paints from a prompt, learned or not (Figs. 4, 5, 7, 8).

A learned prompt was never asked to paint; what comes out when one asks shows what it has learned (Sec. 4.4).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sd4match_lib.analysis.prompts import pair_batch
from sd4match_lib.backbones.base import TextEncoder
from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.device import resolve_device, resolve_dtype
from sd4match_lib.backbones.latents import image_noise
from sd4match_lib.backbones.loading import quiet_loading
from sd4match_lib.backbones.weights import find_diffusion
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair
from sd4match_lib.errors import UserError
from sd4match_lib.images import stretch_image, to_tensor
from sd4match_lib.prompts.base import Prompt, PromptBatch
from sd4match_lib.prompts.factory import make_prompt
from sd4match_lib.utils.progress import progress


def paint(
    profile: Profile,
    requests: Mapping[str, tuple[Prompt | str, Pair]],
    *,
    seeds: Sequence[int] = (0,),
    steps: int = 30,
    guidance: float = 3.0,
    device: str | None = None,
) -> dict[str, list[Image.Image]]:
    """Paint pictures from prompts with DDIM and classifier-free guidance.

    Args:
        profile: says which model, and at which size it paints.
        requests: a name to a prompt and the pair that it looks at; a prompt of scope image sees the source,
            and for prompts of a category only the pair's category matters.
        seeds: one picture per prompt and seed; the same seed starts from the same noise under every prompt.
        steps: denoising steps.
        guidance: weight of the guidance away from the empty prompt; 1 is none.
        device: "cpu" or "cuda"; None is a GPU where there is one.

    Returns:
        Each name's pictures, in the order of the seeds.

    Raises:
        UserError: no seeds, too few steps, or a model is missing.
    """
    if not seeds or steps < 1:
        raise UserError(f"there are {len(seeds)} seeds and {steps} steps; use at least 1 of each.")
    where = resolve_device(device)
    folder = find_diffusion(profile.model, profile.cache_path).folder
    pipeline = load_pipeline(folder, resolve_dtype(profile.model.dtype), where)
    encoder = ClipTextEncoder(pipeline.text_encoder, pipeline.tokenizer)
    pictures = {}
    for name, (wanted, pair) in progress(list(requests.items()), description="painting", unit="prompt"):
        prompt = wanted if isinstance(wanted, Prompt) else make_prompt(wanted, profile)
        with torch.no_grad():
            context = prompt.to(where).eval().context(_batch(profile, prompt, pair), encoder)
        pictures[name] = _run(pipeline, encoder, context, seeds, steps, guidance, profile.model.image_hw)
    return pictures


def noised_pictures(
    profile: Profile, record: ImageRecord, timesteps: Sequence[int], *, seed: int = 0
) -> dict[int, Image.Image]:
    """Show what is left of a picture at diffusion steps, 0 to 999: its latents, noised alike and decoded.

    Returns:
        A picture of the network input's size for each step.
    """
    pipeline = load_pipeline(find_diffusion(profile.model, profile.cache_path).folder, torch.float32, "cpu")
    vae, scale = pipeline.vae, pipeline.vae.config.scaling_factor
    image = to_tensor(stretch_image(record.read(), profile.model.image_hw))[None]
    shown = {}
    with torch.no_grad():
        clean = vae.encode(image).latent_dist.mean * scale
        noise = image_noise(seed, record.image_id, 0, clean.shape[1:])[None]
        for t in timesteps:
            decoded = vae.decode(pipeline.scheduler.add_noise(clean, noise, torch.tensor([t])) / scale).sample
            shown[t] = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    return shown


def load_pipeline(folder: Path, dtype: torch.dtype, device: torch.device | str) -> Any:
    """Put diffusers' own `StableDiffusionPipeline` together, silent and without a safety checker.

    A folder in diffusers layout without `model_index.json` is welcome.
    """
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging as transformers_logging

    told = transformers_logging.get_verbosity()
    # Importing the pipeline looks at image processors that nothing here uses, and warns about them.
    transformers_logging.set_verbosity_error()
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    transformers_logging.set_verbosity(told)
    parts: dict[str, Any] = {}
    with quiet_loading():
        for name, kind in (
            ("unet", UNet2DConditionModel),
            ("vae", AutoencoderKL),
            ("text_encoder", CLIPTextModel),
        ):
            parts[name] = kind.from_pretrained(
                folder, subfolder=name, local_files_only=True, dtype=dtype
            ).eval()
        for name, kind in (("tokenizer", CLIPTokenizer), ("scheduler", DDIMScheduler)):
            parts[name] = kind.from_pretrained(folder, subfolder=name, local_files_only=True)
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _batch(profile: Profile, prompt: Prompt, pair: Pair) -> PromptBatch:
    if prompt.needs_vision:
        return pair_batch(profile, [pair])
    return PromptBatch((pair.src.image_id,), (pair.category,), (pair.trg.image_id,))


def _run(
    pipeline: Any,
    encoder: TextEncoder,
    context: Tensor,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    hw: tuple[int, int],
) -> list[Image.Image]:
    # Noise is drawn on the CPU, seed by seed, so that a picture depends on neither device nor company.
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    output = pipeline(
        prompt_embeds=context.to(encoder.dtype).expand(len(seeds), -1, -1),
        negative_prompt_embeds=encoder.encode_prompt([""]).expand(len(seeds), -1, -1),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators,
        height=hw[0],
        width=hw[1],
    )
    return list(output.images)
