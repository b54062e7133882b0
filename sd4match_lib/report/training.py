"""What a training did: its loss and what validation found."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sd4match_lib.report.sentences import interval_of, listed, points
from sd4match_lib.report.style import figure_style, set_title

_COMMON_LOSS, _COMMON_PCK = 7.0, 0.6
"""Where the axes of trainings end, unless one of them goes beyond."""


def plot_training(
    logs: Mapping[str, pd.DataFrame],
    *,
    title: str,
    starts: Mapping[str, float] | None = None,
    text: float | None = None,
) -> Figure:
    """Draw loss and validation PCK@0.1 over the steps, one line a training.

    Args:
        logs: what a training is called -> its log, with the columns step, loss and pck (fractions).
        title: stands above both panels.
        starts: what a training is called -> validation PCK@0.1 (fraction) of what it began with: step 0 of
            its line, and a line across, the training's own control.
        text: validation PCK@0.1 of the text prompt, a line across.
    """
    with figure_style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharex=True)
        for (name, log), marker in zip(logs.items(), "osD^vXP", strict=False):
            drawn = left.plot(log["step"], log["loss"], marker=marker, markersize=4, label=name)[0]
            found = log.dropna(subset="pck")
            steps, values = found["step"].tolist(), found["pck"].tolist()
            if starts is not None:
                steps, values = [0, *steps], [starts[name], *values]
                across = {"color": drawn.get_color(), "linestyle": "--", "linewidth": 0.9}
                right.axhline(starts[name], label=f"{name}, untrained", **across)
            line = {"color": drawn.get_color(), "marker": marker, "markersize": 4}
            right.plot(steps, values, label=name, **line)
        if text is not None:
            right.axhline(text, color="0.2", linestyle=":", linewidth=1.2, label="text prompt")
        left.set(xlabel="step", ylabel="matching loss")
        right.set(xlabel="step", ylabel="validation PCK@0.10")
        right.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %", decimals=0))
        # From zero and to a common end, so that methods in different figures can be compared by eye.
        left.set_ylim(0, max(_COMMON_LOSS, 1.05 * left.dataLim.y1))
        right.set_ylim(0, max(_COMMON_PCK, 1.05 * right.dataLim.y1))
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        # From the start: a short training has one validation, which alone gives an axis no length.
        right.set_xlim(0, 1.04 * max(log["step"].max() for log in logs.values()))
        figure.legend(*right.get_legend_handles_labels(), loc="outside right center")
        set_title(figure, title)
    return figure


def plot_losses(losses: Mapping[str, Sequence[float]], *, title: str) -> Figure:
    """Draw losses, before each step and after the last, from step 0, before anything was learned."""
    with figure_style():
        figure, ax = plt.subplots(figsize=(5.5, 2.8))
        for (name, line), marker in zip(losses.items(), "osD^vX", strict=False):
            ax.plot(range(len(line)), line, marker=marker, label=name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="steps taken", ylabel="matching loss")
        set_title(figure, title, axes=ax)
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
        cells = {"when": when, "step": int(loss["step"]), "loss": float(loss["loss"])}
        validated = {
            "validated at step": int(found["step"]),
            "validation PCK@0.10": interval_of(found["pck"]),
        }
        table.append({**cells, **validated})
    return pd.DataFrame(table)


def training_headline(logs: Mapping[str, pd.DataFrame], starts: Mapping[str, float]) -> str:
    """Say in a line how far each training's kept prompt stands from what it began with, in validation.

    `starts` has validation PCK@0.1 (fractions) of what each of the logs' trainings began with.
    """
    told = []
    for name, log in logs.items():
        told.append(f"{name} {points(float(log['pck'].max()) - starts[name])}")
    steps = max(int(log["step"].max()) for log in logs.values())
    count = max(int(log["pck"].count()) for log in logs.values())
    best = f"Best of {count} validations" if count > 1 else "Validation"
    return f"{best} in {steps} steps, in points against the start: {listed(told)}"


def what_training_did(log: pd.DataFrame) -> str:
    """Say how far loss and validation (fractions) of a log moved, and which step was kept."""
    validated = log.dropna(subset="pck")
    first, last = log.iloc[0], log.iloc[-1]
    kept = validated.loc[validated["pck"].idxmax()]
    return (
        f"The loss went from {first['loss']:.2f} (mean up to step {first['step']:.0f}) to {last['loss']:.2f} "
        f"(step {last['step']:.0f}). Of {len(validated)} validations the best was at step "
        f"{kept['step']:.0f}, with a PCK of {100 * kept['pck']:.1f} %; that prompt is kept."
    )
