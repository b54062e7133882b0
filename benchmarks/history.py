"""One machine's measurements over versions: kept in one JSON file, shown as a table and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sd4match_lib.report.style import figure_style, save_figure, set_title
from sd4match_lib.report.tables import write_table
from sd4match_lib.utils.files import write_json
from sd4match_lib.utils.reading import read_json

_CODE = ("commit", "versions", "threads")
"""What tells two runs on one machine apart. A later run with the same of all three takes the earlier one's
place, case by case, so that a run of some cases keeps the others."""


def keep_run(folder: Path, name: str, run: dict[str, Any]) -> None:
    """Put a run into a machine's history: `<name>.json`, and from it a table and, from two runs on, a figure.

    Args:
        folder: where histories lie.
        name: of the machine and the shapes.
        run: "device", "shapes", "side", "threads", "time", "versions", "commit" and "cases".

    Raises:
        DataError: the history is damaged.
    """
    path = folder / f"{name}.json"
    runs: list[dict[str, Any]] = read_json(path)["runs"] if path.exists() else []
    same = [old for old in runs if all(old[key] == run[key] for key in _CODE)]
    known = {case: found for old in same for case, found in old["cases"].items()}
    runs = [old for old in runs if old not in same] + [{**run, "cases": {**known, **run["cases"]}}]
    write_json(path, {"runs": runs})
    caption = (
        f"Median seconds on {run['device']}, shapes {run['shapes']} at {run['side']} pixels; less is better. "
        f"The latest run, of {run['time']}: PyTorch {run['versions'].get('torch')}, {run['threads']} threads."
    )
    write_table(history_table(runs), folder, name, caption=caption)
    if len(runs) > 1:
        figure = plot_history(runs)
        save_figure(figure, folder, name, note=caption)
        plt.close(figure)


def history_table(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a row a case and a column a run: seconds a unit, missing where it did not run or failed."""
    units = {case: found["unit"] for run in runs for case, found in run["cases"].items() if "unit" in found}
    table = pd.DataFrame({"case": list(units), "a": list(units.values())})
    for number, run in enumerate(runs, 1):
        # Numbered, as one commit may have run under several versions of libraries.
        table[f"{number}: {_label(run)}"] = [run["cases"].get(case, {}).get("seconds") for case in units]
    return table


def plot_history(runs: list[dict[str, Any]]) -> Figure:
    """Draw each case's seconds over the runs, as a multiple of the first run that has it."""
    seconds = history_table(runs).set_index("case").drop(columns="a").astype(float)
    with figure_style():
        figure, axes = plt.subplots(figsize=(8.0, 4.0))
        places = range(1, len(runs) + 1)
        for row, (case, line) in enumerate(seconds.iterrows()):
            relative = line / line.bfill().iloc[0]
            style = {"marker": "osD^vXP*"[row % 8], "linestyle": ("-", "--")[row // 8 % 2]}
            axes.plot(places, relative, label=str(case), **style)
        axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(places, [_label(run) for run in runs], rotation=30, ha="right")
        axes.set(ylabel="times the first run's seconds")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        set_title(figure, "Time of each case over versions")
    return figure


def _label(run: dict[str, Any]) -> str:
    """The package's version and the commit, with a + where sources differed from it."""
    commit = run["commit"]
    name = f" {commit['id'][:7]}{'+' if commit['dirty'] else ''}" if commit else ""
    return f"{run['versions']['sd4match']}{name}"
