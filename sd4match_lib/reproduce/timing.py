"""How long the paper's notebooks take on a device, from a few steps timed there."""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sd4match_lib.backbones.base import DiffusionBackbone
from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.cut import cut_unet
from sd4match_lib.backbones.device import resolve_dtype
from sd4match_lib.backbones.latents import Latents
from sd4match_lib.backbones.stable_diffusion import StableDiffusion, block_index
from sd4match_lib.backbones.stand_in import build_text_model, build_unet, build_vae
from sd4match_lib.backbones.weights import find_diffusion
from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.features.loaded import diffusion_model
from sd4match_lib.report.comparison import PASS_TFLOP, Rate, gpu_hours
from sd4match_lib.report.items import ITEMS
from sd4match_lib.runs.machine import describe_device

_REPETITIONS = 3


def time_notebooks(profile: Profile, device: torch.device) -> Iterator[tuple[str, str]]:
    """Time the UNet on a device at a profile's size, and say what the paper's notebooks would take there.

    Args:
        profile: whose network input, type, batch sizes and ensemble are timed; with random weights of SD2-1's
            shapes where its model is not here.
        device: where.

    Yields:
        What was timed or estimated, and the answer in words.

    Raises:
        UserError: the model is not here, and is of another family than SD2-1.
        torch.OutOfMemoryError: a training step does not fit.
    """
    model, known = _model(profile, device)
    rate = measure_rate(profile, model)
    yield (
        describe_device(str(device)),
        f"measured: {1000 * rate.pass_s:.1f} ms for a picture through the UNet "
        f"({PASS_TFLOP / rate.pass_s:.0f} TFLOP/s if it is SD2-1 at 768), "
        f"{1000 * rate.pair_s:.0f} ms for a pair in training"
        f"{'' if known else '; with random weights, as the model is not here'}",
    )
    for item in ITEMS:
        hours = gpu_hours(item.cost, rate)
        if hours:
            told = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
            yield item.notebook, f"passes counted, at the measured rate: {told}"
    total = sum(gpu_hours(item.cost, rate) for item in ITEMS)
    yield (
        "all notebooks",
        f"passes counted, at the measured rate: {total:.0f} hours, less what is read from earlier runs; "
        "reading and encoding pictures is not in it",
    )


def measure_rate(profile: Profile, model: DiffusionBackbone) -> Rate:
    """Time passes and training steps of a profile's size; the first of each, which compiles, is left out."""
    layer, features, training = profile.features.layer, profile.features, profile.training
    pairs = -(-training.batch_size // training.accumulate)
    tokens = torch.zeros(pairs, model.text.length, model.text.width, device=model.device)

    def read(count: int, context: Tensor, ensemble: int) -> Tensor:
        shape = count, *model.latent_shape(profile.model.image_hw)
        names = [str(index) for index in range(count)]
        settings = {"timestep": features.timestep, "ensemble": ensemble}
        (maps,) = model.features(Latents(*torch.zeros(2, *shape)), names, context, (layer,), **settings)
        return maps

    def evaluate() -> None:
        with torch.no_grad():
            read(2 * profile.evaluation.batch_size, model.text.encode_tokens(tokens[:1]), features.ensemble)

    def train() -> None:
        context = model.text.encode_tokens(tokens.requires_grad_()).repeat(2, 1, 1)
        read(2 * pairs, context, 1).square().mean().backward()

    passes = 2 * profile.evaluation.batch_size * features.ensemble
    pass_s = _seconds(evaluate, model.device) / passes
    with model.learning(checkpoint_activations=training.checkpoint_activations):
        return Rate(pass_s, _seconds(train, model.device) / pairs)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    """The median of some repetitions, after one that does not count."""
    taken = []
    for _ in range(_REPETITIONS + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def _model(profile: Profile, device: torch.device) -> tuple[DiffusionBackbone, bool]:
    """The profile's model, or one of SD2-1's shapes; and whether it is the profile's."""
    config, layer = profile.model, profile.features.layer
    try:
        found = find_diffusion(config, profile.cache_path, download=False)
    except UserError:
        if config.backbone != "stable_diffusion":
            raise
        return _random_model(profile, device), False
    return diffusion_model(found, config, (layer,), device), True


def _random_model(profile: Profile, device: torch.device) -> StableDiffusion:
    from diffusers import DDIMScheduler

    dtype, layer = resolve_dtype(profile.model.dtype), profile.features.layer
    with device:
        unet, vae, text = build_unet(), build_vae(), build_text_model()
    cut_unet(unet, block_index(layer, len(unet.up_blocks)))
    model = StableDiffusion(unet.to(dtype), vae, ClipTextEncoder(text.to(dtype), str), DDIMScheduler())
    if profile.model.fast:
        model.make_fast((layer,))
    return model
