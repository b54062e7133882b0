"""Prompts: empty, text and the implicit captioner, behind one interface."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from sd4match_lib.errors import UserError
from sd4match_lib.paths import resolve_path
from sd4match_lib.profile import Profile
from sd4match_lib.prompts.base import Prompt, PromptBatch, Scope
from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.prompts.text import EmptyPrompt, TextPrompt

__all__ = [
    "EmptyPrompt",
    "ImplicitCaptioner",
    "Prompt",
    "PromptBatch",
    "PromptKind",
    "Scope",
    "TextPrompt",
    "make_prompt",
]


class PromptKind(StrEnum):
    """The prompts that need no training here, by the names that the command line uses."""

    EMPTY = "empty"
    TEXT = "text"
    CAPTIONER = "captioner"


def make_prompt(kind: PromptKind | str, profile: Profile) -> Prompt:
    """Make a prompt by its name.

    Args:
        kind: "empty", "text" or "captioner".
        profile: says where the captioner's weights are.

    Raises:
        UserError: there is no such kind, or the captioner's weights are not there.
    """
    try:
        kind = PromptKind(kind)
    except ValueError:
        raise UserError(f"there is no prompt {str(kind)!r}; use one of {', '.join(PromptKind)}.") from None
    match kind:
        case PromptKind.EMPTY:
            return EmptyPrompt()
        case PromptKind.TEXT:
            return TextPrompt()
        case PromptKind.CAPTIONER:
            return _load_captioner(profile)
        case _:
            assert_never(kind)


def _load_captioner(profile: Profile) -> ImplicitCaptioner:
    path = resolve_path(profile.captioner) if profile.captioner else None
    if path is None or not path.is_file():
        where = f"there is no file {path}" if path else "it names none"
        raise UserError(
            f"profile {profile.name!r} has no captioner weights ({where}); train them with "
            "`sd4match miniature pretrain captioner`, name a file as `captioner` in the profile, or use "
            "another prompt."
        )
    return ImplicitCaptioner.load(path)
