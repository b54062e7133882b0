"""Table 2: SPair-71k by category, measured methods beside the paper's, in the paper's three groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.data.categories import SPAIR_CATEGORIES
from sd4match_lib.evaluation.evaluate import KEYPOINTS_FILE, EvaluationResult, open_pairs
from sd4match_lib.metrics.averages import Average, Frame, describe_protocol
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.keypoints import FLAGS, read_keypoints
from sd4match_lib.metrics.pck import bootstrap_interval
from sd4match_lib.report.estimates import Results, estimate, one_of, slices
from sd4match_lib.report.published import load_published, lookup
from sd4match_lib.report.tables import PUBLISHED
from sd4match_lib.runs.store import find_runs

GROUPS = {"Z": "zero-shot", "I": "image labels", "K": "keypoints"}
"""What a method learned from, in the order of the paper's groups."""

_LEVELS = {
    "viewpoint": {0: "easy", 1: "medium", 2: "hard"},
    "scale": {0: "easy", 1: "medium", 2: "hard"},
    "truncation": {0: "none", 1: "source", 2: "target", 3: "both"},
    "occlusion": {0: "none", 1: "source", 2: "target", 3: "both"},
}


@dataclass(frozen=True, eq=False)
class Measured:
    """A method that was measured.

    Attributes:
        name: what tables call it.
        group: what it learned from, a key of `GROUPS`.
        results: its evaluation, or one a training seed.
        scored: whether the points came from a file of predictions.
    """

    name: str
    group: str
    results: Results
    scored: bool = False


def scored_methods(profile: Profile, dataset: str = "spair", split: str = "test") -> list[Measured]:
    """Return the systems whose predictions `sd4match score` has scored on all pairs of a split.

    The newest run counts where a system has been scored twice; runs on a subset or on other data do not.
    """
    found: dict[str, tuple[str, Measured]] = {}
    data = open_pairs(profile, dataset, split, None, None).fingerprint()
    for folder, record in find_runs(profile.results_path, kind="score"):
        asked = record.setting("dataset"), record.setting("split"), record.input_hash("data")
        if asked != (dataset, split, data):
            continue
        rows = read_keypoints(folder / KEYPOINTS_FILE)
        result = EvaluationResult(rows, record, folder, profile.evaluation.alphas, True)
        name, supervision = str(record.setting("method")), str(record.setting("supervision"))
        measured = Measured(name, supervision, result, scored=True)
        if measured.name not in found or found[measured.name][0] < record.started:
            found[measured.name] = (record.started, measured)
    return [measured for _, measured in found.values()]


def spair_table(methods: Sequence[Measured], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate PCK by category in the layout of the paper's Table 2.

    Args:
        methods: what was measured; a scored system with the name of another method is marked as scored.
        alpha: PCK's alpha; the paper prints 0.1 only.

    Returns:
        One row per method, measured and printed ones by group: `method`, `all` (an `Interval` where
        measured), `group` and the 18 categories, as fractions, and `published`. Categories without pairs, and
        what the paper does not print, are missing.
    """
    columns = [*SPAIR_CATEGORIES, "all"]
    paper = load_published()
    paper = paper[(paper["table"] == "table2") & ((paper["alpha"] - alpha).abs() < 1e-9)]
    table: list[dict[str, object]] = []
    taken = {method.name for method in methods if not method.scored}
    for group in GROUPS:
        for name, part in paper[paper["supervision"] == group].groupby("row", sort=False):
            printed = dict(zip(part["column"], part["value"], strict=True))
            cells = {column: printed.get(column) for column in columns}
            table.append({"method": name, "group": group, **cells, PUBLISHED: True})
        for method in methods:
            if method.group == group:
                parts = slices(method.results, "category")
                by_category = {name: estimate(part, alpha=alpha).value for name, part in parts.items()}
                cells = {column: by_category.get(column) for column in SPAIR_CATEGORIES}
                cells["all"] = estimate(method.results, alpha=alpha)
                mark = " (scored)" if method.scored and method.name in taken else ""
                named = {"method": f"{method.name}{mark}", "group": group}
                table.append({**named, **cells, PUBLISHED: False})
    return pd.DataFrame(table, columns=["method", "all", "group", *SPAIR_CATEGORIES, PUBLISHED])


def best_printed(methods: Sequence[str]) -> dict[str, str]:
    """Return by category which of some methods the paper prints highest in Table 2."""
    return {
        category: max(methods, key=lambda name: lookup("table2", name, category, 0.1) or 0.0)
        for category in SPAIR_CATEGORIES
    }


def category_table(runs: Mapping[str, Results], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate PCK by category for several methods.

    Returns:
        One row per category and method, and those of "all": `category`, `method`, `PCK@<alpha>` (`Interval`).
    """
    table = []
    for name, results in runs.items():
        for category, part in [*slices(results, "category").items(), ("all", results)]:
            cells = {"category": category, "method": name}
            table.append({**cells, f"PCK@{alpha:.2f}": estimate(part, alpha=alpha)})
    return pd.DataFrame(table)


def category_gains(better: Results, worse: Results, alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate by `category` the `gain` (`Interval`) of one method over another on the same pairs."""
    parts = slices(worse, "category")
    return pd.DataFrame(
        {"category": name, "gain": estimate(part, parts[name], alpha=alpha)}
        for name, part in slices(better, "category").items()
    )


def difficulty_table(runs: Mapping[str, Results], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate PCK by what makes SPair-71k's pairs hard, for several methods on the same pairs.

    Returns:
        One row per flag, level and method: `flag`, `level`, `method`, `pairs` and `PCK@<alpha>` (`Interval`).
    """
    table = []
    for flag in FLAGS:
        for name, results in runs.items():
            for level, part in slices(results, flag).items():
                cells = {"flag": flag, "level": _LEVELS[flag][int(level)], "method": name}
                cells["pairs"] = one_of(part).keypoints["pair_id"].nunique()
                table.append({**cells, f"PCK@{alpha:.2f}": estimate(part, alpha=alpha)})
    return pd.DataFrame(table)


def protocol_table(rows: pd.DataFrame, alphas: Sequence[float]) -> pd.DataFrame:
    """Tabulate one run's `PCK@<alpha>` under all protocols: three averages, each in both frames."""
    table = []
    averages: tuple[Average, ...] = get_args(Average)
    frames: tuple[Frame, ...] = get_args(Frame)
    for average in averages:
        for frame in frames:
            scores: dict[str, Interval] = {
                f"PCK@{alpha:.2f}": bootstrap_interval(rows, alpha, average=average, frame=frame)
                for alpha in alphas
            }
            table.append({"protocol": describe_protocol(average=average, frame=frame), **scores})
    return pd.DataFrame(table)
