"""Figures of the studies: Table 2 by category, difficulty and kind of error; Table 3; Figs. 3(a) and 3(b)."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sd4match_lib.metrics.errors import ERROR_KINDS
from sd4match_lib.report.dots import COLOURS, Dots, dots_of, from_table, plot_dots
from sd4match_lib.report.sentences import counted, interval_of, value_of
from sd4match_lib.report.studies import PAPER, START
from sd4match_lib.report.style import figure_style, set_title

_ERROR_COLOURS = ("#56B4E9", "#F0E442", "#E69F00", "#B0B0B0")
_TUNED_MARKS = {"PF-Pascal": "s", "SPair-71k": "D"}

VOC_GROUPS = {
    "animals and person": ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    "vehicles": ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    "indoor things": ("bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"),
}
"""PASCAL VOC's own groups of its categories."""

_LABELLED = 0.05
"""Parts of a bar below this share have no number in them."""


def plot_categories(table: pd.DataFrame, column: str, *, better: str, worse: str, title: str) -> Figure:
    """Draw a line of dots per category, PASCAL VOC's groups apart, from the largest gain to the smallest.

    The table is of `spair_table.category_table`; the gain is that of `better` over `worse`.
    """
    kinds = dots_of(table, "category", column, "method")
    values = {kind.name: kind.values for kind in kinds}
    gain = {
        name: value_of(values[better][name]) - value_of(values[worse][name])
        for name in dict.fromkeys(table["category"])
    }
    order = sorted(gain, key=lambda name: -gain[name])
    groups = {label: [name for name in order if name in names] for label, names in VOC_GROUPS.items()}
    known = {name for names in VOC_GROUPS.values() for name in names}
    groups["all pairs"] = [name for name in order if name not in known]
    shown = {label: names for label, names in groups.items() if names}
    return plot_dots(shown, kinds, xlabel=column, title=title, width_inches=7.5)


def plot_ablation(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw what each case of a `studies.ablation_table` differs by from the first, here and in the paper."""
    reference = table.iloc[0]
    others = table.iloc[1:]
    printed = {row["case"]: row[PAPER] - reference[PAPER] for _, row in others.iterrows()}
    kinds = [
        Dots("measured", from_table(others, "case", "against the first"), COLOURS[0]),
        Dots("the paper †", printed, "0.2", "D", hollow=True),
    ]
    label = f"PCK@0.10 against case {reference['case']}, points"
    return plot_dots({"": others["case"].tolist()}, kinds, xlabel=label, title=title, zero=True)


def plot_generalisation(table: pd.DataFrame, column: str, *, title: str) -> Figure:
    """Draw Table 3: a line a data set; the colour says the method, the mark what it was tuned on.

    The table is of `studies.generalisation_rows`.
    """
    methods = list(dict.fromkeys(table["method"].str.removesuffix(START)))
    colours = dict(zip(methods, COLOURS, strict=False))
    kinds = []
    for (method, tuned), part in table.groupby(["method", "tuned on"], sort=False):
        name = method.removesuffix(START)
        label = f"{name}, tuned on {tuned}" if tuned else method
        style = {"marker": _TUNED_MARKS.get(tuned, "o"), "hollow": method != name}
        kinds.append(Dots(label, from_table(part, "dataset", column), colours[name], **style))
    rows = list(dict.fromkeys(table["dataset"]))
    return plot_dots({"": rows}, kinds, xlabel=column, title=title, width_inches=7.5)


def plot_sweep(
    curves: pd.DataFrame,
    column: str,
    *,
    starts: Mapping[str, str],
    marks: Mapping[int, str],
    title: str,
) -> Figure:
    """Draw PCK over the timestep, a panel a method on common axes; in grey what its training began with.

    The curves are of `studies.sweep_table`; `starts` says which of its methods another one began with,
    `marks` which timesteps have a vertical line, with which word.
    """
    methods = [name for name in dict.fromkeys(curves["method"]) if name not in starts.values()]
    with figure_style():
        figure, line = plt.subplots(
            1, len(methods), figsize=(9.5, 3.1), sharex=True, sharey=True, squeeze=False
        )
        for axes, name, colour in zip(line[0], methods, COLOURS, strict=False):
            for shown, hue, dashes in ((starts.get(name), "0.45", "--"), (name, colour, "-")):
                part = curves[curves["method"] == shown].sort_values("t")
                if len(part):
                    cells = [interval_of(cell) for cell in part[column]]
                    middle, low, high = (np.array(values) for values in zip(*cells, strict=True))
                    label = (
                        "learned"
                        if shown == name and name in starts
                        else "untrained"
                        if dashes == "--"
                        else None
                    )
                    style = {"color": hue, "linestyle": dashes, "marker": "o", "markersize": 3.5}
                    axes.plot(part["t"], middle, label=label, **style)
                    axes.fill_between(part["t"], low, high, color=hue, alpha=0.18, linewidth=0)
            for t, word in marks.items():
                axes.axvline(t, color="0.5", linestyle=":", linewidth=1)
                place = {"xy": (t, 0.98), "xycoords": ("data", "axes fraction"), "rotation": 90}
                axes.annotate(word, **place, ha="right", va="top", fontsize=7, color="0.35")
            axes.set_title(name, fontsize=9, fontweight="normal")
            axes.set_xlabel("timestep t")
            if name in starts:
                axes.legend(loc="lower left")
        line[0, 0].set_ylabel(f"{column}\n(bands: 95 % interval)")
        line[0, 0].set_ylim(0, None)
        line[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        set_title(figure, title)
    return figure


def plot_difficulty(table: pd.DataFrame, column: str, *, title: str) -> Figure:
    """Draw a `spair_table.difficulty_table`: a line of dots per level of every flag, one dot a method."""
    pairs = table["pairs"].map(lambda count: counted(count, "pair"))
    levels = table["flag"] + ": " + table["level"] + " (" + pairs + ")"
    kinds = dots_of(table.assign(row=levels), "row", column, "method")
    return plot_dots({"": list(dict.fromkeys(levels))}, kinds, xlabel=column, title=title, width_inches=7.5)


def plot_errors(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw how methods fail: one bar per method, its kinds of errors stacked from correct to miss.

    Where the `errors.error_table` has the column ``twin``, a mark shows the share of predictions that fall on
    the keypoint's mirror twin, of those keypoints whose twin is to be seen.
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
            below = [place + 0.27 for place in places]  # where no number stands
            axes.scatter(twin, below, marker="D", s=22, color="0.1", zorder=3, label="on the mirror twin")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        set_title(figure, title)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.grid(visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
