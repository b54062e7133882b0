"""Reading files from outside: what is wrong with one is told in one sentence, before memory is spent on it.

Sizes, depths and digits are limited: a file may come from anywhere, and no real one comes near.
"""

import ast
import csv
import io
import json
import os
import stat
import tomllib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sd4match_lib.errors import DataError, reason, why

AGAIN = "fetch or write it again"

_MB = 2**20
_CSV_MB, _JSON_MB, _TOML_MB = 256, 64, 1
_DEEPEST = 64
_LARGEST = 2**128
"""Tokenizers state 10**30 where they mean no limit; more digits than that are nobody's."""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class TensorInfo:
    """What a safetensors header says of one tensor: its type, such as "F32", and its shape."""

    dtype: str
    shape: tuple[int, ...]


def check_file(path: Path | str, *, fix: str = AGAIN, limit: int | None = None) -> int:
    """Make sure that a path is a plain file, of at most `limit` bytes, to be read; return its size in bytes.

    Raises:
        DataError: it is missing, a folder, a pipe or a device, too large, or out of reach.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; {fix}.") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({why(error)}); {fix}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path} is a folder, not a file; {fix}.")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is a pipe or a device, not a file; {fix}.")
    if limit is not None and status.st_size > limit:
        raise DataError(
            f"{path} has {status.st_size / _MB:,.1f} MB, more than the {limit / _MB:g} that are read; {fix}."
        )
    if not os.access(path, os.R_OK):
        raise DataError(f"{path} cannot be read (permission denied); let yourself in, or {fix}.")
    return status.st_size


def read_bytes(path: Path | str, *, limit: int, fix: str = AGAIN) -> bytes:
    """Read a whole file of at most `limit` bytes."""
    check_file(path, fix=fix, limit=limit)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({why(error)}); {fix}.") from error


def read_text(path: Path | str, *, limit: int = _CSV_MB * _MB, fix: str = AGAIN) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        DataError: the file is missing, too large, or is not text.
    """
    data = read_bytes(path, limit=limit, fix=fix)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({reason(error)}); {fix}.") from error
    if "\0" in text:
        raise DataError(f"{path} holds NUL characters, so it is no text; {fix}.")
    return text


def read_json(path: Path | str, *, fix: str = AGAIN) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing or too large, is not JSON, or nests too deep, or has numbers of more
            than 128 bits or texts that are not Unicode.
    """
    return _parse(path, read_bytes(path, limit=_JSON_MB * _MB, fix=fix), json.loads, "JSON", fix)


def parse_json(path: Path | str, text: str, *, fix: str = AGAIN) -> Any:
    """Parse JSON that stands inside a file, under the rules of `read_json`."""
    return _parse(path, text.encode("utf-8", "surrogatepass"), json.loads, "JSON", fix)


def read_toml(path: Path | str, *, fix: str = AGAIN) -> dict[str, Any]:
    """Read a TOML file; see `read_json` for what is refused."""
    data = read_bytes(path, limit=_TOML_MB * _MB, fix=fix)
    table: dict[str, Any] = _parse(path, data, tomllib.loads, "TOML", fix)
    return table


def read_csv(path: Path | str, required: Collection[str], *, fix: str = AGAIN) -> list[dict[str, str]]:
    """Read a CSV file with a header; `fix` says what to do about one that cannot be read.

    Returns:
        One column -> cell mapping per row; every row has every column.

    Raises:
        DataError: the file is missing, a required column is, a column is there twice, or a row has not
            as many cells as the header.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, fix=fix), newline=""))
    rows: list[dict[str, str]] = []
    try:
        columns = list(reader.fieldnames or ())
        missing = [column for column in required if column not in columns]
        if missing:
            raise DataError(
                f"{path}: the column {missing[0]!r} is missing; the first line must name the columns."
            )
        twice = [column for column, count in Counter(columns).items() if count > 1]
        if twice:
            raise DataError(f"{path}: the column {twice[0]!r} is there twice; remove one.")
        for row in reader:
            # DictReader files surplus cells under None, and None under columns without a cell.
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {reader.line_num}: the row has not as many cells as the header; "
                    "put cells that hold commas in double quotes."
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: this is not valid CSV ({reason(error)}); {fix}.") from error
    return rows


def read_tensor_header(path: Path | str, *, fix: str = AGAIN) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Read what a safetensors file says of its tensors, without reading any.

    Returns:
        The tensors by name, and the file's metadata.

    Raises:
        DataError: the file is missing, cut off, something else, or promises more or less than it holds.
    """
    from safetensors import SafetensorError, safe_open

    size = check_file(path, fix=fix)
    with open(path, "rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise DataError(f"{path} is only Git LFS's pointer to the file; fetch it with `git lfs pull`.")
    try:
        with safe_open(path, framework="np") as stored:
            names = stored.keys()
            slices = {name: stored.get_slice(name) for name in names}
            about = stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is not a complete safetensors file of {size} bytes ({reason(error)}); {fix}."
        ) from error
    tensors = {name: TensorInfo(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    return tensors, about


def literal_or_text(text: str) -> Any:
    """Return what a text says as a Python literal, such as a number or True, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _parse(path: Path | str, data: bytes, parse: Callable[[str], Any], kind: str, fix: str) -> Any:
    try:
        value = parse(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise DataError(f"{path}: this is not valid {kind} (it nests too deep); {fix}.") from error
    except ValueError as error:  # the parsers' and the decoder's own, and int's limit of digits
        raise DataError(f"{path}: this is not valid {kind} ({reason(error)}); {fix}.") from error
    wrong = _what_is_wrong(value)
    if wrong:
        raise DataError(f"{path}: this is not usable {kind}: {wrong}; {fix}.")
    return value


def _what_is_wrong(value: Any) -> str:
    """Why no later step could live with a value; empty when there is nothing."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            return f"it nests more than {_DEEPEST} deep"
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
                inner += item
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, int) and not -_LARGEST <= item < _LARGEST:
                return "a whole number in it has more than 128 bits"
            elif isinstance(item, str) and not _is_text(item):
                return f"the text {item[:80]!r} is not valid Unicode"
        level, depth = inner, depth + 1
    return ""


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text
