"""SD4Match, reproduced: learned prompts that make Stable Diffusion match points between pictures.

The package follows the way of the data: ``data`` -> ``features`` (which need a prompt) -> ``matching`` ->
``pck`` -> ``report``. Importing it loads nothing heavy and changes nothing; the README says where to begin.
`Matcher`, with `MatchOptions`, matches pictures of your own; asking for it is what loads PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd4match_lib.matcher.matcher import Matcher
    from sd4match_lib.matcher.options import MatchOptions

__version__ = "0.1.0"
__all__ = ["MatchOptions", "Matcher", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Matcher":
        from sd4match_lib.matcher.matcher import Matcher

        return Matcher
    if name == "MatchOptions":
        from sd4match_lib.matcher.options import MatchOptions

        return MatchOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
