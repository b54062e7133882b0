"""Prompts by their names and from their files; the names are in `config.names`."""

import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sd4match_lib.backbones.loading import config_number
from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.names import BACKBONES, LEARNED_PROMPTS, PROMPTS
from sd4match_lib.config.profile import Profile
from sd4match_lib.errors import UserError
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.prompts.mixture import LayerMixture
from sd4match_lib.prompts.prompt_file import read_prompt_file, restore_module
from sd4match_lib.utils.paths import package_path, user_path

PROMPT_FILE = "prompt.safetensors"
"""A learned prompt's weights in the folder of its training, and in one that travels."""
_MOST_ROWS = 1000
"""No text model has so many positions; how many fit this one, `learned.check_fit` says once it is loaded."""


def shipped_prompts() -> dict[str, Path]:
    """The learned prompts that come with the miniature, by name ("mini/class"); its model card lists them."""
    files = sorted(package_path("miniature/weights/prompts").glob("*.safetensors"))
    return {f"mini/{path.stem}": path for path in files}


def make_prompt(name: str, profile: Profile) -> Prompt:
    """Make a prompt by its name, or load a learned one from its `.safetensors` file or the folder with it.

    Raises:
        UserError: there is no such prompt, or its weights are missing or damaged.
    """
    shipped = shipped_prompts()
    if name in shipped:
        return load_prompt(shipped[name])
    if name not in PROMPTS:
        if name.endswith(".safetensors") or os.path.isdir(os.path.expanduser(name)):
            return load_prompt(name)
        raise UserError(
            f"there is no prompt {name!r}; use one of {', '.join([*PROMPTS, *shipped])}, or the .safetensors "
            "file of a learned prompt (`sd4match train` makes one)."
        )
    prompt: Prompt = PROMPTS.load(name).from_profile(profile)
    return prompt


def load_prompt(path: Path | str) -> LearnedPrompt:
    """Load a learned prompt, frozen; its `.safetensors` file says itself which kind of prompt it holds.

    Args:
        path: the file, or a folder with it: a training's run, or what `hub.save_pretrained` wrote.

    Raises:
        UserError: the file is missing, cut off, or holds something else.
    """
    path = user_path(path)
    path = path / PROMPT_FILE if path.is_dir() else path
    content = read_prompt_file(path, tuple(LEARNED_PROMPTS))
    prompt = restore_module(partial(_make, LEARNED_PROMPTS.load(content.kind)), content, path)
    prompt.about = content.about
    return prompt


def new_prompt(
    name: str, profile: Profile, categories: Sequence[str], options: Mapping[str, Any]
) -> LearnedPrompt:
    """Make a prompt of the right widths for the profile's models; its weights are not set yet.

    A prompt's class gets those of `token_width`, `categories`, `vision_width` and `patches` that its
    constructor names as positional parameters.

    Args:
        name: one of `LEARNED_PROMPTS`.
        profile: whose models the prompt is for; only their `config.json` is read.
        categories: that the training pairs show.
        options: the constructor's keyword-only arguments, such as `length`, `init`, `space`, `condition_on`.

    Raises:
        UserError: there is no such prompt or option, or a model is missing.
    """
    cls: type[LearnedPrompt] = LEARNED_PROMPTS.load(name)
    parameters = inspect.signature(cls).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(f"a {name} prompt has no option {unknown[0]!r}; it has: {', '.join(known)}.")
    for option, value in options.items():
        _check_option(name, option, value, known[option])
    folder = find_diffusion(profile.model, profile.cache_path).folder
    backbone = BACKBONES.load(profile.model.backbone)
    sizes: dict[str, Any] = {"token_width": backbone.token_width(folder), "categories": list(categories)}
    if cls.needs_vision:
        vision = find_vision(profile.vision, profile.cache_path).folder / "config.json"
        sizes["vision_width"] = config_number(vision, "hidden_size")
        sizes["patches"] = (profile.vision.crop // config_number(vision, "patch_size")) ** 2
    wanted = {p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    known_sizes = {key: value for key, value in sizes.items() if key in wanted}
    return _make(cls, profile.training.mixture, **known_sizes, **options)


def _make(cls: type[LearnedPrompt], mixture: Sequence[str] = (), **config: Any) -> LearnedPrompt:
    """Make a prompt of its configuration, and of the layers that it mixes, if any."""
    prompt = cls(**config)
    if mixture:
        prompt.mixture = LayerMixture(mixture)
    return prompt


def _check_option(kind: str, name: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than the option's default, and lengths that no text model has."""
    if type(default) is int:
        if type(value) is not int or not 1 <= value <= _MOST_ROWS:
            raise UserError(
                f"{name} of a {kind} prompt is {value!r}; use a whole number of rows, such as {default}."
            )
    elif isinstance(default, bool) and type(value) is not bool:
        raise UserError(f"{name} of a {kind} prompt is {value!r}; use True or False.")
    elif isinstance(default, str) and not isinstance(value, str):
        raise UserError(f"{name} of a {kind} prompt is {value!r}; use a text, such as {str(default)!r}.")
