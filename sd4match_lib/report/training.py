"""What a training did: its loss and what validation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.figures import figure_style


def plot_training(logs: dict[str, pd.DataFrame], *, title: str) -> Figure:
    """Draw loss and validation PCK@0.1 over the steps, one line a training.

    Args:
        logs: what a training is called -> its log, with the columns step, loss and pck (fractions).
        title: stands above both panels.
    """
    with figure_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharex=True)
        for name, log in logs.items():
            left.plot(log["step"], log["loss"], label=name)
            found = log.dropna(subset="pck")
            right.plot(found["step"], found["pck"], marker="o", markersize=3, label=name)
        left.set(xlabel="step", ylabel="matching loss")
        right.set(xlabel="step", ylabel="validation PCK@0.10")
        right.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        # From the start: a short training has one validation, which alone gives an axis no length.
        right.set_xlim(0, 1.04 * max(log["step"].max() for log in logs.values()))
        figure.legend(*right.get_legend_handles_labels(), loc="outside right center")
        figure.suptitle(title)
    return figure


def plot_losses(losses: Mapping[str, Sequence[float]], *, title: str) -> Figure:
    """Draw losses over the steps, from step 0, before anything was learned.

    Args:
        losses: what a line is called -> its loss before each step, and after the last.
        title: stands above.
    """
    with figure_style():
        figure, ax = plt.subplots(figsize=(5.5, 2.8))
        for (name, line), marker in zip(losses.items(), "osD^vX", strict=False):
            ax.plot(range(len(line)), line, marker=marker, label=name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="steps taken", ylabel="matching loss")
        ax.set_title(title)
        ax.legend()
    return figure


def training_table(log: pd.DataFrame) -> pd.DataFrame:
    """Return what a training's loss and validation were at first and at last.

    Args:
        log: with the columns step, loss and pck (fractions; missing where nothing was validated).

    Returns:
        Two rows: `when`, `step`, `loss` (the mean since the row before) and `validation PCK@0.10`
        (`Interval` without bounds).
    """
    table = []
    for when, place in (("first", 0), ("last", -1)):
        found = log.dropna(subset="pck").iloc[place]
        loss = log.iloc[place]
        pck = Interval(float(found["pck"]), float("nan"), float("nan"))
        cells = {"when": when, "step": int(loss["step"]), "loss": float(loss["loss"])}
        table.append({**cells, "validated at step": int(found["step"]), "validation PCK@0.10": pck})
    return pd.DataFrame(table)


def what_training_did(log: pd.DataFrame) -> str:
    """Say how far loss and validation moved, and which step was kept.

    Args:
        log: with the columns step, loss and pck (fractions; missing where nothing was validated).
    """
    validated = log.dropna(subset="pck")
    first, last = log.iloc[0], log.iloc[-1]
    kept = validated.loc[validated["pck"].idxmax()]
    return (
        f"The loss went from {first['loss']:.2f} (mean up to step {first['step']:.0f}) to {last['loss']:.2f} "
        f"(step {last['step']:.0f}). Of {len(validated)} validations the best was at step "
        f"{kept['step']:.0f}, with a PCK of {100 * kept['pck']:.1f} %; that prompt is kept."
    )
