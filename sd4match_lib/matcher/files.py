"""Matching files: points from a text or a file, targets from files and folders, JSON and pictures."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from sd4match_lib.data.reading import XY, count_outside, parse_points
from sd4match_lib.errors import DataError
from sd4match_lib.images import image_hw, picture_suffixes
from sd4match_lib.matcher.drawing import draw_match
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matcher.result import Match
from sd4match_lib.utils.progress import progress
from sd4match_lib.utils.reading import read_csv, read_json

WINDOWED = "windowed_softargmax"
"""What `MatchOptions.window` puts in the matcher's place."""


def read_points(text: str | None, file: Path | None) -> XY:
    """Read points from exactly one of two places.

    Args:
        text: ``"x,y; x,y"``.
        file: a CSV file with the columns x and y, or a JSON file: a list of [x, y], or an object that has one
            under "points", as `sd4match match --json` and the picker's copy write it.

    Returns:
        (N, 2), N at least 1.

    Raises:
        DataError: none or both are given, or what is given is no list of points.
    """
    if (text is None) == (file is None):
        raise DataError('give the points either as --points "x,y; x,y" or as --points-file FILE.')
    if file is None:
        where, points = "--points", parse_points(text, "--points")
    else:
        where, points = str(file), _read_points_file(file)
    if not len(points):
        raise DataError(f"{where}: there is no point; give at least one as x,y.")
    return points


def find_targets(paths: Sequence[Path], src: Path) -> list[Path]:
    """Return files as they are, and of folders their pictures in the order of their numbers.

    Of a folder, hidden files and the source itself are left out; a damaged frame shows when it is matched.

    Raises:
        DataError: a file that was named is missing or is no picture, or a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            image_hw(path)
            found.append(path)
            continue
        known = picture_suffixes()
        frames = [
            entry
            for entry in path.iterdir()
            if entry.suffix.lower() in known
            and not entry.name.startswith(".")
            and entry.is_file()
            and not entry.samefile(src)
        ]
        if not frames:
            raise DataError(
                f"{path}: there is no picture in this folder beside the source; name a folder of "
                "frames, or files."
            )
        found += sorted(frames, key=_by_number)
    return found


def match_files(
    matcher: Matcher, src: Path, targets: Sequence[Path], points: XY
) -> Iterator[tuple[Path, Match | DataError]]:
    """Match one source with one target after the other, showing progress when there are several.

    A damaged target does not end the others' matching.

    Args:
        matcher: how.
        src: the source's file.
        targets: the targets' files.
        points: (N, 2) in pixels of the source.

    Yields:
        Each target with its match, or with what is wrong with its picture.

    Raises:
        DataError: the source cannot be read, or a point lies outside it.
    """
    count_outside(points, image_hw(src), tolerance_px=1.0, where=f"points in {src}")
    source = matcher.picture(src)
    steps = targets if len(targets) == 1 else progress(targets, description="matching", unit="picture")
    for path in steps:
        try:
            target = matcher.picture(path)
        except DataError as error:
            yield path, error
        else:
            yield path, matcher.match(source, target, points)


def match_document(matcher: Matcher, source: Match, targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what `--json` writes: how was matched, the points of any match, and every `target_entry`."""
    return {
        **settings_document(matcher),
        "src": str(source.src.path),
        "src_hw": list(source.src.hw_px),
        "points": [[round(float(value), 2) for value in xy] for xy in source.src_px],
        "targets": list(targets),
    }


def target_entry(path: Path, match: Match, *, only_mutual: bool = False) -> dict[str, Any]:
    """Return what was found in one target as plain data; `only_mutual` leaves out what was not found back."""
    return {
        "trg": str(path),
        "trg_hw": list(match.trg.hw_px),
        "flipped": match.flipped,
        "matches": match.rows(only_mutual=only_mutual),
    }


def settings_document(matcher: Matcher) -> dict[str, Any]:
    """Return every setting that decided where points were found, as plain data.

    `sigma` is in cells of the profile's own grid, `window` in cells before the grid was made denser; with a
    window the matcher is "windowed_softargmax", whatever the profile says.
    """
    options = matcher.settings.options
    document = {
        "profile": matcher.profile.name,
        **matcher.models.config(),
        "weights": matcher.weights(),
        "category": matcher.settings.category,
        "seed": matcher.settings.seed,
        **asdict(options),
    }
    if options.window is not None:
        document["matcher"] = WINDOWED
        document["temperature"] = matcher.profile.evaluation.temperature
        document.pop("sigma", None)
    return document


def picture_of(matcher: Matcher, match: Match, *, only_mutual: bool = False) -> Image.Image:
    """Draw a match, with how it was found below; `only_mutual` leaves out points that were not found back."""
    rows = match.rows(only_mutual=only_mutual)
    numbers = [row["point"] for row in rows]
    src_px, trg_px = [row["src"] for row in rows], [row["trg"] for row in rows]
    note = matcher_note(matcher)
    return draw_match(match.src.read(), match.trg.read(), src_px, trg_px, numbers=numbers, note=note)


def matcher_note(matcher: Matcher) -> str:
    """Return the line below pictures: in short, the settings of `settings_document` that pictures need."""
    settings, method, options = matcher.settings, matcher.models.settings, matcher.settings.options
    parts = [f"profile {matcher.profile.name}", str(method.extractor)]
    if settings.prompt:
        parts += [f"prompt {settings.prompt_kind}", f"t = {method.timestep}", ", ".join(method.layers)]
        parts += [f"ensemble {method.ensemble}", f"seed {settings.seed}"]
    parts += [f"{WINDOWED} of {options.window} cells" if options.window else method.matcher]
    parts += ["mutual"] * options.mutual + ["flip"] * options.flip
    parts += [f"DINOv2 {options.dino_weight:g}"] if options.dino_weight is not None else []
    parts += [f"grid {options.denser} times denser"] if options.denser > 1 else []
    return ", ".join(parts)


def _read_points_file(file: Path) -> XY:
    if file.suffix.lower() == ".csv":
        rows = read_csv(file, ("x", "y"))
        return parse_points(";".join(f"{row['x']},{row['y']}" for row in rows), f"{file}, columns x and y")
    if file.suffix.lower() == ".json":
        content = read_json(file)
        points = content.get("points") if isinstance(content, dict) else content
        return parse_points(points, f"{file}, field 'points'" if isinstance(content, dict) else str(file))
    raise DataError(f"{file}: points come in a .csv or a .json file; rename or convert it.")


def _by_number(path: Path) -> list[tuple[int, str]]:
    """frame9 before frame10."""
    return [(int(piece or 0), word) for word, piece in re.findall(r"(\D*)(\d*)", path.name)]
