"""Reading lists, annotations and points so that whatever is wrong with them is told in one sentence."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sd4match_lib.errors import DataError
from sd4match_lib.geometry import HW

XY = npt.NDArray[np.float32]
"""Points ``(N, 2)``, (x, y)."""

T = TypeVar("T")


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        DataError: the file is missing or is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such file; `sd4match doctor` says what belongs there."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the file cannot be read ({error}); fetch it again.") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: this is not valid JSON ({error}); fetch or write it again.") from error


def read_csv(path: Path, required: Collection[str]) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Args:
        path: the file.
        required: columns that must be there.

    Returns:
        One column -> cell mapping per row; every row has every column.

    Raises:
        DataError: the file is missing, a required column is, or a row has not as many cells as the header.
    """
    reader = csv.DictReader(read_text(path).splitlines())
    try:
        missing = [column for column in required if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path}: the column {missing[0]!r} is missing; the first line must name the columns."
            )
        rows: list[dict[str, str]] = []
        for row in reader:
            # DictReader files surplus cells under None, and None under columns without a cell.
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {reader.line_num}: the row has not as many cells as the header; "
                    "put cells that hold commas in double quotes."
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: this is not valid CSV ({error}); fetch or write it again.") from error
    return rows


def read_mat(path: Path, field: str) -> npt.NDArray[np.float64]:
    """Read one numeric matrix of a MATLAB file.

    Raises:
        DataError: the file is missing or is no MATLAB file, or the matrix is missing or not made of numbers.
    """
    from scipy.io import loadmat  # here, because it is slow to import and only two layouts need it

    try:
        with path.open("rb") as stream:
            content = loadmat(stream, variable_names=[field])
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such annotation; fetch the data set again.") from error
    except Exception as error:  # scipy's reader raises nearly anything on damaged files
        raise DataError(f"{path}: this is not a readable MATLAB file ({error}); fetch it again.") from error
    if field not in content:
        raise DataError(f"{path}: the field {field!r} is missing; fetch the data set again.")
    try:
        return np.asarray(content[field], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: the field {field!r} is not a matrix of numbers; fetch it again.") from error


def as_points(value: Any, where: str) -> XY:
    """Turn a list of [x, y] into points ``(N, 2)``; N may be 0.

    Args:
        value: what was read.
        where: file and field, for the message.

    Raises:
        DataError: it is not a list of pairs of finite numbers.
    """
    try:
        points = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: this is not a list of [x, y]; correct the field.") from error
    if points.size == 0:
        return np.zeros((0, 2), dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise DataError(
            f"{where}: the points must be [x, y] each, the shape is {points.shape}; correct the field."
        )
    if not np.isfinite(points).all():
        raise DataError(f"{where}: a coordinate is not a finite number; correct the field.")
    return points


def as_numbers(text: str, where: str, separator: str = ";") -> npt.NDArray[np.float32]:
    """Turn ``"1.5;2"`` into numbers ``(N,)``; an empty cell among them becomes NaN.

    Raises:
        DataError: something between the separators is not a number.
    """
    try:
        cells = [cell.strip() for cell in text.split(separator)]
        return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{where}: this is not a list of numbers ({error}); correct the field.") from error


def parse_points(value: Any, where: str) -> XY:
    """Turn ``"x,y;x,y"`` or a list of [x, y] into points ``(N, 2)``; none from an empty or missing field.

    Raises:
        DataError: it is neither.
    """
    if not isinstance(value, str):
        return as_points(value or [], where)
    pieces = [piece for piece in value.split(";") if piece.strip()]
    return as_points([as_numbers(piece, where, separator=",").tolist() for piece in pieces], where)


def count_outside(xy_px: XY, hw_px: HW, *, tolerance_px: float, where: str) -> int:
    """Count the points outside their picture, and refuse those that are far outside.

    Args:
        xy_px: points ``(N, 2)``.
        hw_px: the picture's size.
        tolerance_px: how far outside ``[0, W - 1] x [0, H - 1]`` a point may lie, in pixels.
        where: file and field, for the message.

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


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """Pick `count` items at even distances, in their order; all for None or when there are no more."""
    if count is None or count >= len(items):
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]
