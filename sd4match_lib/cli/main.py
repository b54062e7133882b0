"""The `sd4match` command: parsing and printing; what it does lies elsewhere, imported when asked for."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sd4match_lib import __version__
from sd4match_lib.cli.common import Commands, add_options, examples, open_shared
from sd4match_lib.cli.guard import Parser, at_least, check_arguments, guarded, open_streams
from sd4match_lib.cli.leaderboard import add_leaderboard
from sd4match_lib.cli.match import add_match
from sd4match_lib.cli.miniature import add_miniature
from sd4match_lib.cli.notebooks import add_notebooks
from sd4match_lib.cli.rerun import add_rerun
from sd4match_lib.cli.score import add_reading, add_score, check_reading, reading
from sd4match_lib.cli.train import add_train
from sd4match_lib.config.names import PROMPTS

if TYPE_CHECKING:
    from sd4match_lib.config.profile import Profile

_FIRST_STEPS = f"""\
sd4match {__version__}: learned prompts that make Stable Diffusion match points between pictures.

What to do first:
  sd4match doctor        say what is here, what is missing, and how to get it
  sd4match reproduce     run the notebooks on the shipped miniature: offline, minutes on a laptop
  sd4match match a.jpg b.jpg --points "120,80"     find a point of one picture in another
  make lab               read and run the same notebooks in JupyterLab

All commands: sd4match --help
"""

_EXAMPLES = """\
examples:
  sd4match reproduce --profile mini --only 01 13
  sd4match doctor --profile paper
  sd4match evaluate --dataset spair --prompt text
  sd4match evaluate --dataset pf_willow --data-root ../pf-willow --extractor dift
  sd4match score predictions.csv --dataset spair --method NCNet --supervision I
  sd4match match cat.jpg other.png --points "120,80; 240,96" --picture match.png
  sd4match miniature render --out data/minipair

Relative paths of a profile start from the project's folder; SD4MATCH_DATA names another data folder.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments without the program's name; `sys.argv[1:]` when None.

    Returns:
        The exit code: 0 done, 1 something is missing (doctor), 2 a mistake in the request, 3 a notebook's
        cell failed, 4 it took too long, 5 its outputs are missing, 138 its kernel died, 130 interrupted, 143
        stopped, 70 an error that nobody foresaw.
    """
    open_streams()
    given = sys.argv[1:] if argv is None else argv

    def command() -> int:
        arguments = _parser().parse_args(given)
        if "handler" not in arguments:
            sys.stdout.write(_FIRST_STEPS)
            return 0
        _show_progress()
        check_arguments(given)
        return int(arguments.handler(arguments))

    return guarded(command)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = Parser(
        prog="sd4match", description="Reproduce SD4Match (CVPR 2024).", epilog=_EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"sd4match {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_reproduce(commands)
    _add_doctor(commands)
    _add_evaluate(commands)
    add_score(commands)
    add_leaderboard(commands)
    add_rerun(commands)
    add_match(commands)
    add_train(commands)
    add_miniature(commands)
    add_notebooks(commands)
    return parser


def _add_reproduce(commands: Commands) -> None:
    parser = commands.add_parser(
        "reproduce",
        help="run the notebooks in order, skipping what is complete for the same inputs",
        **examples(
            "sd4match reproduce",
            "sd4match reproduce --only 01 13",
            "sd4match reproduce --profile smoke --fresh",
        ),
    )
    add_options(parser, "--profile")
    parser.add_argument("--only", nargs="+", default=[], metavar="NUMBER", help="e.g. 01 13, or whole names")
    parser.add_argument("--fresh", action="store_true", help="compute everything again")
    parser.set_defaults(handler=_reproduce)


def _add_doctor(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say what a profile needs, what is here and how to get the rest",
        **examples("sd4match doctor", "sd4match doctor --profile paper"),
    )
    add_options(parser, "--profile")
    parser.set_defaults(handler=_doctor)


def _add_evaluate(commands: Commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="match a dataset's pairs and print the PCK",
        **examples(
            "sd4match evaluate --dataset spair --prompt text --max-pairs 20",
            "sd4match evaluate --dataset pf_willow --data-root ../pf-willow --extractor dift",
            "sd4match evaluate --dataset own --data-root pairs.csv --prompt empty",
        ),
    )
    add_options(parser, "--profile")
    parser.add_argument(
        "--dataset", required=True, help="a dataset of the profile, e.g. spair, pf_pascal, pf_willow"
    )
    add_options(parser, "--data-root", "--split")
    parser.add_argument(
        "--prompt",
        help=f"{', '.join(PROMPTS)}, mini/class and the like, or a .safetensors file; default: text",
    )
    add_options(parser, "--extractor")
    parser.add_argument("--layer", metavar="NAME", help="layer that is read, instead of the profile's")
    add_options(parser, "--timestep")
    parser.add_argument(
        "--ensemble", type=at_least(1), metavar="E", help="number of noises, instead of the profile's"
    )
    add_options(parser, "--matcher", "--max-pairs")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pairs per step, instead of the profile's"
    )
    add_options(parser, "--device", "--results")
    add_reading(parser)
    parser.set_defaults(handler=_evaluate)


def _reproduce(arguments: argparse.Namespace) -> int:
    from sd4match_lib.reproduce.reproduce import reproduce

    records = reproduce(arguments.profile, only=arguments.only, fresh=arguments.fresh)
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.report.sentences import counted

    folder = load_profile(arguments.profile).results_path
    are = f"{counted(len(records), 'notebook')} {'is' if len(records) == 1 else 'are'}"
    sys.stdout.write(f"{are} complete; tables and figures are in {folder}\n")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.reproduce.doctor import Status, check, format_report, time_here

    profile = load_profile(arguments.profile)
    findings = check(profile)
    sys.stdout.write(format_report(findings) + "\n")
    sys.stdout.flush()  # what follows takes minutes on a GPU
    times = time_here(profile)
    sys.stdout.write(f"\n{format_report(times)}\n" if times else "")
    return int(any(finding.status is Status.MISSING for finding in findings))


def _evaluate(arguments: argparse.Namespace) -> int:
    from sd4match_lib.evaluation.evaluate import check_batch_size, check_pairs, evaluate, open_pairs
    from sd4match_lib.features.build import MethodModels
    from sd4match_lib.features.methods import method_settings
    from sd4match_lib.report.summary import summarise_evaluation

    check_reading(arguments)
    check_batch_size(arguments.batch_size)
    numbers = {name: getattr(arguments, name) for name in ("timestep", "layer", "ensemble", "matcher")}

    def check(profile: Profile) -> None:
        check_pairs(profile, arguments.dataset, arguments.split, None, arguments.max_pairs)
        MethodModels(profile, method_settings(profile, arguments.extractor, **numbers), arguments.prompt)

    profile, group = open_shared(arguments, check)
    result = evaluate(
        profile,
        dataset=arguments.dataset,
        split=arguments.split,
        data_root=arguments.data_root,
        extractor=arguments.extractor,
        prompt=arguments.prompt,
        **numbers,
        max_pairs=arguments.max_pairs,
        device=arguments.device,
        results_dir=arguments.results,
        batch_size=arguments.batch_size,
    )
    if group.main:
        pairs = open_pairs(profile, arguments.dataset, arguments.split, arguments.data_root, None)
        sys.stdout.write(summarise_evaluation(result, symmetry=pairs.symmetry, **reading(arguments)))
    return 0


def _show_progress() -> None:
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    # Of several launched processes one tells how far they are.
    first = os.environ.get("RANK", "0") == "0"
    logging.getLogger("sd4match_lib").setLevel(logging.INFO if first else logging.WARNING)
