"""Tables of results: one frame, written as CSV for machines and Markdown for people.

Fractions stay fractions in the CSV; only the Markdown shows percent.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sd4match_lib.errors import DataError, reason
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.sentences import interval_of, value_of
from sd4match_lib.utils.files import atomic_write_text
from sd4match_lib.utils.markdown import escape_markdown
from sd4match_lib.utils.reading import read_csv

PUBLISHED = "published"
"""The optional boolean column that marks rows with the paper's numbers."""

_NOTHING = "-"
_HEADING = "† *As printed in the paper (arXiv:2310.17569v2), not measured here: SD2-1 on photographs.*"
_BLANK = (
    "*{count} rows of the paper are not shown: the text at hand lacks their numbers. To fill them in, copy "
    "`sd4match_lib/report/paper_blanks.csv` to `data/published.csv`.*"
)
_SHORT = {
    "aeroplane": "aero", "bicycle": "bike", "bottle": "bott", "chair": "chai", "diningtable": "tabl",
    "horse": "hors", "motorbike": "mbik", "person": "pers", "pottedplant": "plan", "sheep": "shee",
    "train": "trai", "tvmonitor": "tv",
}  # fmt: skip
"""Categories as the paper's Table 2 shortens them, so that 18 columns fit a page."""


def table_caption(text: str, *, profile: str, protocol: str) -> str:
    """Return a caption that says what every number of the table depends on.

    `protocol` is of `averages.describe_protocol`, empty where nothing was scored.
    """
    how = f"; {protocol.rstrip('.')}" if protocol else ""
    return f"{text.rstrip('.')}. Profile `{profile}`{how}."


def format_percent(value: float | Interval | None) -> str:
    """Format a fraction as percent with one decimal: ``52.9``, ``52.9 [51.0, 54.8]``, or a dash for none."""
    cell = interval_of(value)
    told = [_NOTHING if math.isnan(part) else f"{round(100 * part, 1) + 0.0:.1f}" for part in cell]
    return told[0] if _NOTHING in told else f"{told[0]} [{told[1]}, {told[2]}]"


def write_table(
    frame: pd.DataFrame, folder: Path | str, name: str, caption: str, *, percent: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Write a table as ``<name>.csv`` and ``<name>.md``, atomically.

    In the CSV an `Interval` becomes three columns: its name, and with ``_low`` and ``_high``.

    Args:
        frame: the table; see `markdown_table`.
        folder: where to write; made when missing.
        name: the files' name without suffix.
        caption: stands above the Markdown table; see `table_caption`.
        percent: as for `markdown_table`.

    Returns:
        The paths of the CSV and of the Markdown file.
    """
    csv_path, md_path = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.md"
    atomic_write_text(csv_path, _flat(frame).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    atomic_write_text(md_path, markdown_table(frame, caption, percent=percent))
    return csv_path, md_path


def markdown_table(frame: pd.DataFrame, caption: str, *, percent: Sequence[str] = ()) -> str:
    """Return a table as GitHub Markdown, for a file or a notebook.

    Rows whose column `PUBLISHED` is true are the paper's. They stand in a block of their own below the
    measured ones, in italics with a dagger; those without a single number are only counted.

    Args:
        frame: the table, its first column the rows' labels.
        caption: the paragraph above the table, in Markdown.
        percent: columns of fractions to show as percent; columns that hold an `Interval` always are.
    """
    published = frame[PUBLISHED].astype(bool) if PUBLISHED in frame else pd.Series(False, frame.index)
    shown = frame.drop(columns=PUBLISHED, errors="ignore")
    as_percent = [name for name in shown if name in percent or _has_intervals(shown[name])]
    parts = [caption, "", *_block(shown[~published], as_percent, marked=False)]
    printed = shown[published]
    known = printed[as_percent].map(lambda cell: not math.isnan(value_of(cell))).any(axis=1)
    if known.any():
        parts += ["", _HEADING, "", *_block(printed[known], as_percent, marked=True)]
    if count := int((~known).sum()):
        parts += ["", _BLANK.format(count=count)]
    return "\n".join(parts) + "\n"


def _block(frame: pd.DataFrame, as_percent: Sequence[str], *, marked: bool) -> list[str]:
    """The lines of a table; `marked` ones are the paper's."""
    columns = []
    for position, column in enumerate(frame):
        values = frame[column].tolist()
        if column in as_percent:
            cells = [format_percent(interval_of(value)) for value in values]
        else:
            cells = [_plain(value) for value in values]
        if marked:
            cells = [f"*{cell}{'' if position else ' †'}*" for cell in cells]
        right = column in as_percent or pd.api.types.is_numeric_dtype(frame[column])
        columns.append(
            [escape_markdown(_SHORT.get(str(column), str(column))), "---:" if right else ":---", *cells]
        )
    return ["| " + " | ".join(line) + " |" for line in zip(*columns, strict=True)]


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    columns: dict[str, list[object]] = {}
    for column in frame:
        values = frame[column].tolist()
        if _has_intervals(frame[column]):
            cells = [interval_of(value) for value in values]
            columns[column] = [cell.value for cell in cells]
            columns[f"{column}_low"] = [cell.low for cell in cells]
            columns[f"{column}_high"] = [cell.high for cell in cells]
        else:
            columns[column] = values
    return pd.DataFrame(columns)


def _has_intervals(column: pd.Series) -> bool:
    return any(isinstance(value, Interval) for value in column)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return _NOTHING
    return f"{value:.4g}" if isinstance(value, float) else escape_markdown(str(value))


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table that `write_table` wrote; `columns` are those that it must have, with their types.

    Raises:
        DataError: the file is missing or damaged.
    """
    # pandas fills up short rows, and takes the first columns of long ones for names.
    read_csv(path, columns or ())
    try:
        return pd.read_csv(path, dtype=dict(columns or {}))
    except Exception as error:  # pandas raises nearly anything on damaged files
        raise DataError(f"{path}: this is no table ({reason(error)}); delete it and run again.") from error
