"""Prompts: empty, text, the implicit captioner, Single, Class and CPM, behind one interface."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import assert_never

from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import Prompt, PromptBatch, Scope
from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.prompts.checkpoints import load_prompt
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.learned import LearnedPrompt, Space
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.prompts.text import EmptyPrompt, TextPrompt
from sd4match_lib.utils.paths import resolve_path

__all__ = [
    "ClassPrompt",
    "ConditionalPrompt",
    "EmptyPrompt",
    "ImplicitCaptioner",
    "LearnedPrompt",
    "Prompt",
    "PromptBatch",
    "PromptKind",
    "Scope",
    "SinglePrompt",
    "Space",
    "TextPrompt",
    "load_prompt",
    "make_prompt",
]


class PromptKind(StrEnum):
    """The prompts that need no training here, by the names that the command line uses."""

    EMPTY = "empty"
    TEXT = "text"
    CAPTIONER = "captioner"


def make_prompt(kind: PromptKind | str, profile: Profile) -> Prompt:
    """Make a prompt by its name, or load a learned one from its file.

    Args:
        kind: "empty", "text", "captioner", or the path of a learned prompt's `.safetensors` file.
        profile: says where the captioner's weights are.

    Raises:
        UserError: there is no such kind, or the weights are missing or damaged.
    """
    if str(kind).endswith(".safetensors"):
        return load_prompt(Path(kind).expanduser())
    try:
        kind = PromptKind(kind)
    except ValueError:
        raise UserError(
            f"there is no prompt {str(kind)!r}; use one of {', '.join(PromptKind)}, or the .safetensors file "
            "of a learned prompt (`sd4match train` makes one)."
        ) from None
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
