"""Hashes that say whether something changed: folders, the library's code, the shipped weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sd4match_lib.utils.files import sha256_file, sha256_text
from sd4match_lib.utils.paths import package_path

_METHOD_FOLDERS = (
    "data", "matching", "metrics", "backbones", "prompts", "features", "training", "evaluation",
)  # fmt: skip
_METHOD_CODE = ("geometry.py", "images.py", *(f"{folder}/**/*.py" for folder in _METHOD_FOLDERS))


def tree_hash(folder: Path, patterns: Sequence[str] = ("**/*",)) -> str:
    """Return the SHA-256 over the names and contents of a folder's files.

    Args:
        folder: where to look; a folder that does not exist counts as empty.
        patterns: which files below it, as glob patterns.
    """
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    listing = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in found
        if "__pycache__" not in path.parts
    }
    return content_hash(listing)


def library_hash() -> str:
    """Return the SHA-256 of the package's code and tables (profiles and weights have hashes of their own)."""
    return tree_hash(package_path(""), ("**/*.py", "data/*.csv", "report/*.csv", "report/*.mplstyle"))


def method_hash() -> str:
    """Return the SHA-256 of all code that decides which points are found and which prompt is learned.

    Training evaluates and evaluation reads what training wrote, so that one list serves both.
    """
    return tree_hash(package_path(""), _METHOD_CODE)


def weights_hash() -> str:
    """Return the SHA-256 of the weights that the package ships; their card is only about them."""
    return tree_hash(package_path("miniature/weights"), ("**/*.safetensors", "**/*.json"))


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a value's sorted JSON; values that `plain` understands may be inside."""
    return sha256_text(json.dumps(plain(value), sort_keys=True))


def plain(value: Any) -> Any:
    """Turn a value into plain JSON data: paths, dataclasses, tuples and NumPy scalars become what JSON has.

    Raises:
        TypeError: there is something inside whose text would not be the same in the next process.
    """
    if value is None or isinstance(value, bool | int | float | str):
        # A StrEnum is a str: the plain text, so that a record reads back equal.
        return str(value) if isinstance(value, str) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"a record cannot hold a {type(value).__name__}; pass numbers, texts, lists or tables")
