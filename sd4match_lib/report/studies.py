"""Tables of the studies around the method: generalisation (Table 3), ablation and timesteps (Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sd4match_lib.evaluation.evaluate import EvaluationResult
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.pck import bootstrap_interval, paired_difference
from sd4match_lib.report.published import load_published, lookup
from sd4match_lib.report.tables import PUBLISHED

DATASETS = {"pf_pascal": "PF-Pascal", "pf_willow": "PF-Willow", "spair": "SPair-71k"}
"""The data sets as the paper calls them, in the order of Table 3."""

PAPER = "paper †"
"""The column of published numbers in tables whose rows are one case each."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A method tuned on one data set and tested on several.

    Attributes:
        name: what tables call it.
        tuned_on: the data set, or "" for methods that were not tuned.
        results: data set to the evaluation on its test pairs.
    """

    name: str
    tuned_on: str
    results: Mapping[str, EvaluationResult]


def generalisation_table(methods: Sequence[Tuned], alphas: Sequence[float], *, profile: str) -> pd.DataFrame:
    """Tabulate PCK in the layout of the paper's Table 3: three data sets, three thresholds.

    Args:
        methods: what was measured.
        alphas: the thresholds.
        profile: stands behind every measured method's name.

    Returns:
        The paper's rows (missing where its number is not known), then the measured ones: `method`, `tuned
        on`, one column per data set and alpha such as ``"PF-Pascal @0.05"`` (fractions), and `published`.
    """
    columns = [(dataset, alpha) for dataset in DATASETS for alpha in alphas]
    table: list[dict[str, object]] = []
    paper = load_published()
    for name, part in paper[paper["table"] == "table3"].groupby("row", sort=False):
        printed = {(d, round(a, 4)): v for d, a, v in zip(part.dataset, part.alpha, part.value, strict=True)}
        numbers = {_column(*column): printed.get((column[0], round(column[1], 4))) for column in columns}
        printed_name, _, tuned_on = str(name).partition(", tuned on ")
        table.append({"method": printed_name, "tuned on": tuned_on or "-", **numbers, PUBLISHED: True})
    for method in methods:
        cells: dict[str, object] = {}
        for dataset, alpha in columns:
            result = method.results.get(dataset)
            if result is not None:
                score = bootstrap_interval(result.keypoints, alpha, seed=result.record.seed)
                cells[_column(dataset, alpha)] = score
        named = {"method": f"{method.name}, {profile}", "tuned on": DATASETS.get(method.tuned_on, "-")}
        table.append({**named, **cells, PUBLISHED: False})
    return pd.DataFrame(table)


def generalisation_bars(methods: Sequence[Tuned], alpha: float = 0.1) -> pd.DataFrame:
    """Return the measured part of Table 3 at one threshold, for bars.

    Args:
        methods: what was measured.
        alpha: PCK's alpha.

    Returns:
        One row per data set and method: `dataset`, `method` with what it was tuned on, `PCK@<alpha>`.
    """
    table = []
    for dataset, label in DATASETS.items():
        for method in methods:
            result = method.results[dataset]
            tuned = f", tuned on {DATASETS[method.tuned_on]}" if method.tuned_on else ""
            score = bootstrap_interval(result.keypoints, alpha, seed=result.record.seed)
            table.append({"dataset": label, "method": method.name + tuned, f"PCK@{alpha:.2f}": score})
    return pd.DataFrame(table)


def ablation_table(results: Mapping[str, EvaluationResult], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate cases of an ablation beside the paper's Fig. 3(a).

    Args:
        results: the case, as `published` calls its row, to its evaluation; the first is the reference.
        alpha: PCK's alpha.

    Returns:
        One row per case: `case`, `PCK@<alpha>`, `against the first` (an `Interval` over the same pairs; None
        for the first), and the paper's number as column `PAPER`.
    """
    reference = next(iter(results.values()))
    table = []
    for case, result in results.items():
        seed = result.record.seed
        differs = (
            None
            if result is reference
            else paired_difference(result.keypoints, reference.keypoints, alpha, seed=seed)
        )
        cells = {"case": case, f"PCK@{alpha:.2f}": bootstrap_interval(result.keypoints, alpha, seed=seed)}
        table.append({**cells, "against the first": differs, PAPER: lookup("figure3a", case, "all", alpha)})
    return pd.DataFrame(table)


def sweep_table(results: Mapping[tuple[str, int], EvaluationResult], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate PCK over the timestep, for curves.

    Args:
        results: (method, timestep) to evaluation.
        alpha: PCK's alpha.

    Returns:
        One row per entry: `method`, `t` and `PCK@<alpha>` (`Interval`).
    """
    scores = {
        key: bootstrap_interval(run.keypoints, alpha, seed=run.record.seed) for key, run in results.items()
    }
    column = f"PCK@{alpha:.2f}"
    return pd.DataFrame([{"method": name, "t": t, column: score} for (name, t), score in scores.items()])


def best_timesteps(
    results: Mapping[tuple[str, int], EvaluationResult], reference_t: int, alpha: float = 0.1
) -> pd.DataFrame:
    """Find each method's best timestep and what it gains over a reference.

    Args:
        results: (method, timestep) to evaluation, of the same pairs.
        reference_t: the timestep compared with; every method has been evaluated there.
        alpha: PCK's alpha.

    Returns:
        One row per method: `method`, `best t`, `PCK@<alpha>` there, and `against t = <reference_t>` (an
        `Interval` over the same pairs; None where the reference itself is best).
    """
    column = f"PCK@{alpha:.2f}"
    table = []
    for name, part in sweep_table(results, alpha).groupby("method", sort=False):
        values = {int(t): score for t, score in zip(part["t"], part[column], strict=True)}
        best = max(values, key=lambda t: (values[t].value, -t))
        gain: Interval | None = None
        if best != reference_t:
            runs = results[str(name), best], results[str(name), reference_t]
            gain = paired_difference(runs[0].keypoints, runs[1].keypoints, alpha, seed=runs[0].record.seed)
        cells = {"method": name, "best t": best, column: values[best]}
        table.append({**cells, f"against t = {reference_t}": gain})
    return pd.DataFrame(table)


def _column(dataset: str, alpha: float) -> str:
    return f"{DATASETS[dataset]} @{alpha:.2f}"
