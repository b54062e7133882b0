"""Figures in one style: every ``plot_*`` draws and returns its axes, `save_figure` writes PNG and SVG.

Measured values come as `Interval` cells, as `pck.pck_table` makes them, or as plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.pictures import plot_image_grid, plot_matches
from sd4match_lib.report.style import figure_style, save_figure, set_title

__all__ = [
    "figure_style",
    "plot_bars_with_intervals",
    "plot_curve_with_band",
    "plot_image_grid",
    "plot_matches",
    "save_figure",
]

_BAR_WIDTH = 0.8


def plot_bars_with_intervals(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    hue: str | None = None,
    percent: bool = True,
    ylabel: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a bar per row, in the rows' order, with its interval as an error bar.

    Args:
        frame: one row per bar.
        x: the column that names the groups.
        y: the column of values, `Interval` or number; a missing value leaves a gap.
        hue: the column that tells bars of one group apart by colour.
        percent: show fractions as percent.
        ylabel: the y axis's label; the column's name when None.
        title: the axes' title.
        ax: where to draw; new axes when None.

    Returns:
        The axes.
    """
    groups, levels = _in_order(frame[x]), _in_order(frame[hue]) if hue else [None]
    data = frame.assign(**_split(frame[y]))
    with figure_style():
        bars = len(groups) * len(levels)
        ax = ax or plt.subplots(figsize=(min(10.0, max(6.4, 1.6 + 0.28 * bars)), 3.4))[1]
        colours = _colours(len(levels))
        sns.barplot(
            data,
            x=x,
            y="value",
            hue=hue,
            order=groups,
            hue_order=levels if hue else None,
            ax=ax,
            width=_BAR_WIDTH,
            errorbar=None,
            saturation=1,
            **({"palette": colours} if hue else {"color": colours[0]}),
        )
        for place, level in enumerate(levels):
            part = data[data[hue] == level] if hue else data
            offset = (place - (len(levels) - 1) / 2) * _BAR_WIDTH / len(levels)
            centres = [groups.index(name) + offset for name in part[x]]
            reach = [part["value"] - part["low"], part["high"] - part["value"]]
            ax.errorbar(centres, part["value"], yerr=np.clip(reach, 0, None), fmt="none", ecolor="0.15", lw=1)
        ax.grid(axis="x", visible=False)
        ax.set(xlim=(-0.6, len(groups) - 0.4), ylim=(0, None))
        if len(groups) > 6:
            plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        label = with_interval(ylabel or y, frame[y], "bars")
        _finish(ax, xlabel="", ylabel=label, title=title, percent=percent)
    return ax


def plot_curve_with_band(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    hue: str | None = None,
    percent: bool = True,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw values over a quantity as lines, with intervals as bands around them.

    Args:
        frame: one row per point, in any order.
        x: the column of the quantity, numbers.
        y: the column of values, `Interval` or number; where there is no interval there is no band.
        hue: the column that tells lines apart, by colour and by marker or dashes.
        percent: show fractions as percent.
        xlabel, ylabel: the axes' labels; the columns' names when None.
        title: the axes' title.
        ax: where to draw; new axes when None.

    Returns:
        The axes.
    """
    levels = _in_order(frame[hue]) if hue else [None]
    data = frame.assign(**_split(frame[y])).sort_values(x)
    dense = len(data) > 20 * len(levels)
    with figure_style():
        ax = ax or plt.subplots()[1]
        colours = _colours(len(levels))
        told_apart = {
            "hue": hue,
            "hue_order": levels,
            "palette": colours,
            "style": hue,
            "style_order": levels,
        }
        sns.lineplot(
            data,
            x=x,
            y="value",
            ax=ax,
            errorbar=None,
            estimator=None,
            **({**told_apart, "markers": not dense, "dashes": dense} if hue else {"color": colours[0]}),
            **({} if hue or dense else {"marker": "o"}),
        )
        for level, colour in zip(levels, colours, strict=True):
            part = data[data[hue] == level] if hue else data
            ax.fill_between(part[x], part["low"], part["high"], color=colour, alpha=0.2, linewidth=0)
        label = with_interval(ylabel or y, frame[y], "bands")
        _finish(ax, xlabel=xlabel or x, ylabel=label, title=title, percent=percent)
    return ax


def with_interval(label: str, values: Iterable[Any], drawn_as: str) -> str:
    """Return an axis's label that says what error bars or bands are; the label alone where there are none.

    Args:
        label: what the axis shows.
        values: `Interval` cells or numbers.
        drawn_as: how intervals are drawn, such as "bars".
    """
    known = any(isinstance(value, Interval) and not math.isnan(value.low) for value in values)
    return f"{label} ({drawn_as}: 95 % interval)" if known else label


def _split(column: pd.Series) -> dict[str, list[float]]:
    """Columns ``value``, ``low`` and ``high`` from a column of `Interval` or numbers."""
    cells = [
        cell
        if isinstance(cell, Interval)
        else Interval(float("nan") if pd.isna(cell) else float(cell), math.nan, math.nan)
        for cell in column
    ]
    return {part: [getattr(cell, part) for cell in cells] for part in Interval._fields}


def _in_order(column: pd.Series) -> list[Any]:
    return list(dict.fromkeys(column))


def _colours(n: int) -> list[str]:
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    return [cycle[i % len(cycle)] for i in range(n)]


def _finish(ax: Axes, *, xlabel: str, ylabel: str, title: str | None, percent: bool) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    set_title(figure, title, axes=ax)
    if percent:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
    if ax.get_legend():
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=None)
