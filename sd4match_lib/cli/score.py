"""`sd4match score`: the points that another system predicted, scored; and how tables of PCK are read."""

import argparse
import sys
from pathlib import Path
from typing import Any

from sd4match_lib.cli.common import Commands, add_options
from sd4match_lib.cli.guard import named_path
from sd4match_lib.errors import UserError

_SCORE = """\
Score a CSV file of points that any system predicted, with the code that scores this library's own.

The file's first line names its columns; one row per keypoint:
  pair_id   the pair, as the dataset calls it
  keypoint  the point, as the dataset calls it in that pair
  x, y      where the system found it in the target picture
Other columns are ignored. --template writes such a file with x and y to fill in.
"""


def add_score(commands: Commands) -> None:
    """Add the `score` command."""
    parser = commands.add_parser(
        "score",
        help="score the points that another system predicted",
        description=_SCORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "predictions",
        type=named_path,
        nargs="+",
        metavar="PREDICTIONS.csv",
        help="the predicted points; several systems are also ranked, with paired intervals",
    )
    add_options(parser, "--profile", "--dataset", "--data-root", "--split", "--max-pairs")
    parser.add_argument("--template", action="store_true", help="write the file to fill in, and stop")
    parser.add_argument(
        "--coordinates",
        default="px",
        metavar="FRAME",
        help="what x and y are pixels of: px, the original target picture (default), or <height>x<width>, "
        "the size that pictures were stretched to",
    )
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="what tables call the systems, one name for each file; default: the files' names",
    )
    parser.add_argument(
        "--supervision",
        choices=("Z", "I", "K"),
        default="K",
        help="what it learned from: Z nothing, I image labels, K keypoints (default)",
    )
    add_options(parser, "--results")
    add_reading(parser)
    parser.set_defaults(handler=_score)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how PCK is read off the rows; they change what is printed, not the run."""
    group = parser.add_argument_group("how PCK is read (changes what is printed, not what is computed)")
    group.add_argument(
        "--by",
        default="category",
        metavar="COLUMN",
        help="category (default), viewpoint, ..., or error: how predictions fail, and KAP",
    )
    group.add_argument(
        "--subset",
        choices=("all", "geo"),
        default="all",
        help="which keypoints count: all (default), or geo, those with a like that the target shows too",
    )
    group.add_argument(
        "--alpha", type=float, nargs="+", metavar="A", help="instead of the profile's thresholds"
    )
    group.add_argument(
        "--average", choices=("image", "point", "macro"), default="image", help="default: image"
    )
    group.add_argument(
        "--frame", choices=("in", "px"), default="in", help="stretched network input (default) or original"
    )


def check_reading(arguments: argparse.Namespace) -> None:
    """Refuse options of `add_reading` that mean nothing.

    Raises:
        UserError: a threshold is no fraction, or there is no such column.
    """
    from sd4match_lib.metrics.keypoints import FLAGS

    for alpha in arguments.alpha or ():
        if not 0 < alpha <= 1:
            raise UserError(f"--alpha is {alpha}; thresholds are fractions above 0, at most 1, such as 0.1.")
    groups = ("category", *FLAGS, "error")
    if arguments.by not in groups:
        raise UserError(f"--by is {arguments.by!r}; use one of {', '.join(groups)}.")


def reading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return `add_reading`'s options as arguments of `summary.summarise_evaluation`."""
    return {
        "by": arguments.by,
        "alphas": arguments.alpha,
        "average": arguments.average,
        "frame": arguments.frame,
        "subset": arguments.subset,
    }


def _score(arguments: argparse.Namespace) -> int:
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.evaluation.evaluate import check_pairs, open_pairs
    from sd4match_lib.evaluation.predictions import check_predictions, check_template, parse_frame
    from sd4match_lib.evaluation.score import check_method, score, template
    from sd4match_lib.report.leaderboard import rank
    from sd4match_lib.report.summary import summarise_evaluation, summarise_ranking
    from sd4match_lib.reproduce.prepare import prepare_data

    profile = load_profile(arguments.profile)
    # What can be wrong with the request is said before anything is rendered or matched.
    check_reading(arguments)
    parse_frame(arguments.coordinates)
    files: list[Path] = arguments.predictions
    names = arguments.method or [path.stem for path in files]
    if arguments.template:
        if len(files) > 1:
            raise UserError(f"--template writes one file, not {len(files)}; name one.")
        check_template(files[0])
    else:
        if len(names) != len(files) or len(set(names)) != len(names):
            raise UserError(
                f"{len(files)} files of predictions need as many different names; --method has {names}."
            )
        for name, path in zip(names, files, strict=True):
            check_method(name)
            check_predictions(path)
    check_pairs(profile, arguments.dataset, arguments.split, arguments.data_root, arguments.max_pairs)
    if arguments.data_root is None:
        prepare_data(profile)
    pairs: dict[str, Any] = {
        "dataset": arguments.dataset,
        "split": arguments.split,
        "data_root": arguments.data_root,
        "max_pairs": arguments.max_pairs,
    }
    if arguments.template:
        count = template(profile, files[0], **pairs)
        sys.stdout.write(f"{files[0]}: {count} keypoints; fill in x and y\n")
        return 0
    symmetry = open_pairs(profile, arguments.dataset, arguments.split, arguments.data_root, None).symmetry
    runs = {}
    for name, path in zip(names, files, strict=True):
        result = score(
            profile,
            path,
            **pairs,
            frame=arguments.coordinates,
            method=name,
            supervision=arguments.supervision,
            results_dir=arguments.results,
        )
        runs[name] = result.keypoints
        sys.stdout.write(summarise_evaluation(result, symmetry=symmetry, **reading(arguments)))
    if len(runs) > 1:
        table = rank(runs, symmetry=symmetry, seed=profile.seed)
        sys.stdout.write("\n" + summarise_ranking(table, profile=profile.name))
    return 0
