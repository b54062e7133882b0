"""The methods that can be evaluated: SD4Match's features under a prompt, and what the paper compares with."""

from dataclasses import dataclass
from typing import assert_never

from sd4match_lib.config.names import MATCHERS, Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError


@dataclass(frozen=True)
class MethodSettings:
    """Everything that a method's matches depend on, besides weights and data.

    `layers` are read, coarse to fine; where no diffusion model runs they are empty, and timestep and the
    number of noises, `ensemble`, are None.
    """

    extractor: Extractor
    matcher: str
    layers: tuple[str, ...] = ()
    timestep: int | None = None
    ensemble: int | None = None


def method_settings(
    profile: Profile,
    extractor: Extractor | str,
    *,
    layer: str | None = None,
    timestep: int | None = None,
    ensemble: int | None = None,
    matcher: str | None = None,
) -> MethodSettings:
    """Fill in what is not given, and means something to the extractor, from the profile.

    Raises:
        UserError: there is no such extractor, or a setting does not apply to it.
    """
    try:
        extractor = Extractor(extractor)
    except ValueError:
        raise UserError(
            f"there is no extractor {str(extractor)!r}; use one of {', '.join(Extractor)}."
        ) from None
    given = {"layer": layer, "timestep": timestep, "ensemble": ensemble}
    for name, value in given.items():
        if value is not None and (not extractor.prompted or (extractor.fused and name == "layer")):
            raise UserError(f"{name} means nothing to the extractor {extractor.value!r}; leave it out.")
    if timestep is not None and not 0 <= timestep < 1000:
        raise UserError(f"timestep is {timestep}; diffusion steps run from 0 to 999.")
    if ensemble is not None and not 1 <= ensemble <= 1000:
        raise UserError(f"ensemble is {ensemble}; average 1 to 1000 noises.")
    defaults = _defaults(profile, extractor)
    matcher = matcher or defaults.matcher
    if matcher not in MATCHERS:
        raise UserError(f"there is no matcher {matcher!r}; use one of {', '.join(MATCHERS)}.")
    return MethodSettings(
        extractor=extractor,
        matcher=matcher,
        layers=(layer,) if layer is not None else defaults.layers,
        timestep=timestep if timestep is not None else defaults.timestep,
        ensemble=ensemble if ensemble is not None else defaults.ensemble,
    )


def _defaults(profile: Profile, extractor: Extractor) -> MethodSettings:
    match extractor:
        case Extractor.SD:
            own = profile.features
            matcher = profile.evaluation.matcher
            return MethodSettings(extractor, matcher, (own.layer,), own.timestep, own.ensemble)
        case Extractor.DIFT:
            dift = profile.baselines.dift
            return MethodSettings(extractor, dift.matcher, (dift.layer,), dift.timestep, dift.ensemble)
        case Extractor.SD_DINO | Extractor.SD_DINO_STAR:
            fused = profile.baselines.sd_dino
            return MethodSettings(extractor, fused.matcher, fused.layers, fused.timestep, fused.ensemble)
        case Extractor.DINOV2 | Extractor.DINO | Extractor.RAW_LATENTS | Extractor.RAW_PIXELS:
            return MethodSettings(extractor, "nn")
        case _:
            assert_never(extractor)
