"""`sd4match notebooks`: a folder with the notebooks to work in."""

import argparse
import sys

from sd4match_lib.cli.common import Commands, examples
from sd4match_lib.cli.guard import named_path


def add_notebooks(commands: Commands) -> None:
    """Add the `notebooks` command."""
    parser = commands.add_parser(
        "notebooks",
        help="write the notebooks to a folder to work in",
        **examples("sd4match notebooks textbook"),
    )
    parser.add_argument(
        "folder", type=named_path, metavar="DIR", help="made when missing; no file is overwritten"
    )
    parser.set_defaults(handler=_notebooks)


def _notebooks(arguments: argparse.Namespace) -> int:
    from sd4match_lib.reproduce.textbook import write_notebooks

    written = write_notebooks(arguments.folder)
    sys.stdout.write(
        f"{len(written)} notebooks are in {arguments.folder}; begin with: jupyter-lab {written[0]}\n"
        "What they compute is kept in results/, data/ and cache/ beside them.\n"
    )
    return 0
