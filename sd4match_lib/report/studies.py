"""Tables of the studies around the method: generalisation (Table 3), ablation and timesteps (Fig. 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sd4match_lib.data.categories import SPAIR_CATEGORIES, category_noun
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.estimates import ALPHA, Evaluated, Part, Results, by_seed, estimate, one_of, scores
from sd4match_lib.report.published import load_published, lookup
from sd4match_lib.report.sentences import difference, listed
from sd4match_lib.report.tables import PUBLISHED

DATASETS = {"pf_pascal": "PF-Pascal", "pf_willow": "PF-Willow", "spair": "SPair-71k"}
"""The data sets as the paper calls them, in the order of Table 3."""

START = ", start"
"""Behind the name of a learned prompt: what its training began with."""

SCORE = f"PCK@{ALPHA:.2f}"
"""The column of measured PCK where there is one threshold alone."""

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
    results: Mapping[str, Results]


def group_by_method(runs: Mapping[tuple[str, str, str], Results]) -> list[Tuned]:
    """Gather runs of (method, tuned on, tested on) to one `Tuned` per method and what it was tuned on."""
    found: dict[tuple[str, str], dict[str, Results]] = {}
    for (name, tuned_on, dataset), run in runs.items():
        found.setdefault((name, tuned_on), {})[dataset] = run
    return [Tuned(name, tuned_on, results) for (name, tuned_on), results in found.items()]


def generalisation_table(methods: Sequence[Tuned], alphas: Sequence[float]) -> pd.DataFrame:
    """Tabulate PCK as the paper's Table 3 does: three data sets, three thresholds.

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
                cells[_column(dataset, alpha)] = estimate(result, alpha=alpha)
        named = {"method": method.name, "tuned on": DATASETS.get(method.tuned_on, "-")}
        table.append({**named, **cells, PUBLISHED: False})
    return pd.DataFrame(table)


def generalisation_rows(methods: Sequence[Tuned]) -> pd.DataFrame:
    """Return the measured part of Table 3 at one threshold, for its figure.

    Returns:
        One row per data set and method: `dataset`, `method`, `tuned on` ("" for nothing), `SCORE`.
    """
    table = []
    for dataset, label in DATASETS.items():
        for method in methods:
            tuned = DATASETS.get(method.tuned_on, "")
            cells = {"dataset": label, "method": method.name, "tuned on": tuned}
            table.append({**cells, **scores(method.results[dataset], {})})
    return pd.DataFrame(table)


def abroad_over_home(runs: Mapping[tuple[str, str, str], Results]) -> pd.DataFrame:
    """Compare prompts tuned elsewhere with those tuned on the data set that both are tested on.

    Args:
        runs: (method, tuned on, tested on) to its evaluation; what was tuned on nothing is left out.

    Returns:
        `method`, `tuned on`, `tested on` and `difference` (`Interval`), on the same pairs.
    """
    return pd.DataFrame(
        {
            "method": method,
            "tuned on": DATASETS[tuned_on],
            "tested on": DATASETS[tested_on],
            "difference": estimate(run, runs[method, tested_on, tested_on]),
        }
        for (method, tuned_on, tested_on), run in runs.items()
        if tuned_on not in ("", tested_on) and (method, tested_on, tested_on) in runs
    )


def travel_table(runs: Mapping[tuple[str, str, str], Results]) -> pd.DataFrame:
    """Tabulate what learning on one data set gave on others: learned prompts against their own starts.

    Args:
        runs: (method, tuned on, tested on) to its evaluation; the start of a method has `START` behind its
            name, and "" as what it was tuned on.

    Returns:
        One row per learned prompt and test set: `method`, `tuned on`, `tested on`, `home` (whether the two
        are the same) and `gain by learning` (`Interval`).
    """
    table = []
    for (method, tuned_on, tested_on), run in runs.items():
        if tuned_on:
            cells = {"method": method, "tuned on": DATASETS[tuned_on], "tested on": DATASETS[tested_on]}
            gain = estimate(run, runs[f"{method}{START}", "", tested_on])
            table.append({**cells, "home": tuned_on == tested_on, "gain by learning": gain})
    return pd.DataFrame(table)


def ablation_table(results: Mapping[str, Results], starts: Mapping[str, Results]) -> pd.DataFrame:
    """Tabulate cases of an ablation beside the paper's Fig. 3(a).

    Args:
        results: the case, as `published` calls its row, to its evaluation; the first is the reference.
        starts: the case to the evaluation of what its training started from.

    Returns:
        One row per case: `case`, `SCORE`, `against the first` and `gain by learning` (`Interval` over
        the same pairs; None where nothing is compared), and the paper's number as column `PAPER`.
    """
    reference = next(iter(results.values()))
    table = []
    for case, result in results.items():
        against = {"against the first": None if result is reference else reference}
        cells = scores(result, {**against, "gain by learning": starts[case]})
        table.append({"case": case, **cells, PAPER: lookup("figure3a", case, "all", ALPHA)})
    return pd.DataFrame(table)


def initialisation_table(
    runs: Mapping[tuple[str, str], Results], starts: Mapping[tuple[str, str], Results], alpha: float = 0.1
) -> pd.DataFrame:
    """Tabulate learned prompts by (prompt, start), one of them "random", and what learning gave (Table 4).

    Returns:
        One row per entry: `prompt`, `start`, `PCK@<alpha>`, `against random` and `gain by learning`.
    """
    table = []
    for (prompt, start), run in runs.items():
        against = {"against random": None if start == "random" else runs[prompt, "random"]}
        cells = scores(run, {**against, "gain by learning": starts[prompt, start]}, alpha)
        table.append({"prompt": prompt, "start": start, **cells})
    return pd.DataFrame(table)


def size_table(sizes: Mapping[float, Results], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate one method at several scales of the profile's own picture size, 1 among them (section 7).

    Returns:
        One row per size: `size` in pixels, `PCK@<alpha>` and `against native` (`Interval`).
    """
    table = []
    for scale, run in sizes.items():
        size = " x ".join(map(str, one_of(run).record.config["image_hw"]))
        against = {"against native": None if scale == 1 else sizes[1.0]}
        table.append({"size": size, **scores(run, against, alpha)})
    return pd.DataFrame(table)


def sweep_table(results: Mapping[tuple[str, int], Results]) -> pd.DataFrame:
    """Tabulate PCK over the timestep, for curves, of evaluations by (method, timestep).

    Returns:
        One row per entry: `method`, `t` and `SCORE` (`Interval`).
    """
    return pd.DataFrame({"method": name, "t": t, **scores(run, {})} for (name, t), run in results.items())


def best_timesteps(results: Mapping[tuple[str, int], Results], reference_t: int) -> pd.DataFrame:
    """Find each method's best timestep and what it gains over a reference, of runs by (method, timestep).

    Returns:
        One row per method: `method`, `best t`, `SCORE` there, and `against t = <reference_t>` (an
        `Interval` over the same pairs; None where the reference itself is best).
    """
    table = []
    for name, part in sweep_table(results).groupby("method", sort=False):
        values = {int(t): score for t, score in zip(part["t"], part[SCORE], strict=True)}
        best = max(values, key=lambda t: (values[t].value, -t))
        gain: Interval | None = None
        if best != reference_t:
            gain = estimate(results[str(name), best], results[str(name), reference_t])
        cells = {"method": name, "best t": best, SCORE: values[best]}
        table.append({**cells, f"against t = {reference_t}": gain})
    return pd.DataFrame(table)


def where_methods_are_best(best: pd.DataFrame) -> str:
    """Say at which timestep each method is best, and whether that is clear, by `best_timesteps`."""
    column = next(name for name in best.columns if name.startswith("against"))
    reference = column.removeprefix("against ")
    places = listed([f"{row['method']} at t = {row['best t']}" for _, row in best.iterrows()])
    told = [f"Best are {places}."]
    for _, row in best[best[column].notna()].iterrows():
        told.append(f"{row['method']} gains {difference(row[column])} over {reference}.")
    told.append("The best of several steps is partly luck, which the intervals do not know.")
    return " ".join(told)


def _column(dataset: str, alpha: float) -> str:
    return f"{DATASETS[dataset]} @{alpha:.2f}"


def by_willow_kind(results: Mapping[str, Results]) -> dict[tuple[str, str], Results]:
    """Split evaluations on PF-Willow into the categories that SPair-71k has, and those that it has not.

    Returns:
        (which categories, prompt) to the part of its evaluation, as `prompt_table` takes them.
    """
    found: dict[tuple[str, str], Results] = {}
    for known in (True, False):
        label = "in SPair-71k" if known else "not in SPair-71k"
        for prompt, result in results.items():
            parts: dict[int, Evaluated] = {}
            for seed, one in by_seed(result).items():
                nouns = one.keypoints["category"].map(category_noun)
                parts[seed] = Part(one.keypoints[nouns.isin(SPAIR_CATEGORIES) == known], one.record)
            found[label, prompt] = parts if isinstance(result, Mapping) else one_of(parts)
    return found
