"""The `sd4match train` and `sd4match convert` commands."""

import argparse
import sys
from typing import Any

from sd4match_lib.cli.common import Commands, add_options, examples, open_shared
from sd4match_lib.cli.guard import at_least, named_path
from sd4match_lib.config.names import BACKBONES, LEARNED_PROMPTS
from sd4match_lib.errors import UserError
from sd4match_lib.utils.reading import literal_or_text

_TRAIN_EXAMPLES = """\
examples:
  sd4match train --prompt single                          on the miniature, minutes
  sd4match train --prompt cpm --steps 100 --set modulation=paper
  sd4match train --prompt class --set "init=a photo of a {category}"
  accelerate launch --multi_gpu --num_processes 4 -m sd4match_lib train --prompt cpm --profile paper

A training that was interrupted goes on where it was: give the same command again.
"""


def add_train(commands: Commands) -> None:
    """Add the `train` and `convert` commands."""
    train = commands.add_parser(
        "train",
        help="learn a prompt on a dataset's pairs",
        epilog=_TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("--prompt", choices=list(LEARNED_PROMPTS), required=True, help="what is learned")
    add_options(train, "--profile")
    train.add_argument("--dataset", default="spair", help="a dataset of the profile; default: spair")
    train.add_argument(
        "--data-root", type=named_path, metavar="DIR", help="where it is, instead of the profile's folder"
    )
    train.add_argument("--steps", type=at_least(1), metavar="N", help="instead of the profile's")
    train.add_argument("--seed", type=at_least(0), metavar="N", help="instead of the profile's")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the prompt, repeatable",
    )
    add_options(train, "--device", "--results")
    train.add_argument("--tensorboard", action="store_true", help="write TensorBoard's events too")
    train.set_defaults(handler=_train)
    convert = commands.add_parser(
        "convert",
        help="turn released checkpoints into prompts, and prompts into textual-inversion words",
        **examples(
            "sd4match convert ckpt.pt cpm.safetensors                 a released checkpoint, for --prompt",
            'sd4match convert class.safetensors cat.safetensors --word "<cat-prompt>" --category cat',
        ),
    )
    convert.add_argument(
        "source", type=named_path, help="a released .pt file, or a learned prompt's .safetensors"
    )
    convert.add_argument("target", type=named_path, help="the .safetensors file to write")
    convert.add_argument(
        "--length",
        type=at_least(1),
        default=75,
        metavar="P",
        help="learned rows of a caption.pt; default: 75",
    )
    convert.add_argument("--word", help="write a textual-inversion embedding of this word, for diffusers")
    convert.add_argument("--category", help="of a class prompt, whose word it becomes")
    add_options(convert, "--profile")
    convert.set_defaults(handler=_convert)


def _options(settings: list[str]) -> dict[str, Any]:
    """Read OPTION=VALUE: numbers and True / False as such, everything else as text."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting!r} lacks a '='; write OPTION=VALUE, such as modulation=paper.")
        found[name] = literal_or_text(text)
    return found


def _train(arguments: argparse.Namespace) -> int:
    from sd4match_lib.prompts.factory import new_prompt
    from sd4match_lib.report.summary import summarise_training
    from sd4match_lib.training.train import train

    options = _options(arguments.set)
    # The categories are not known before the data is there, and no option depends on them.
    profile, group = open_shared(
        arguments, lambda profile: new_prompt(arguments.prompt, profile, (), options)
    )
    result = train(
        profile,
        arguments.prompt,
        dataset=arguments.dataset,
        data_root=arguments.data_root,
        options=options,
        steps=arguments.steps,
        seed=arguments.seed,
        device=arguments.device,
        results_dir=arguments.results,
        tensorboard=arguments.tensorboard,
    )
    if group.main:
        sys.stdout.write(summarise_training(result.record, result.folder, reused=result.reused))
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from sd4match_lib.prompts.factory import load_prompt
    from sd4match_lib.prompts.released import read_released
    from sd4match_lib.utils.files import check_output

    check_output(arguments.target, arguments.source)
    if arguments.word is None:
        prompt = read_released(arguments.source, length=arguments.length)
        prompt.save(arguments.target, prompt.about)
        sys.stdout.write(f"{arguments.target} holds the {prompt.kind} prompt of {arguments.source}\n")
        return 0
    from sd4match_lib.backbones.clip_text import ClipTextEncoder
    from sd4match_lib.backbones.weights import find_diffusion
    from sd4match_lib.config.profile import load_profile
    from sd4match_lib.prompts.textual_inversion import embedding_vectors, export_embedding

    profile = load_profile(arguments.profile)
    found = find_diffusion(profile.model, profile.cache_path)
    encoder = BACKBONES.load(profile.model.backbone).load_text(found.folder)
    if not isinstance(encoder, ClipTextEncoder):
        raise UserError(f"words are for CLIP text models; {profile.model.backbone} has another one.")
    vectors = embedding_vectors(load_prompt(arguments.source), encoder, arguments.category)
    export_embedding(arguments.target, arguments.word, vectors, encoder)
    sys.stdout.write(
        f"{arguments.target} holds the word {arguments.word} of {len(vectors)} vectors: "
        "pipeline.load_textual_inversion(...)\n"
    )
    return 0
