"""`sd4match rerun`: how far the numbers of one results folder lie from those of another."""

import argparse
import sys

from sd4match_lib.cli.common import Commands, examples
from sd4match_lib.cli.guard import named_path


def add_rerun(commands: Commands) -> None:
    """Add the `rerun` command."""
    parser = commands.add_parser(
        "rerun",
        help="say how far a second run's numbers moved from the first's",
        **examples("sd4match rerun results/mini other-machine/results/mini --out results/mini/tables"),
    )
    parser.add_argument("first", type=named_path, metavar="FIRST", help="a results folder, with its tables")
    parser.add_argument("second", type=named_path, metavar="SECOND", help="another one of the same profile")
    parser.add_argument(
        "--out", type=named_path, metavar="DIR", help="also write rerun.csv and rerun.md there"
    )
    parser.set_defaults(handler=_rerun)


def _rerun(arguments: argparse.Namespace) -> int:
    from sd4match_lib.report.rerun import CAPTION, compare_results, summarise_rerun
    from sd4match_lib.report.tables import markdown_table, write_table

    summary = summarise_rerun(compare_results(arguments.first, arguments.second))
    percent = ["median moved", "most moved"]
    sys.stdout.write(markdown_table(summary, CAPTION, percent=percent))
    if arguments.out:
        write_table(summary, arguments.out, "rerun", CAPTION, percent=percent)
    return 0
