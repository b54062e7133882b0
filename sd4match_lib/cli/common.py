"""What several `sd4match` commands share: help with examples, options, and opening the profile."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from sd4match_lib.cli.guard import at_least, named_path
from sd4match_lib.config.names import MATCHERS, Extractor

if TYPE_CHECKING:
    from sd4match_lib.config.profile import Profile
    from sd4match_lib.runs.distributed import ProcessGroup

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What commands are added to."""

_HERE = "instead of the profile's"
_SHARED: dict[str, dict[str, Any]] = {
    "--profile": {
        "default": "mini",
        "metavar": "P",
        "help": "mini (default), overnight, smoke, paper, or the path of a .toml file",
    },
    "--dataset": {"required": True, "help": "a dataset of the profile, e.g. spair"},
    "--data-root": {"type": named_path, "metavar": "DIR", "help": f"where the dataset is, {_HERE} folder"},
    "--split": {"default": "test", "help": "test (default), val or train"},
    "--extractor": {
        "choices": [str(name) for name in Extractor],
        "default": "sd",
        "help": "the method; default: sd, SD4Match's own",
    },
    "--timestep": {"type": at_least(0), "metavar": "T", "help": f"diffusion step, {_HERE}"},
    "--matcher": {"choices": list(MATCHERS), "help": _HERE},
    "--max-pairs": {"type": int, "metavar": "N", "help": "an evenly spaced subset of N pairs"},
    "--device": {"help": "cpu or cuda; default: a GPU where there is one"},
    "--results": {"type": named_path, "metavar": "DIR", "help": f"where the run is kept, {_HERE} folder"},
}
"""Options that mean the same in every command that has them."""


def examples(*lines: str) -> dict[str, Any]:
    """Return the options of `add_parser` that put examples, as one would type them, below the help."""
    text = "\n".join(["examples:", *(f"  {line}" for line in lines)])
    return {"epilog": text, "formatter_class": argparse.RawDescriptionHelpFormatter}


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options that several commands share, by their names, such as "--profile"."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])


def open_shared(
    arguments: argparse.Namespace, check: Callable[[Profile], object]
) -> tuple[Profile, ProcessGroup]:
    """Open the profile of a command that processes may share, with the data that it generates in place.

    Args:
        arguments: with `profile`, `device`, `dataset` and `data_root`.
        check: refuses what else is wrong with the request, before anything is rendered.

    Raises:
        UserError: there is no such profile, data set or device, or `check` refuses.
    """
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.reproduce.prepare import prepare_data
    from sd4match_lib.runs.distributed import current_group

    profile = load_profile(arguments.profile)
    group = current_group(arguments.device)
    group.device(arguments.device)  # a device that is not there is said before anything is rendered
    if arguments.data_root is None:
        profile.dataset(arguments.dataset)
        check(profile)
        if group.main:
            prepare_data(profile)
        group.barrier()
    return profile, group
