"""Figures of Table 2: bars by category, by what makes pairs hard, and by how methods fail."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.errors import ERROR_KINDS
from sd4match_lib.report.figures import plot_bars_with_intervals
from sd4match_lib.report.style import figure_style

_ERROR_COLOURS = ("#56B4E9", "#F0E442", "#E69F00", "#B0B0B0")
_LABELLED = 0.05
"""Parts of a bar below this share have no number in them."""


def plot_categories(table: pd.DataFrame, column: str, *, title: str) -> Figure:
    """Draw a group of bars per category, one bar per method.

    Args:
        table: from `spair_table.category_table`.
        column: its column of values.
        title: the figure's title.
    """
    half = -(-table["category"].nunique() // 2)
    names = list(dict.fromkeys(table["category"]))
    with figure_style():
        figure, lines = plt.subplots(2, 1, figsize=(10, 6), sharey=True)
        for axes, part in zip(lines, (names[:half], names[half:]), strict=True):
            shown = table[table["category"].isin(part)]
            plot_bars_with_intervals(shown, "category", column, hue="method", ax=axes)
            plt.setp(axes.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
        lines[0].set_title(title)
        lines[0].set_ylim(0, _top(table[column]))
        if (legend := lines[1].get_legend()) is not None:
            legend.remove()
    return figure


def plot_difficulty(table: pd.DataFrame, column: str, *, title: str) -> Figure:
    """Draw one panel per flag: its levels as groups, one bar per method.

    Args:
        table: from `spair_table.difficulty_table`.
        column: its column of values.
        title: the figure's title.
    """
    flags = list(dict.fromkeys(table["flag"]))
    with figure_style():
        figure, grid = plt.subplots(2, 2, figsize=(9, 5.4), sharey=True)
        for place, (axes, flag) in enumerate(zip(grid.ravel(), flags, strict=False)):
            part = table[table["flag"] == flag]
            plot_bars_with_intervals(part, "level", column, hue="method", ax=axes)
            counts = part.drop_duplicates("level")
            labels = [
                f"{level}\n{pairs} pairs" for level, pairs in zip(counts.level, counts.pairs, strict=True)
            ]
            axes.set_xticks(range(len(labels)), labels)
            axes.set_title(flag)
            if place != 1 and (legend := axes.get_legend()) is not None:
                legend.remove()
        grid[0, 0].set_ylim(0, _top(table[column]))
        for axes in grid.ravel()[len(flags) :]:
            axes.axis("off")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def _top(values: pd.Series) -> float:
    """Where a shared axis ends: panels drawn one after the other do not make room for each other."""
    scores = [value for value in values if isinstance(value, Interval)]
    highest = [max(score.value, score.high if score.high == score.high else 0.0) for score in scores]
    return 1.05 * max([*highest, 0.01])


def plot_errors(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw how methods fail: one bar per method, its kinds of errors stacked from correct to miss.

    Args:
        table: from `errors.error_table`; where it has the column ``twin``, a mark shows the share of
            predictions that fall on the keypoint's mirror twin, of those keypoints whose twin is to be seen.
        title: the figure's title.
    """
    names = table["method"].tolist()
    places = range(len(names))
    with figure_style():
        figure, axes = plt.subplots(figsize=(7.5, 1.1 + 0.42 * len(names)))
        left = np.zeros(len(names))
        for kind, colour in zip(ERROR_KINDS, _ERROR_COLOURS, strict=True):
            width = np.array([cell.value for cell in table[kind]])
            axes.barh(places, width, left=left, color=colour, label=kind, height=0.7)
            for place, start, part in zip(places, left, width, strict=True):
                if part >= _LABELLED:
                    at = start + part / 2
                    axes.text(at, place, f"{100 * part:.0f}", ha="center", va="center", fontsize=7)
            left = left + width
        if "twin" in table:
            twin = [cell.value for cell in table["twin"]]
            axes.scatter(twin, places, marker="D", s=22, color="0.1", zorder=3, label="on the mirror twin")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), title=title)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
        axes.grid(visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
