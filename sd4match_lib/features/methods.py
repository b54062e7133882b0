"""The methods that can be evaluated: SD4Match's features under a prompt, and what the paper compares with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.matching.match import Method, parse_method


class Baseline(StrEnum):
    """The feature extractors (method, section 7), by the names that the command line uses."""

    SD = "sd"
    """The profile's own features, under any prompt: SD4Match."""
    DIFT = "dift"
    SD_DINO = "sd_dino"
    SD_DINO_STAR = "sd_dino_star"
    DINOV2 = "dinov2"
    DINO = "dino"
    RAW_LATENTS = "raw_latents"
    """Clean VAE latents, without any UNet."""
    RAW_PIXELS = "raw_pixels"

    @property
    def prompted(self) -> bool:
        """Whether a UNet runs, so that prompt, timestep and ensemble mean something."""
        return self in (Baseline.SD, Baseline.DIFT, Baseline.SD_DINO, Baseline.SD_DINO_STAR)


@dataclass(frozen=True)
class MethodSettings:
    """Everything that a method's matches depend on, besides weights and data.

    Attributes:
        baseline: the feature extractor.
        matcher: the matching method.
        up_blocks: the up blocks read, coarse to fine; empty where no UNet runs.
        timestep: diffusion step, or None.
        ensemble: number of noises, or None.
    """

    baseline: Baseline
    matcher: Method
    up_blocks: tuple[int, ...] = ()
    timestep: int | None = None
    ensemble: int | None = None


def method_settings(
    profile: Profile,
    baseline: Baseline | str,
    *,
    up_block: int | None = None,
    timestep: int | None = None,
    ensemble: int | None = None,
    matcher: Method | str | None = None,
) -> MethodSettings:
    """Fill in what is not given from the profile.

    Args:
        profile: the experiment.
        baseline: the feature extractor.
        up_block: overrides the profile's, for methods that read one block.
        timestep: overrides the profile's, for methods that run a UNet.
        ensemble: overrides the profile's, for methods that run a UNet.
        matcher: overrides the method's.

    Raises:
        UserError: there is no such baseline, or a setting does not apply to it.
    """
    try:
        baseline = Baseline(baseline)
    except ValueError:
        raise UserError(
            f"there is no baseline {str(baseline)!r}; use one of {', '.join(Baseline)}."
        ) from None
    given = {"up_block": up_block, "timestep": timestep, "ensemble": ensemble}
    fused = baseline in (Baseline.SD_DINO, Baseline.SD_DINO_STAR)
    for name, value in given.items():
        if value is not None and (not baseline.prompted or (fused and name == "up_block")):
            raise UserError(f"{name} means nothing to the baseline {baseline.value!r}; leave it out.")
    if timestep is not None and not 0 <= timestep < 1000:
        raise UserError(f"timestep is {timestep}; diffusion steps run from 0 to 999.")
    if ensemble is not None and ensemble < 1:
        raise UserError(f"ensemble is {ensemble}; average at least 1 noise.")
    defaults = _defaults(profile, baseline)
    return MethodSettings(
        baseline=baseline,
        matcher=parse_method(matcher if matcher is not None else defaults.matcher),
        up_blocks=(up_block,) if up_block is not None else defaults.up_blocks,
        timestep=timestep if timestep is not None else defaults.timestep,
        ensemble=ensemble if ensemble is not None else defaults.ensemble,
    )


def _defaults(profile: Profile, baseline: Baseline) -> MethodSettings:
    match baseline:
        case Baseline.SD:
            own = profile.features
            matcher = Method(profile.evaluation.matcher)
            return MethodSettings(baseline, matcher, (own.up_block,), own.timestep, own.ensemble)
        case Baseline.DIFT:
            dift = profile.baselines.dift
            return MethodSettings(
                baseline, Method(dift.matcher), (dift.up_block,), dift.timestep, dift.ensemble
            )
        case Baseline.SD_DINO | Baseline.SD_DINO_STAR:
            fused = profile.baselines.sd_dino
            return MethodSettings(
                baseline, Method(fused.matcher), fused.up_blocks, fused.timestep, fused.ensemble
            )
        case Baseline.DINOV2 | Baseline.DINO | Baseline.RAW_LATENTS | Baseline.RAW_PIXELS:
            return MethodSettings(baseline, Method.NN)
        case _:
            assert_never(baseline)
