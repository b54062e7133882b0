"""What several `sd4match` commands share: help with examples, naming a profile, and opening it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sd4match_lib.config.profile import Profile
    from sd4match_lib.runs.distributed import ProcessGroup


def examples(*lines: str) -> dict[str, Any]:
    """Return the options of `add_parser` that put examples, as one would type them, below the help."""
    text = "\n".join(["examples:", *(f"  {line}" for line in lines)])
    return {"epilog": text, "formatter_class": argparse.RawDescriptionHelpFormatter}


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the profile."""
    parser.add_argument(
        "--profile",
        default="mini",
        metavar="P",
        help="mini (default), smoke, paper, or the path of a .toml file",
    )


def open_shared(arguments: argparse.Namespace) -> tuple[Profile, ProcessGroup]:
    """Open the profile of a command that processes may share, with the data that it generates in place.

    Args:
        arguments: with `profile`, `device`, `dataset` and `data_root`.

    Raises:
        UserError: there is no such profile or data set.
    """
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.reproduce.prepare import prepare_data
    from sd4match_lib.runs.distributed import current_group

    profile = load_profile(arguments.profile)
    group = current_group(arguments.device)
    if arguments.data_root is None:
        profile.dataset(arguments.dataset)
        if group.main:
            prepare_data(profile)
        group.barrier()
    return profile, group
