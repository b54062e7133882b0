"""The `sd4match miniature` commands: render MiniPair, pretrain the models, check them."""

import argparse
import sys

from sd4match_lib.cli.common import Commands, add_options
from sd4match_lib.cli.guard import at_least, named_path

STAGES = ("vae", "text", "vision", "diffusion", "captioner")


def add_miniature(commands: Commands) -> None:
    """Add the `miniature` command and its steps."""
    group = commands.add_parser("miniature", help="render MiniPair, pretrain the miniature models")
    steps = group.add_subparsers(title="steps", metavar="STEP", required=True)
    render = steps.add_parser("render", help="write MiniPair in the three datasets' layouts")
    render.add_argument(
        "--out", type=named_path, metavar="DIR", help="default: the mini profile's data folder"
    )
    render.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="default: 0, what the profiles expect"
    )
    render.set_defaults(handler=_render)
    pretrain = steps.add_parser(
        "pretrain", help="train one of the miniature's parts; goes on after an interruption"
    )
    pretrain.add_argument("stage", choices=STAGES)
    pretrain.add_argument("--out", type=named_path, metavar="DIR", help="where checkpoints and logs are kept")
    pretrain.add_argument("--steps", type=at_least(1), metavar="N", help="stop after so many steps")
    pretrain.add_argument(
        "--minutes", type=at_least(0, float), metavar="M", help="stop after so many minutes"
    )
    add_options(pretrain, "--device")
    pretrain.add_argument("--fresh", action="store_true", help="begin anew instead of going on")
    pretrain.set_defaults(handler=_pretrain)
    check = steps.add_parser("check", help="measure what the miniature must show on held-out data")
    check.add_argument(
        "--steps",
        type=at_least(1),
        default=400,
        metavar="N",
        help="of tuning the hidden context; default: 400",
    )
    check.add_argument("--profile", default="mini", metavar="NAME", help="default: mini")
    check.add_argument("--weights", type=named_path, metavar="DIR", help="other weights than the package's")
    check.add_argument(
        "--out", type=named_path, metavar="DIR", help="where the renders of pretraining are kept"
    )
    check.set_defaults(handler=_check_miniature)


def _render(arguments: argparse.Namespace) -> int:
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.miniature.dataset.write import render_minipair
    from sd4match_lib.reproduce.prepare import minipair_root

    out = arguments.out or minipair_root(load_profile("mini"))
    render_minipair(out, seed=arguments.seed)
    sys.stdout.write(f"MiniPair is in {out}\n")
    return 0


def _pretrain(arguments: argparse.Namespace) -> int:
    from sd4match_lib.miniature.pretraining.run import run

    run(
        arguments.stage,
        out=arguments.out,
        steps=arguments.steps,
        minutes=arguments.minutes,
        device=arguments.device,
        fresh=arguments.fresh,
    )
    return 0


def _check_miniature(arguments: argparse.Namespace) -> int:
    from sd4match_lib.backbones.weights import find_diffusion, find_vision
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.miniature.pretraining.check import check_miniature, format_findings, with_weights
    from sd4match_lib.miniature.pretraining.run import FOLDER
    from sd4match_lib.reproduce.prepare import prepare_data
    from sd4match_lib.utils.paths import resolve_path

    profile = load_profile(arguments.profile)
    if arguments.weights is not None:
        profile = with_weights(profile, arguments.weights)
    # Weights that are not there are said before anything is rendered.
    find_diffusion(profile.model, profile.cache_path)
    find_vision(profile.vision, profile.cache_path)
    prepare_data(profile)
    folder = arguments.out or resolve_path(FOLDER)
    sys.stdout.write(format_findings(check_miniature(profile, folder, steps=arguments.steps)))
    return 0
