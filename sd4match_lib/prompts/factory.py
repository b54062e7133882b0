"""A prompt to be trained, from its word and its options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.checkpoints import LEARNED
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.utils.reading import read_json


def new_prompt(
    kind: str, profile: Profile, categories: Sequence[str], options: Mapping[str, Any]
) -> LearnedPrompt:
    """Make a prompt of the right widths for the profile's models; its weights are not set yet.

    Args:
        kind: "single", "class" or "cpm".
        profile: whose models the prompt is for; only their `config.json` is read.
        categories: that a class prompt is for.
        options: keyword arguments of the prompt's class, such as `length`, `init`, `space`, `conditioning`.

    Raises:
        UserError: there is no such prompt or option, or a model is missing.
    """
    if kind not in LEARNED:
        raise UserError(f"there is no prompt {kind!r} to train; use one of {', '.join(LEARNED)}.")
    cls = LEARNED[kind]
    known = [
        name
        for name, p in inspect.signature(cls).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(f"a {kind} prompt has no option {unknown[0]!r}; it has: {', '.join(known)}.")
    folder = find_diffusion(profile.model, profile.cache_path).folder
    sizes: dict[str, Any] = {"token_width": read_json(folder / "text_encoder" / "config.json")["hidden_size"]}
    if kind == "class":
        sizes["categories"] = list(categories)
    if cls.needs_vision:
        vision = read_json(find_vision(profile.vision, profile.cache_path).folder / "config.json")
        sizes["vision_width"] = vision["hidden_size"]
        sizes["patches"] = (profile.vision.crop // vision["patch_size"]) ** 2
    return cls(**sizes, **options)
