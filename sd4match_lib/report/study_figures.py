"""Figures of Table 2: bars by category, and by what makes pairs hard."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.figures import plot_bars_with_intervals
from sd4match_lib.report.style import figure_style


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
