"""Tables of results: one frame, written as CSV for machines and Markdown for people.

Fractions stay fractions in the CSV; only the Markdown shows percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.utils.files import atomic_write_text

PUBLISHED = "published"
"""The optional boolean column that marks rows with the paper's numbers; Markdown shows it as a dagger."""

_NOTHING = "-"
_FOOTNOTE = "† *As printed in the paper (arXiv:2310.17569v2), not measured here.*"


def table_caption(text: str, *, profile: str, protocol: str) -> str:
    """Return a caption that says what every number of the table depends on.

    Args:
        text: what the table shows, as a sentence.
        profile: the profile that measured it.
        protocol: how; see `pck.describe_protocol`.
    """
    return f"{text.rstrip('.')}. Profile `{profile}`; {protocol.rstrip('.')}."


def format_percent(value: float | Interval | None) -> str:
    """Format a fraction as percent with one decimal: ``52.9``, ``52.9 [51.0, 54.8]``, or a dash for none."""
    if value is None:
        return _NOTHING
    if isinstance(value, Interval):
        if math.isnan(value.low) or math.isnan(value.high):
            return format_percent(value.value)
        return f"{format_percent(value.value)} [{format_percent(value.low)}, {format_percent(value.high)}]"
    return _NOTHING if math.isnan(value) else f"{100 * value:.1f}"


def write_table(
    frame: pd.DataFrame,
    folder: Path | str,
    name: str,
    caption: str,
    *,
    percent: Sequence[str] = (),
    bold_best: bool = True,
) -> tuple[Path, Path]:
    """Write a table as ``<name>.csv`` and ``<name>.md``, atomically.

    In the CSV an `Interval` becomes three columns: its name, and with ``_low`` and ``_high``.

    Args:
        frame: the table; see `markdown_table`.
        folder: where to write; made when missing.
        name: the files' name without suffix.
        caption: stands above the Markdown table; see `table_caption`.
        percent, bold_best: as for `markdown_table`.

    Returns:
        The paths of the CSV and of the Markdown file.
    """
    csv_path, md_path = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.md"
    atomic_write_text(csv_path, _flat(frame).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    atomic_write_text(md_path, markdown_table(frame, caption, percent=percent, bold_best=bold_best))
    return csv_path, md_path


def markdown_table(
    frame: pd.DataFrame, caption: str, *, percent: Sequence[str] = (), bold_best: bool = True
) -> str:
    """Return a table as GitHub Markdown, for a file or a notebook.

    Args:
        frame: the table, its first column the rows' labels. Rows whose column `PUBLISHED` is true are the
            paper's: they are shown in italics with a dagger, and the column itself is not shown.
        caption: the paragraph above the table, in Markdown.
        percent: columns of fractions to show as percent; columns that hold an `Interval` always are.
        bold_best: set the highest measured value of each percent column in bold, where two rows or more
            compete.
    """
    published = _published(frame)
    shown = frame.drop(columns=PUBLISHED, errors="ignore")
    columns = []
    for position, column in enumerate(shown):
        values = shown[column].tolist()
        as_percent = column in percent or _has_intervals(shown[column])
        cells = [format_percent(_number(value)) if as_percent else _plain(value) for value in values]
        if as_percent and bold_best:
            cells = _bold_best(cells, values, published)
        if position == 0:
            cells = [f"{cell} †" if marked else cell for cell, marked in zip(cells, published, strict=True)]
        right = as_percent or pd.api.types.is_numeric_dtype(shown[column])
        cells = [f"*{cell}*" if marked else cell for cell, marked in zip(cells, published, strict=True)]
        columns.append([_escape(str(column)), "---:" if right else ":---", *cells])
    lines = ["| " + " | ".join(line) + " |" for line in zip(*columns, strict=True)]
    footnote = ["", _FOOTNOTE] if any(published) else []
    return "\n".join([caption, "", *lines, *footnote]) + "\n"


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    columns: dict[str, list[object]] = {}
    for column in frame:
        values = frame[column].tolist()
        if _has_intervals(frame[column]):
            cells = [_interval(value) for value in values]
            columns[column] = [cell.value for cell in cells]
            columns[f"{column}_low"] = [cell.low for cell in cells]
            columns[f"{column}_high"] = [cell.high for cell in cells]
        else:
            columns[column] = values
    return pd.DataFrame(columns)


def _published(frame: pd.DataFrame) -> list[bool]:
    return frame[PUBLISHED].astype(bool).tolist() if PUBLISHED in frame else [False] * len(frame)


def _has_intervals(column: pd.Series) -> bool:
    return any(isinstance(value, Interval) for value in column)


def _number(value: Any) -> float | Interval:
    if isinstance(value, Interval):
        return value
    return math.nan if pd.isna(value) else float(value)


def _interval(value: Any) -> Interval:
    number = _number(value)
    return number if isinstance(number, Interval) else Interval(number, math.nan, math.nan)


def _bold_best(cells: list[str], values: list[Any], published: list[bool]) -> list[str]:
    """Set the best measured cell in bold, and those that look the same when rounded."""
    measured = {row: _interval(value).value for row, value in enumerate(values) if not published[row]}
    scores = {row: score for row, score in measured.items() if not math.isnan(score)}
    if len(scores) < 2:
        return cells
    best = format_percent(max(scores.values()))
    return [
        f"**{cell}**" if row in scores and format_percent(scores[row]) == best else cell
        for row, cell in enumerate(cells)
    ]


def _plain(value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return _NOTHING
    return f"{value:.4g}" if isinstance(value, float) else _escape(str(value))


def _escape(text: str) -> str:
    """Keep Markdown from reading names such as ``SD+DINO*`` or ``a|b`` as markup."""
    for mark in ("\\", "|", "*", "_"):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
