"""What a table comes to, in a sentence: computed, so that it is true in every profile."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from sd4match_lib.metrics.bootstrap import Interval

NOTHING = Interval(math.nan, math.nan, math.nan)
"""What was not measured."""


def points(value: float) -> str:
    """Return a fraction as percentage points with a sign, such as "+3.1"; what rounds to zero is "+0.0"."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def difference(gain: Interval) -> str:
    """Return a difference of PCK with its interval, and whether the interval leaves the sign open.

    Returns:
        For example "+3.1 points (95 % interval +0.4 to +5.8, clear of zero)".
    """
    if math.isnan(gain.low):
        return f"{points(gain.value)} points (no interval: too few pictures, or no difference on any)"
    clear = (
        "clear of zero" if gain.low > 0 or gain.high < 0 else "zero is inside: not to be told from nothing"
    )
    return f"{points(gain.value)} points (95 % interval {points(gain.low)} to {points(gain.high)}, {clear})"


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts, such as "1 pair" or "2 pairs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a text, such as "cat, dog and horse"; "none" where there are none."""
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def interval_of(cell: Interval | float | None) -> Interval:
    """Return a cell as an interval: a number has no bounds, and what was not measured no value (NaN)."""
    if isinstance(cell, Interval):
        return cell
    return Interval(math.nan if cell is None or pd.isna(cell) else float(cell), math.nan, math.nan)


def value_of(cell: Interval | float | None) -> float:
    """Return a cell's value as a fraction; NaN where nothing was measured."""
    return interval_of(cell).value


def percent(cell: Interval | float | None) -> str:
    """Return a cell's value in percent, such as "46.4 %"; never "-0.0 %"."""
    return f"{round(100 * value_of(cell), 1) + 0.0:.1f} %"


def clearly_better(cells: Iterable[Interval | None]) -> int:
    """Count the differences that are clearly above zero."""
    return sum(cell is not None and cell.low > 0 for cell in cells)


def clearly_worse(cells: Iterable[Interval | None]) -> int:
    """Count the differences that are clearly below zero."""
    return sum(cell is not None and cell.high < 0 for cell in cells)


def is_clear(cell: Interval | None) -> bool:
    """Whether a difference's interval leaves zero out."""
    return cell is not None and (cell.low > 0 or cell.high < 0)
