"""Predicted points of other systems as a CSV file: its columns, its frames, and what can be wrong with it.

One row per keypoint:

- ``pair_id``: as the data set calls the pair (for SPair-71k the line of the list, for PF-Pascal and PF-Willow
  what `write_template` writes);
- ``keypoint``: what the data set calls the point in that pair;
- ``x``, ``y``: where the system found it in the *target* picture.

Other columns are ignored, and so is the order of rows.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sd4match_lib.data.reading import as_number
from sd4match_lib.data.types import Pair
from sd4match_lib.errors import DataError, UserError
from sd4match_lib.geometry import HW, stretch_points
from sd4match_lib.utils.files import atomic_write_text, check_output
from sd4match_lib.utils.reading import check_file, read_csv

COLUMNS = ("pair_id", "keypoint", "x", "y")
_CONTEXT = ("category", "src_image", "trg_image", "src_x", "src_y")

OUTSIDE = 0.05
"""How far outside the picture, as a fraction of its side, a point counts as lost."""
MOST_OUTSIDE = 0.1
"""The share of lost points above which the frame must be another one."""

_FARTHEST = 1e30
"""Rows are kept in float32, which ends at 3e38; another frame and the distance take the rest of the room."""

_log = logging.getLogger(__name__)

Points = npt.NDArray[np.float64]


def parse_frame(frame: str) -> HW | None:
    """Return the size (H, W) that predictions belong to: None for "px", the original target picture.

    Args:
        frame: "px", or "<height>x<width>", the size that the system stretched every picture to.

    Raises:
        UserError: it is neither.
    """
    if frame == "px":
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", frame)
    if not found:
        raise UserError(
            f"there is no frame {frame!r}; use px for pixels of the original target picture, or the size "
            "that pictures were stretched to as <height>x<width>, such as 240x240."
        )
    return int(found[1]), int(found[2])


def read_predictions(path: Path, pairs: Sequence[Pair], frame: HW | None) -> list[Points]:
    """Read a file of predictions.

    Args:
        path: the CSV file.
        pairs: the pairs that it must cover, no more and no less.
        frame: the size that the coordinates belong to, or None for the original target picture.

    Returns:
        For each pair its points ``(N, 2)`` in ``frame`` (original pixels for None), in the pair's order.

    Raises:
        DataError: a column, pair or keypoint is missing, unknown or there twice, or a number is none.
        UserError: so many points lie outside their pictures that they belong to another frame.
    """
    check_predictions(path)
    known = {pair.pair_id: pair for pair in pairs}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for number, row in enumerate(read_csv(path, COLUMNS), start=2):
        where = f"{path}, line {number}"
        pair = known.get(row["pair_id"])
        if pair is None:
            raise DataError(
                f"{where}: pair {row['pair_id']!r} is none of the {len(known)} that are scored; check data "
                "set, split and number of pairs."
            )
        if row["keypoint"] not in pair.keypoint_ids:
            names = ", ".join(pair.keypoint_ids)
            raise DataError(
                f"{where}: pair {pair.pair_id} has no keypoint {row['keypoint']!r}, only {names}."
            )
        points = found.setdefault(pair.pair_id, {})
        if row["keypoint"] in points:
            raise DataError(f"{where}: keypoint {row['keypoint']} of pair {pair.pair_id} is there twice.")
        points[row["keypoint"]] = _number(row["x"], "x", where), _number(row["y"], "y", where)
    predicted = [_in_order(pair, found.get(pair.pair_id, {}), path) for pair in pairs]
    _check_frame(path, pairs, predicted, frame)
    return predicted


def check_predictions(path: Path) -> None:
    """Make sure that there is a file of predictions.

    Raises:
        DataError: it is missing or no file.
    """
    check_file(path, fix=f"`sd4match score {path} --template` writes a form")


def to_input(pair: Pair, points: Points, frame: HW | None, hw_in: HW) -> Points:
    """Move points ``(N, 2)`` from ``frame`` (None: original pixels) of the target to the network input."""
    moved = stretch_points(points, pair.trg.hw_px if frame is None else frame, hw_in)
    return np.asarray(moved, np.float64)


def check_template(path: Path) -> None:
    """Make sure that a form can be written and overwrites nothing.

    Raises:
        UserError: the file exists.
        WriteError: its folder cannot be written.
    """
    if path.exists():
        raise UserError(f"{path} is there already; name another file for the template.")
    check_output(path)


def write_template(path: Path, pairs: Sequence[Pair]) -> int:
    """Write the form to fill in: every keypoint of every pair, with its source point, and x and y empty.

    Returns:
        How many keypoints there are.

    Raises:
        UserError: the file exists.
        WriteError: its folder cannot be written.
    """
    check_template(path)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *_CONTEXT])
    count = 0
    for pair in pairs:
        for keypoint, (x, y) in zip(pair.keypoint_ids, pair.src_px.tolist(), strict=True):
            context = [pair.category, pair.src.image_id, pair.trg.image_id, f"{x:g}", f"{y:g}"]
            table.writerow([pair.pair_id, keypoint, "", "", *context])
            count += 1
    atomic_write_text(path, text.getvalue())
    return count


def _number(text: str, column: str, where: str) -> float:
    try:
        value = as_number(text)
    except ValueError as error:
        raise DataError(
            f"{where}, column {column}: {text!r} is not a number; every point needs one."
        ) from error
    if abs(value) > _FARTHEST:
        raise DataError(
            f"{where}, column {column}: {text!r} is too large for a place in a picture; correct it."
        )
    return value


def _in_order(pair: Pair, points: dict[str, tuple[float, float]], path: Path) -> Points:
    if not points:
        raise DataError(
            f"{path} has no prediction for pair {pair.pair_id}; all pairs of the split are needed."
        )
    missing = [keypoint for keypoint in pair.keypoint_ids if keypoint not in points]
    if missing:
        raise DataError(f"{path} has no keypoint {', '.join(missing)} for pair {pair.pair_id}; add it.")
    return np.array([points[keypoint] for keypoint in pair.keypoint_ids], np.float64)


def _check_frame(path: Path, pairs: Sequence[Pair], predicted: Sequence[Points], frame: HW | None) -> None:
    """Refuse points that mostly miss their pictures, and doubt such as fill only a corner of them."""
    sides = [np.array((pair.trg.hw_px if frame is None else frame)[::-1]) for pair in pairs]
    relative = np.concatenate([points / side for points, side in zip(predicted, sides, strict=True)])
    lost = ((relative < -OUTSIDE) | (relative > 1 + OUTSIDE)).any(1).mean()
    name = "px" if frame is None else f"{frame[0]}x{frame[1]}"
    if lost > MOST_OUTSIDE:
        raise UserError(
            f"{path}: {lost:.0%} of the points lie outside their target pictures, so they are not in the "
            f"frame {name}; say with --coordinates which size they belong to."
        )
    if relative.max() < 0.5:
        _log.warning("%s: all points lie in the top left quarter; is the frame really %s?", path, name)
