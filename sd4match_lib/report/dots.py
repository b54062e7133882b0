"""Values with their intervals as dots on lines, one line a row: what bars cannot compare side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.sentences import interval_of
from sd4match_lib.report.style import figure_style, set_title

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Okabe and Ito's, which colour-blind readers can tell apart, in the order in which they are given out."""

_MARKERS = "osD^vX"
_SPREAD = 0.62
"""Of a row's height that its dots take, so that two rows are never taken for one."""


@dataclass(frozen=True, eq=False)
class Dots:
    """One kind of dot.

    Attributes:
        name: what the legend calls it.
        values: row to its value as a fraction, with or without interval; rows that are not named have none.
        colour: a matplotlib colour.
        marker: a matplotlib marker.
        hollow: without filling, for values that were not measured here.
    """

    name: str
    values: Mapping[str, Interval | float | None]
    colour: str
    marker: str = "o"
    hollow: bool = False


def plot_dots(
    groups: Mapping[str, Sequence[str]],
    kinds: Sequence[Dots],
    *,
    xlabel: str,
    title: str,
    zero: bool = False,
    width_inches: float = 6.4,
) -> Figure:
    """Draw rows of dots with their intervals, in groups under one another on one axis.

    Args:
        groups: what a group is called ("" for none) to its rows, from above.
        kinds: the dots of each row, from above.
        xlabel: what the values are.
        title: the finding.
        zero: values are differences: a line marks no difference, and signs are shown.
        width_inches: of the figure.
    """
    heights = [len(rows) for rows in groups.values()]
    per_row = max(0.26, 0.075 * len(kinds))
    with figure_style():
        size = (width_inches, per_row * sum(heights) + 0.25 * len(groups) + 1.1)
        figure, column = plt.subplots(
            len(groups), 1, figsize=size, sharex=True, squeeze=False, height_ratios=heights
        )
        for axes, (group, rows) in zip(column[:, 0], groups.items(), strict=True):
            if zero:
                axes.axvline(0, color="0.35", linewidth=1)
            for place, kind in enumerate(kinds):
                offset = _SPREAD * (place - (len(kinds) - 1) / 2) / len(kinds)
                for line, row in enumerate(rows):
                    _draw(axes, kind.values.get(row), line + offset, kind)
            axes.set_yticks(range(len(rows)), rows)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            for line in range(len(rows) - 1):
                axes.axhline(line + 0.5, color="0.93", linewidth=0.6, zorder=0)
            axes.set_title(group, fontsize=9, fontweight="normal")
            labels = FuncFormatter(_signed) if zero else PercentFormatter(1.0, symbol=" %")
            axes.xaxis.set_major_formatter(labels)
        bounds = [interval_of(value).low for kind in kinds for value in kind.values.values()]
        known = not all(map(math.isnan, bounds))
        column[-1, 0].set_xlabel(f"{xlabel} (lines: 95 % interval)" if known else xlabel)
        handles = [
            plt.Line2D(
                [], [], color=kind.colour, marker=kind.marker, linestyle="", label=kind.name, **_face(kind)
            )
            for kind in kinds
        ]
        if len(kinds) > 1:
            figure.legend(handles=handles, loc="outside right center")
        set_title(figure, title)
    return figure


def from_table(frame: pd.DataFrame, row: str, column: str) -> dict[str, Interval | float | None]:
    """Return a column of a table by the row's label, for `Dots`."""
    return {str(name): value for name, value in zip(frame[row], frame[column], strict=True)}


def dots_of(frame: pd.DataFrame, row: str, column: str, kind: str) -> list[Dots]:
    """Return a table's values as dots in rows named by a column, a kind for each value of another one."""
    parts = frame.groupby(kind, sort=False)
    looks = zip(COLOURS[: len(parts)], _MARKERS[: len(parts)], strict=True)
    return [
        Dots(str(name), from_table(part, row, column), *look)
        for (name, part), look in zip(parts, looks, strict=True)
    ]


def _draw(axes: plt.Axes, value: Interval | float | None, height: float, kind: Dots) -> None:
    at = interval_of(value)
    if math.isnan(at.value):
        return
    if not math.isnan(at.low):
        axes.plot(
            [at.low, at.high], [height, height], color=kind.colour, linewidth=1.2, solid_capstyle="butt"
        )
    axes.plot(at.value, height, marker=kind.marker, color=kind.colour, linestyle="", **_face(kind))


def _face(kind: Dots) -> dict[str, Any]:
    return {"markerfacecolor": "white"} if kind.hollow else {}


def _signed(value: float, _: object) -> str:
    return f"{100 * value:+.6g}" if abs(value) > 1e-9 else "0"
