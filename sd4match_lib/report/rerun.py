"""How far does a rerun move? Two results folders of one profile, number by number."""

from pathlib import Path

import numpy as np
import pandas as pd

from sd4match_lib.errors import DataError, UserError, reason
from sd4match_lib.report.tables import read_table

CAPTION = (
    "How far does a rerun move? Every number with an interval in both results folders, movements in "
    'percentage points. "Beyond the interval" counts those that left the first run\'s own interval.'
)

COLUMNS = ("table", "row", "column", "first", "second", "moved", "reach")


def compare_results(first: Path | str, second: Path | str) -> pd.DataFrame:
    """Set the measured numbers of two results folders of the same profile side by side.

    Numbers are those with an interval in the tables' CSV files; rows are told apart by their texts.

    Returns:
        One row per number that both hold, the farthest moved first: `COLUMNS`, as fractions; `moved` is the
        second minus the first, `reach` half the width of the first's interval.

    Raises:
        UserError: the folders have no table in common.
    """
    folders = [Path(folder) / "tables" for folder in (first, second)]
    names = sorted(
        {path.name for path in folders[0].glob("*.csv")} & {p.name for p in folders[1].glob("*.csv")}
    )
    if not names:
        raise UserError(f"{folders[0]} and {folders[1]} have no table in common: give two results folders.")
    found = [_numbers(folder, names) for folder in folders]
    for folder, numbers in zip(folders, found, strict=True):
        if not len(numbers):
            raise UserError(f"the tables in {folder} hold no number with an interval: give results folders.")
    both = found[0].merge(found[1], on=["table", "row", "column"], suffixes=("", " there"))
    if not len(both):
        raise UserError(f"{folders[0]} and {folders[1]} have no number in common: give two results folders.")
    both = both.assign(first=both["value"], second=both["value there"])
    both["moved"] = both["second"] - both["first"]
    order = both["moved"].abs().sort_values(ascending=False, kind="stable").index
    return both.loc[order, list(COLUMNS)].reset_index(drop=True)


def summarise_rerun(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return how far numbers of `compare_results` moved, table by table, and over all.

    Returns:
        One row per table and the row "all": `table`, `numbers`, `same` (to a thousandth of a point),
        `median moved`, `most moved` (fractions) and `beyond the interval` (how many left the first's).
    """
    table = []
    for name, part in [*numbers.groupby("table", sort=True), ("all", numbers)]:
        moved = part["moved"].abs()
        cells = {"table": name, "numbers": len(part), "same": int((moved < 1e-5).sum())}
        cells |= {"median moved": float(moved.median()), "most moved": float(moved.max())}
        table.append({**cells, "beyond the interval": int((moved > part["reach"]).sum())})
    return pd.DataFrame(table)


def _numbers(folder: Path, names: list[str]) -> pd.DataFrame:
    """The values with intervals of the tables: table, row, column, value, reach."""
    rows: list[dict[str, object]] = []
    for name in names:
        frame = read_table(folder / name)
        columns = set(frame.columns)
        measured = [column for column in frame if {f"{column}_low", f"{column}_high"} <= columns]
        texts = frame.select_dtypes(exclude=np.number).columns
        if not (measured and len(texts) and len(frame)):
            continue
        labels = frame[texts].astype(str).agg(", ".join, axis=1)
        # Rows that differ in numbers only, such as timesteps, are told apart by their order.
        again = labels.groupby(labels).cumcount()
        labels = labels.where(again == 0, labels + " #" + (again + 1).astype(str))
        for column in measured:
            try:
                values = frame[[column, f"{column}_low", f"{column}_high"]].to_numpy(float)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{folder / name}, column {column!r}: this is not a column of numbers ({reason(error)}); "
                    "write the table again."
                ) from error
            for label, (value, low, high) in zip(labels, values, strict=True):
                if np.isfinite([value, low, high]).all():
                    cells = {"table": name.removesuffix(".csv"), "row": label, "column": column}
                    rows.append({**cells, "value": value, "reach": (high - low) / 2})
    return pd.DataFrame(rows, columns=["table", "row", "column", "value", "reach"])
