"""The `sd4match match` command: parsing and printing."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd4match_lib.cli.common import Commands, add_options
from sd4match_lib.cli.guard import at_least, named_path
from sd4match_lib.errors import DataError, UserError
from sd4match_lib.utils.paths import PACKAGE_PREFIX

if TYPE_CHECKING:
    from sd4match_lib.matcher.result import Match

_EXAMPLES = """\
examples:
  sd4match match cat.jpg other.png --points "120,80; 240,96"
  sd4match match cat.jpg other.png --points "120,80" --category cat --picture match.png
  sd4match match first.png frames/ --points-file points.csv --json matches.json --mutual

Points are x,y in pixels of the source, counted from 0 at the centre of its top left pixel. Confidence says
how clearly one place answers, not how likely it is the right one.
"""


_MINIATURE = """\
The shipped miniature knows rendered objects alone: what it finds on photographs means nothing. For those, use
--profile paper.
"""


def add_match(commands: Commands) -> None:
    """Add the `match` command."""
    parser = commands.add_parser(
        "match",
        help="find points of one picture in others: your own files",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "src", type=named_path, metavar="SOURCE", help="the picture that the points are given in"
    )
    parser.add_argument(
        "trg", type=named_path, nargs="+", metavar="TARGET", help="pictures, or folders of frames"
    )
    parser.add_argument("--points", metavar='"X,Y; X,Y"', help="points in pixels of the source")
    parser.add_argument(
        "--points-file", type=named_path, metavar="FILE", help="a .csv with columns x,y or a .json of [x, y]"
    )
    parser.add_argument("--json", type=named_path, metavar="FILE", help="write the answer there; - prints it")
    parser.add_argument(
        "--picture", type=named_path, metavar="FILE", help="draw it; with several targets, one file each"
    )
    add_options(parser, "--profile", "--extractor")
    parser.add_argument(
        "--prompt",
        metavar="NAME",
        help="empty (default), text (with --category), captioner, mini/class and the like, or a file",
    )
    parser.add_argument("--category", metavar="WORD", help="what the pictures show, e.g. cat")
    add_options(parser, "--timestep", "--matcher", "--device")
    extra = parser.add_argument_group("options that the paper does not use")
    extra.add_argument(
        "--mutual", action="store_true", help="only points that are found back from the target"
    )
    extra.add_argument("--window", type=at_least(1), metavar="CELLS", help="soft-argmax in a window, e.g. 15")
    extra.add_argument(
        "--flip", action="store_true", help="also try the mirrored source, and keep the better"
    )
    extra.add_argument("--dino", type=float, metavar="WEIGHT", help="add DINOv2's features, e.g. 0.5")
    extra.add_argument(
        "--denser", type=at_least(1), default=1, metavar="N", help="make the target's grid N times finer"
    )
    parser.set_defaults(handler=_match)


def _match(arguments: argparse.Namespace) -> int:
    # What can be wrong with the request is said before any model is loaded.
    from sd4match_lib.matcher.drawing import check_picture_path, save_picture

    if arguments.picture:
        check_picture_path(arguments.picture)
    from sd4match_lib import Matcher, MatchOptions
    from sd4match_lib.images import image_hw
    from sd4match_lib.matcher.files import (
        find_targets,
        match_document,
        match_files,
        picture_of,
        read_points,
        target_entry,
    )
    from sd4match_lib.utils.files import check_output, write_json

    points = read_points(arguments.points, arguments.points_file)
    image_hw(arguments.src)
    targets = find_targets(arguments.trg, arguments.src)
    quiet = str(arguments.json) == "-"
    names = _picture_names(arguments.picture, targets) if arguments.picture else []
    # Profile and prompt may be names, which are no files.
    read = [arguments.points_file, arguments.profile, arguments.prompt]
    inputs = [arguments.src, *targets, *(Path(name) for name in read if name)]
    if arguments.json and not quiet:
        check_output(arguments.json, *inputs)
        inputs.append(arguments.json)
    for name in names:
        if name == arguments.json:
            raise UserError(f"{name} is named for both --picture and --json; name two files.")
        check_output(name, *inputs)
    options = MatchOptions(
        window=arguments.window,
        mutual=arguments.mutual,
        flip=arguments.flip,
        dino_weight=arguments.dino,
        denser=arguments.denser,
    )
    matcher = Matcher.from_profile(
        arguments.profile,
        extractor=arguments.extractor,
        prompt=arguments.prompt,
        category=arguments.category,
        matcher=arguments.matcher,
        timestep=arguments.timestep,
        options=options,
        device=arguments.device,
    )
    if matcher.profile.model.sources[0].startswith(PACKAGE_PREFIX):
        sys.stderr.write(_MINIATURE)
    entries: list[dict[str, Any]] = []
    any_match: Match | None = None
    failed: list[tuple[Path, DataError]] = []
    try:
        for number, (path, found) in enumerate(match_files(matcher, arguments.src, targets, points)):
            if isinstance(found, DataError):
                failed.append((path, found))
                continue
            any_match = found
            entries.append(target_entry(path, found, only_mutual=arguments.mutual))
            if not quiet:
                sys.stdout.write(_table(path, found, arguments.mutual))
            if names:
                save_picture(picture_of(matcher, found, only_mutual=arguments.mutual), names[number])
    finally:
        # Whatever ends the matching, what was found until then is kept.
        if any_match is not None and arguments.json:
            document = match_document(matcher, any_match, entries)
            if failed:
                document["failed"] = [{"trg": str(path), "error": str(error)} for path, error in failed]
            if quiet:
                sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
            else:
                write_json(arguments.json, document)
    for _, error in failed:
        sys.stderr.write(f"sd4match: {error}\n")
    if failed and len(targets) > 1:
        sys.stderr.write(f"sd4match: {len(failed)} of {len(targets)} targets could not be matched.\n")
    return 1 if failed else 0


def _picture_names(path: Path, targets: list[Path]) -> list[Path]:
    if len(targets) == 1:
        return [path]
    digits = len(str(len(targets)))
    return [
        path.with_name(f"{path.stem}-{number:0{digits}d}-{target.stem}{path.suffix}")
        for number, target in enumerate(targets, start=1)
    ]


def _table(path: Path, match: Match, only_mutual: bool) -> str:
    def size(picture: Any) -> str:
        return f"{picture.hw_px[1]} x {picture.hw_px[0]}"

    flipped = ", source mirrored" if match.flipped else ""
    lines = [f"{match.src.path} ({size(match.src)}) -> {path} ({size(match.trg)}){flipped}"]
    lines.append(f"{'point':>5}  {'source x, y':>17}  {'target x, y':>17}  confidence")
    rows = match.rows(only_mutual=only_mutual)
    for row in rows:
        places = "  ".join(f"{row[side][0]:>8.1f},{row[side][1]:>8.1f}" for side in ("src", "trg"))
        lines.append(f"{row['point']:>5}  {places}  {row['confidence']:>10.2f}")
    if len(rows) < len(match):
        lines.append(f"{len(match) - len(rows)} of {len(match)} points were not found back and are left out")
    return "\n".join(lines) + "\n"
