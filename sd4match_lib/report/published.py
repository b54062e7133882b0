"""The paper's own numbers, as data: to be shown beside measured ones and never mixed up with them.

`paper_tables.csv` holds what is printed in the text at hand. What the paper prints elsewhere, in the bodies
of Tables 1, 3 and 4, is in `paper_blanks.csv` as rows without a value. Whoever has the paper can copy that
file to `data/published.csv` and fill it in there.
"""

import math
from pathlib import Path

import pandas as pd

from sd4match_lib.errors import UserError, reason
from sd4match_lib.utils.paths import package_path, resolve_path
from sd4match_lib.utils.reading import read_csv

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


_KEY = ["table", "row", "dataset", "column", "alpha", "average"]


def load_published() -> pd.DataFrame:
    """Read the published numbers.

    Returns:
        One row per printed number: ``table`` (``"table2"``, ...), ``row`` (the method), ``supervision``
        (``Z`` zero-shot, ``I`` image labels, ``K`` keypoints), ``dataset``, ``column`` (a category or
        ``"all"``), ``alpha``, ``average``, ``value`` (a fraction, where the paper prints percent; NaN where
        it prints nothing) and ``source``.
    """
    files = [package_path(f"report/{name}.csv") for name in ("paper_tables", "paper_blanks")]
    if filled_in().is_file():
        files.append(filled_in())
    frame = pd.concat([_read(path) for path in files], ignore_index=True)
    # The user's word counts last, where it says a number.
    named = frame.sort_values("value", key=lambda value: value.notna(), kind="stable")
    frame = frame.loc[sorted(named.drop_duplicates(_KEY, keep="last").index)].reset_index(drop=True)
    return frame.assign(value=(frame["value"] / 100).round(6))


def load_field() -> pd.DataFrame:
    """Read what the field prints today, with the columns of `load_published`; `table` is ``"field"``.

    ``average`` is ``"unknown"`` where the source does not say it, and ``supervision`` empty where this
    repository does not know it. For AP-10K ``column`` is the split.
    """
    frame = _read(package_path("report/field.csv"))
    return frame.assign(supervision=frame["supervision"].fillna(""), value=(frame["value"] / 100).round(6))


def filled_in() -> Path:
    """Return where a user's own copy of `paper_blanks.csv` lies, filled in, or would lie."""
    return resolve_path("data/published.csv")


def lookup(table: str, row: str, column: str, alpha: float, *, dataset: str = "spair") -> float | None:
    """Return one published number as a fraction, or None where the paper does not print it.

    Args:
        table: such as ``"table2"``.
        row: the method, as the paper calls it, such as ``"SD4Match-CPM"``.
        column: a category, or ``"all"``.
        alpha: PCK's alpha.
        dataset: the data set tested on.

    Raises:
        UserError: the paper has no such table, or the table has no such row.
    """
    published = load_published()
    for name, value in (("table", table), ("row", row)):
        known = published[name].unique()
        if value not in known:
            raise UserError(f"The published numbers have no {name} '{value}'; they have {', '.join(known)}.")
        published = published[published[name] == value]
    wanted = (published["column"] == column) & (published["dataset"] == dataset)
    found = published[wanted & ((published["alpha"] - alpha).abs() < 1e-9)]["value"]
    return None if found.empty or math.isnan(found.iloc[0]) else float(found.iloc[0])


def _read(path: Path) -> pd.DataFrame:
    read_csv(path, (), fix="mend or delete it")  # pandas fills up short rows
    try:
        frame = pd.read_csv(path, dtype=_COLUMNS)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} is not a table of published numbers ({reason(error)}); mend or delete it."
        ) from error
    missing = [column for column in _COLUMNS if column not in frame]
    if missing:
        raise UserError(f"{path} lacks the column {missing[0]!r}; copy paper_blanks.csv again.")
    return frame[list(_COLUMNS)]
