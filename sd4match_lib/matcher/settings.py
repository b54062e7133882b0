"""How a `Matcher` asks its models: filled in from the profile, and changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from sd4match_lib.config.profile import Profile
from sd4match_lib.features.methods import Baseline, method_settings
from sd4match_lib.matcher.options import MatchOptions
from sd4match_lib.matcher.picture import DEFAULT_CATEGORY
from sd4match_lib.matching.match import Method, parse_method
from sd4match_lib.prompts import Prompt, PromptKind, make_prompt

PromptLike: TypeAlias = Prompt | PromptKind | str | Path
"""A prompt, the name of one, or the path of a learned one's file."""


@dataclass(frozen=True)
class MatcherSettings:
    """How a `Matcher` asks its models.

    Attributes:
        prompt: what the UNet is asked with.
        category: what pictures of one's own show, for prompts that say so.
        method: how a point is read out of its correlation map.
        timestep: diffusion step.
        ensemble: number of noises averaged.
        seed: what they start from.
        options: what is on beside the paper's protocol.
    """

    prompt: Prompt
    category: str
    method: Method
    timestep: int
    ensemble: int
    seed: int
    options: MatchOptions


def first_settings(
    profile: Profile,
    prompt: PromptLike | None,
    category: str | None,
    matcher: Method | str | None,
    seed: int | None,
    options: MatchOptions | None,
    **numbers: int | None,
) -> MatcherSettings:
    """Fill in what is None from the profile; see `Matcher.from_profile` for the arguments.

    Raises:
        UserError: there is no such prompt, matcher or number.
    """
    checked = method_settings(profile, Baseline.SD, matcher=matcher, **numbers)
    assert checked.timestep is not None and checked.ensemble is not None
    chosen = prompt if prompt is not None else (PromptKind.TEXT if category else PromptKind.EMPTY)
    return MatcherSettings(
        prompt=_prompt(chosen, profile),
        category=category or DEFAULT_CATEGORY,
        method=checked.matcher,
        timestep=checked.timestep,
        ensemble=checked.ensemble,
        seed=profile.seed if seed is None else seed,
        options=options or MatchOptions(),
    )


def changed_settings(
    profile: Profile,
    settings: MatcherSettings,
    prompt: PromptLike | None,
    category: str | None,
    matcher: Method | str | None,
    timestep: int | None,
    options: MatchOptions | None,
) -> MatcherSettings:
    """Return settings with all that is not None changed; see `Matcher.with_settings` for the arguments.

    Raises:
        UserError: there is no such prompt, matcher or timestep.
    """
    changes: dict[str, Any] = {"category": category, "options": options, "timestep": timestep}
    method_settings(profile, Baseline.SD, timestep=timestep)  # refuses a timestep that does not exist
    if prompt is not None:
        changes["prompt"] = _prompt(prompt, profile)
    if matcher is not None:
        changes["method"] = parse_method(matcher)
    return replace(settings, **{name: value for name, value in changes.items() if value is not None})


def _prompt(prompt: PromptLike, profile: Profile) -> Prompt:
    if isinstance(prompt, Prompt):
        return prompt
    return make_prompt(prompt if isinstance(prompt, PromptKind) else str(prompt), profile)
