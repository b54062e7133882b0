"""For `torch.hub.load(folder, "matcher", source="local")`: matching points from a checkout, not installed."""

from typing import Any

from sd4match_lib import Matcher

dependencies = ["diffusers", "numpy", "pandas", "PIL", "safetensors", "scipy", "torch", "transformers"]


def matcher(profile: str = "mini", **settings: Any) -> Matcher:
    """Return a matcher that finds points of one picture in another.

    Args:
        profile: a profile's name, or the path of its TOML file.
        settings: what else `Matcher.from_profile` takes: prompt, category, matcher, timestep, device, ...
    """
    return Matcher.from_profile(profile, **settings)
