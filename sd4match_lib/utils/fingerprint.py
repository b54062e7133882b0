"""Hashes that say whether something changed: folders, the library's code, the shipped weights."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CellType, CodeType, FunctionType
from typing import Any

from sd4match_lib.utils.files import sha256_file, sha256_text
from sd4match_lib.utils.paths import package_path

_METHOD_FOLDERS = (
    "data", "matching", "metrics", "backbones", "prompts", "features", "training", "evaluation",
)  # fmt: skip
# How several processes share a batch and add up is part of it too.
_METHOD_FILES = ("geometry.py", "images.py", "runs/distributed.py")
_METHOD_CODE = (*_METHOD_FILES, *(f"{folder}/**/*.py" for folder in _METHOD_FOLDERS))

_LIBRARIES = {"sd4match_lib", "torch", "builtins", "abc"}
"""Where the base classes of a class of one's own come from; records name their code by other means."""
_TOLD_BY_PYTHON = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl"}
_TOLD_BY_PYTHON |= {"__firstlineno__", "__static_attributes__", "__abstractmethods__", "__parameters__"}


def tree_hash(folder: Path, patterns: Sequence[str] = ("**/*",)) -> str:
    """Return the SHA-256 over names and contents of a folder's files that match patterns.

    A folder that does not exist counts as empty.
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


def code_hash(cls: type) -> str:
    """Return the SHA-256 of what a class written outside this library does; "" for a class of this library.

    Read from the compiled code, as a class from a notebook has no file: its methods and constants, those of
    its own base classes, and the functions and plain values of its modules that they name.
    """
    own = [part for part in cls.__mro__ if _package(part) not in _LIBRARIES]
    return content_hash(_code_of(own, {_package(part) for part in own}, set())) if own else ""


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).split(".")[0]


def _code_of(thing: Any, packages: set[str], seen: set[int]) -> Any:
    """What a value says as nested lists of text; code is followed within `packages`, the rest is its type."""
    if isinstance(thing, str | bytes | int | float | complex | bool | None | type(...)):
        return repr(thing)
    if isinstance(thing, list | tuple):
        return [_code_of(item, packages, seen) for item in thing]
    if isinstance(thing, set | frozenset | dict):
        items = thing.items() if isinstance(thing, dict) else thing
        return sorted(json.dumps(_code_of(item, packages, seen)) for item in items)
    if isinstance(thing, staticmethod | classmethod):
        return _code_of(thing.__func__, packages, seen)
    if isinstance(thing, property):
        return _code_of([thing.fget, thing.fset], packages, seen)
    if isinstance(thing, CodeType):
        return [thing.co_code.hex(), list(thing.co_names), _code_of(thing.co_consts, packages, seen)]
    followed = isinstance(thing, FunctionType | type) and _package(thing) in packages
    if not followed or id(thing) in seen:
        return getattr(thing, "__qualname__", type(thing).__qualname__)
    seen.add(id(thing))
    if isinstance(thing, type):
        members = {name: value for name, value in vars(thing).items() if name not in _TOLD_BY_PYTHON}
        return _code_of([thing.__qualname__, members], packages, seen)
    named = {name: thing.__globals__[name] for name in _names(thing.__code__) if name in thing.__globals__}
    closed = [cell.cell_contents for cell in thing.__closure__ or () if cell != CellType()]
    return _code_of([thing.__code__, thing.__defaults__, closed, named], packages, seen)


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


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
