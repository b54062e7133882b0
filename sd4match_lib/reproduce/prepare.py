"""Making data that a profile needs and that can be made: the rendered MiniPair."""

import logging
import os
from pathlib import Path

from sd4match_lib.config.profile import Profile

logger = logging.getLogger(__name__)


def prepare_data(profile: Profile) -> None:
    """Render MiniPair where the profile asks for it and it is not there yet; else do nothing."""
    if profile.prepare:
        from sd4match_lib.miniature.dataset.write import WHOLE, Sizes, ensure_minipair

        sizes = WHOLE if profile.prepare == "minipair-whole" else Sizes()
        ensure_minipair(minipair_root(profile), sizes)


def minipair_root(profile: Profile) -> Path:
    """Return the folder that all of a profile's datasets lie in."""
    return Path(os.path.commonpath([config.path for config in profile.datasets.values()]))
