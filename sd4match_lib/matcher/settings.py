"""How a `Matcher` asks its models: filled in from the profile, and changed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.categories import DEFAULT_CATEGORY, is_category
from sd4match_lib.errors import UserError
from sd4match_lib.features.methods import MethodSettings, method_settings
from sd4match_lib.matcher.options import MatchOptions
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.factory import make_prompt

PromptLike: TypeAlias = Prompt | str | Path
"""A prompt, the name of one, or the path of a learned one's file."""


@dataclass(frozen=True)
class MatcherSettings:
    """How a `Matcher` asks its models.

    Attributes:
        method: the extractor, its layers, timestep and ensemble, and how a point is read out.
        prompt: what the diffusion model is asked with; None for extractors without one.
        category: what pictures of one's own show, for prompts that say so.
        seed: what noises start from.
        options: what is on beside the paper's protocol.
    """

    method: MethodSettings
    prompt: Prompt | None
    category: str
    seed: int
    options: MatchOptions

    @property
    def prompt_kind(self) -> str:
        """The word for the prompt, or "no" where there is none."""
        return str(self.prompt.identity()["kind"]) if self.prompt else "no"


def first_settings(
    profile: Profile,
    extractor: Extractor | str,
    prompt: PromptLike | None,
    category: str | None,
    seed: int | None,
    options: MatchOptions | None,
    **method: Any,
) -> MatcherSettings:
    """Fill in what is None from the profile; see `Matcher.from_profile` for the arguments.

    Raises:
        UserError: there is no such extractor, prompt, matcher or number, or one that means nothing here.
    """
    settings = method_settings(profile, extractor, **method)
    return MatcherSettings(
        method=settings,
        prompt=_prompt(prompt, category, settings.extractor, profile),
        category=_category(category) or DEFAULT_CATEGORY,
        seed=profile.seed if seed is None else seed,
        options=options or MatchOptions(),
    )


def changed_settings(
    profile: Profile,
    settings: MatcherSettings,
    *,
    extractor: Extractor | str | None,
    prompt: PromptLike | None,
    category: str | None,
    options: MatchOptions | None,
    **method: Any,
) -> MatcherSettings:
    """Return settings with all that is not None changed; see `Matcher.with_settings` for the arguments.

    Another extractor begins with the profile's values for it, and keeps the prompt where it takes one.
    """
    given = {name: value for name, value in method.items() if value is not None}
    kind = Extractor(settings.method.extractor)
    if extractor is not None and str(extractor) != kind:
        changed = method_settings(profile, extractor, **given)
    else:
        method_settings(profile, kind, **given)  # refuses what does not exist
        changed = replace(settings.method, **given)
    kept = settings.prompt if changed.extractor.prompted else None
    if prompt is not None or (kept is None and changed.extractor.prompted):
        kept = _prompt(prompt, category, changed.extractor, profile)
    return replace(
        settings,
        method=changed,
        prompt=kept,
        category=_category(category) or settings.category,
        options=options or settings.options,
    )


def _category(category: str | None) -> str | None:
    """The category as it was given, where it is one that prompts and records can name."""
    if category and not is_category(category):
        raise UserError(f"the category is {category!r}; give a word or two, without '/' and new lines.")
    return category


def _prompt(
    prompt: PromptLike | None, category: str | None, extractor: Extractor, profile: Profile
) -> Prompt | None:
    """The prompt asked for; of none, the category's text where there is a category, else the empty one."""
    if prompt is None:
        if not extractor.prompted:
            return None
        prompt = "text" if category else "empty"
    return prompt if isinstance(prompt, Prompt) else make_prompt(str(prompt), profile)
