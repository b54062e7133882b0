"""SD4Match, reproduced: learned prompts that make Stable Diffusion match points between pictures.

The package follows the way of the data: ``data`` -> ``features`` (which need a prompt) -> ``matching`` ->
``metrics`` -> ``report``. Importing it loads nothing heavy and changes nothing; the README says where to
begin. The names below are what notebooks and scripts begin with; asking for one is what loads its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.evaluation.evaluate import evaluate
    from sd4match_lib.matcher.matcher import Matcher
    from sd4match_lib.matcher.options import MatchOptions
    from sd4match_lib.prompts.base import Prompt
    from sd4match_lib.training.train import train

__version__ = "1.0.0"
__all__ = ["MatchOptions", "Matcher", "Prompt", "__version__", "evaluate", "load_profile", "train"]

_PLACES = {
    "MatchOptions": "matcher.options",
    "Matcher": "matcher.matcher",
    "Prompt": "prompts.base",
    "evaluate": "evaluation.evaluate",
    "load_profile": "config.profile",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
