"""`sd4match leaderboard`: every system that was measured on a split, ranked."""

import argparse
import sys

from sd4match_lib.cli.common import Commands, add_options, examples
from sd4match_lib.cli.guard import named_path


def add_leaderboard(commands: Commands) -> None:
    """Add the `leaderboard` command."""
    parser = commands.add_parser(
        "leaderboard",
        help="rank every system that was evaluated or scored on a whole split",
        **examples("sd4match leaderboard --dataset spair", "sd4match leaderboard --dataset pf_willow"),
    )
    add_options(parser, "--profile", "--dataset", "--split")
    parser.add_argument(
        "--results",
        type=named_path,
        metavar="DIR",
        help="where the runs are, instead of the profile's folder",
    )
    parser.set_defaults(handler=_leaderboard)


def _leaderboard(arguments: argparse.Namespace) -> int:
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.evaluation.evaluate import check_pairs, open_pairs
    from sd4match_lib.report.leaderboard import measured_systems, rank, write_leaderboard
    from sd4match_lib.report.summary import summarise_ranking
    from sd4match_lib.reproduce.prepare import prepare_data
    from sd4match_lib.utils.files import refuse_links

    profile = load_profile(arguments.profile)
    check_pairs(profile, arguments.dataset, arguments.split, None, None)
    prepare_data(profile)
    pairs = open_pairs(profile, arguments.dataset, arguments.split, None, None)
    root = arguments.results or profile.results_path
    refuse_links(root, root)
    systems = measured_systems(profile, arguments.dataset, arguments.split, len(pairs), root)
    table = rank(systems, symmetry=pairs.symmetry, seed=profile.seed)
    written = write_leaderboard(
        table, root / "tables", dataset=arguments.dataset, split=arguments.split, profile=profile.name
    )
    sys.stdout.write(summarise_ranking(table, profile=profile.name))
    sys.stdout.write("written: " + ", ".join(map(str, written)) + "\n")
    return 0
