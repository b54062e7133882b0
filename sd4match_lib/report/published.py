"""The paper's own numbers, as data: to be shown beside measured ones and never mixed up with them."""

from __future__ import annotations

import math

import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.paths import package_path

_COLUMNS = {
    "table": "str",
    "row": "str",
    "supervision": "str",
    "dataset": "str",
    "column": "str",
    "alpha": "float64",
    "average": "str",
    "value": "float64",
    "source": "str",
}


def load_published() -> pd.DataFrame:
    """Read the published numbers.

    Returns:
        One row per printed number: ``table`` (``"table2"``, ...), ``row`` (the method), ``supervision``
        (``Z`` zero-shot, ``I`` image labels, ``K`` keypoints), ``dataset``, ``column`` (a category or
        ``"all"``), ``alpha``, ``average``, ``value`` (a fraction, where the paper prints percent; NaN where
        it prints nothing) and ``source``.
    """
    frame = pd.read_csv(package_path("report/paper_tables.csv"), dtype=_COLUMNS)
    return frame.assign(value=(frame["value"] / 100).round(6))


def lookup(table: str, row: str, column: str, alpha: float) -> float | None:
    """Return one published number as a fraction, or None where the paper does not print it.

    Args:
        table: such as ``"table2"``.
        row: the method, as the paper calls it, such as ``"SD4Match-CPM"``.
        column: a category, or ``"all"``.
        alpha: PCK's alpha.

    Raises:
        UserError: the paper has no such table, or the table has no such row.
    """
    published = load_published()
    for name, value in (("table", table), ("row", row)):
        known = published[name].unique()
        if value not in known:
            raise UserError(f"The published numbers have no {name} '{value}'; they have {', '.join(known)}.")
        published = published[published[name] == value]
    found = published[(published["column"] == column) & ((published["alpha"] - alpha).abs() < 1e-9)]["value"]
    return None if found.empty or math.isnan(found.iloc[0]) else float(found.iloc[0])
