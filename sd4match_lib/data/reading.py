"""Reading lists, annotations and points so that whatever is wrong with them is told in one sentence."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sd4match_lib.errors import DataError, reason
from sd4match_lib.geometry import HW
from sd4match_lib.utils.reading import check_file

XY = npt.NDArray[np.float32]
"""Points ``(N, 2)``, (x, y)."""

T = TypeVar("T")

FETCH = "fetch the data set again; `sd4match doctor` says what belongs there"
"""What to do about a data set's file, for messages."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_MAT_BYTES = 256 * 2**10
"""Real annotations have a few thousand; compressed matrices may grow a thousandfold."""


def read_mat(path: Path, field: str) -> npt.NDArray[np.float64]:
    """Read one numeric matrix of a MATLAB file.

    Raises:
        DataError: the file is missing, too large or no MATLAB file, or the matrix is missing, not made of
            real numbers, or holds infinite ones.
    """
    from scipy.io import loadmat  # here, because it is slow to import and only two layouts need it

    check_file(path, limit=_MAT_BYTES, fix="fetch the data set again")
    try:
        with path.open("rb") as stream:
            content = loadmat(stream, variable_names=[field])
    except Exception as error:  # scipy's reader raises nearly anything on damaged files
        raise DataError(
            f"{path}: this is not a readable MATLAB file ({reason(error)}); fetch it again."
        ) from error
    if field not in content:
        raise DataError(f"{path}: the field {field!r} is missing; fetch the data set again.")
    values = content[field]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise DataError(f"{path}: the field {field!r} is not a matrix of numbers; fetch it again.")
    if np.isinf(values).any():
        raise DataError(f"{path}: the field {field!r} holds infinite numbers; fetch it again.")
    return np.asarray(values, dtype=np.float64)


def as_points(value: Any, where: str) -> XY:
    """Turn a list of [x, y] into points ``(N, 2)``; N may be 0.

    Raises:
        DataError: it is not a list of pairs of finite numbers.
    """
    try:
        plain = np.asarray(value)
        # Texts that look like numbers and true or false would pass as coordinates.
        if plain.size and plain.dtype.kind not in "iuf":
            raise TypeError
        with np.errstate(over="ignore"):  # what is too large for float32 is told below
            points = plain.astype(np.float32)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{where}: this is not a list of [x, y]; correct the field.") from error
    if points.shape == (0,):
        return np.zeros((0, 2), dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise DataError(
            f"{where}: the points must be [x, y] each, the shape is {points.shape}; correct the field."
        )
    if not np.isfinite(points).all():
        raise DataError(f"{where}: a coordinate is not a finite number; correct the field.")
    return points


def as_number(text: str) -> float:
    """Turn a decimal number such as ``"-1.5"`` or ``"2e3"`` into one; what is too large becomes infinite.

    Raises:
        ValueError: it is none: Python itself also reads ``"1_0"``, ``"nan"`` and the digits of any script.
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def as_numbers(text: str, where: str, separator: str = ";") -> npt.NDArray[np.float32]:
    """Turn ``"1.5;2"`` into numbers ``(N,)``; an empty cell among them becomes NaN.

    Raises:
        DataError: something between the separators is not a number.
    """
    try:
        cells = [cell.strip() for cell in text.split(separator)]
        numbers = np.array([as_number(cell) if cell else np.nan for cell in cells])
    except ValueError as error:
        raise DataError(
            f"{where}: this is not a list of numbers ({reason(error)}); correct the field."
        ) from error
    if np.isinf(numbers).any() or (np.abs(numbers) > np.finfo(np.float32).max).any():
        raise DataError(f"{where}: a number is infinite or too large; correct the field.")
    return numbers.astype(np.float32)


def parse_points(value: Any, where: str) -> XY:
    """Turn ``"x,y;x,y"`` or a list of [x, y] into points ``(N, 2)``; none from an empty or missing field.

    Raises:
        DataError: it is neither.
    """
    if not isinstance(value, str):
        return as_points([] if value is None else value, where)
    pieces = [piece for piece in value.split(";") if piece.strip()]
    return as_points([as_numbers(piece, where, separator=",").tolist() for piece in pieces], where)


def count_outside(xy_px: XY, hw_px: HW, *, tolerance_px: float, where: str) -> int:
    """Count the points outside their picture, and refuse those further than `tolerance_px` outside.

    Raises:
        DataError: a point lies further outside: x and y are exchanged, or the picture was resized.
    """
    last = np.array([hw_px[1] - 1, hw_px[0] - 1], dtype=np.float32)
    beyond = np.maximum(-xy_px, xy_px - last).max(axis=1, initial=0.0)
    if beyond.size and beyond.max() > tolerance_px:
        x, y = xy_px[beyond.argmax()]
        raise DataError(
            f"{where}: the point ({x:g}, {y:g}) lies outside its picture of {hw_px[1]} x {hw_px[0]} pixels; "
            "check that it is x before y, and that the picture was not resized."
        )
    return int((beyond > 0).sum())


def check_unique(names: Iterable[str], where: Path) -> None:
    """Refuse a list that names a pair twice: its keypoints would be counted twice.

    Raises:
        DataError: it does.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: the pair {name!r} is there twice; remove one line.")
        seen.add(name)


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """Pick `count` items at even distances, in their order; all for None or when there are no more."""
    if count is None or count >= len(items):
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]
