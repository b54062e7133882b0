"""Strict reading of plain tables into frozen dataclasses: a typing mistake is an error that names its key."""

import dataclasses
import math
import re
import types
from enum import StrEnum
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sd4match_lib.errors import UserError

T = TypeVar("T")


def parse_dataclass(cls: type[T], table: dict[str, Any], *, where: str, prefix: str = "") -> T:
    """Build a dataclass from a table, checking every key, type and range.

    Types understood: dataclasses, str, int, float, bool, Any, Literal, StrEnum, `X | None`, `tuple[X, ...]`,
    `tuple[X, X]` and `dict[str, X]`. A field's metadata may hold "min", "max" (inclusive), "above"
    (exclusive), "multiple" and "odd", which hold for every value inside and ask for at least one; "choices";
    or the "pattern" of a text, or of a table's keys, with the "words" that say it.

    Raises:
        UserError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    if not isinstance(table, dict):
        raise UserError(f"{where}: {prefix.rstrip('.') or 'this'} must be a table, not {table!r}.")
    hints = get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise UserError(f"{where}: unknown key '{prefix}{key}'; known are: {', '.join(fields)}.")
    values: dict[str, Any] = {}
    for name, item in fields.items():
        if name in table:
            values[name] = _parse(hints[name], table[name], where, f"{prefix}{name}")
            _check_range(values[name], item.metadata, where, f"{prefix}{name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: key '{prefix}{name}' is missing.")
    return cls(**values)


def _parse(hint: Any, value: Any, where: str, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return parse_dataclass(hint, _expect(value, dict, where, key), where=where, prefix=f"{key}.")  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _parse(next(arg for arg in args if arg is not type(None)), value, where, key)
    if origin is Literal:
        return _choose(args, value, where, key)
    if origin is dict:
        table = _expect(value, dict, where, key)
        return {name: _parse(args[1], item, where, f"{key}.{name}") for name, item in table.items()}
    if origin is tuple:
        items = _expect(value, list, where, key)
        length = None if Ellipsis in args else len(args)
        if len(items) > _MOST_ITEMS:
            raise UserError(f"{where}: '{key}' has {len(items)} values; the most is {_MOST_ITEMS}.")
        if length is not None and len(items) != length:
            raise UserError(f"{where}: '{key}' must have {length} values, not {len(items)}.")
        return tuple(_parse(args[0], item, where, f"{key}[{place}]") for place, item in enumerate(items))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint(_choose(tuple(member.value for member in hint), value, where, key))
    number = float(value) if hint is float and type(value) is int else _expect(value, hint, where, key)
    if hint is float and not math.isfinite(number):
        raise UserError(f"{where}: '{key}' must be a finite number, not {number}.")
    return number


def _expect(value: Any, kind: type, where: str, key: str) -> Any:
    # An exact match: True is an int to isinstance, and never what a number's key means.
    if type(value) is not kind:
        raise UserError(f"{where}: '{key}' must be {_NAMES.get(kind, kind.__name__)}, not {value!r}.")
    return value


def _choose(allowed: tuple[Any, ...], value: Any, where: str, key: str) -> Any:
    if value not in allowed:
        choices = ", ".join(repr(item) for item in allowed)
        raise UserError(f"{where}: '{key}' must be one of {choices}, not {value!r}.")
    return value


def _check_range(value: Any, limits: Any, where: str, key: str) -> None:
    if not limits or value is None:
        return
    if "choices" in limits:
        _choose(tuple(limits["choices"]), value, where, key)
    if "pattern" in limits:
        for name in value if isinstance(value, dict) else (value,):
            if not re.fullmatch(limits["pattern"], name):
                raise UserError(f"{where}: '{key}' names {name!r}; use {limits['words']}.")
        return
    if isinstance(value, tuple) and not value:
        raise UserError(f"{where}: '{key}' is an empty list; give at least one value.")
    numbers = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if "multiple" in limits and number % limits["multiple"]:
            raise UserError(
                f"{where}: '{key}' must be made of multiples of {limits['multiple']}, not {number}."
            )
        if limits.get("odd") and not number % 2:
            raise UserError(f"{where}: '{key}' must be odd, not {number}.")
        if "min" in limits and number < limits["min"]:
            raise UserError(f"{where}: '{key}' must be at least {limits['min']}, not {number}.")
        if "max" in limits and number > limits["max"]:
            raise UserError(f"{where}: '{key}' must be at most {limits['max']}, not {number}.")
        if "above" in limits and not number > limits["above"]:
            raise UserError(f"{where}: '{key}' must be above {limits['above']}, not {number}.")


_MOST_ITEMS = 100
"""Of a list: each source is looked for, each threshold has its intervals."""

_NAMES = {
    dict: "a table",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
