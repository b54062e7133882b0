"""Who is ahead: every system that was measured on one split, ranked with paired intervals."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import describe_protocol, known_rows
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.geometry import in_subset
from sd4match_lib.metrics.keypoints import read_keypoints
from sd4match_lib.metrics.pck import bootstrap_interval, paired_difference
from sd4match_lib.report.field import ALPHAS, published_table
from sd4match_lib.report.html import html_page
from sd4match_lib.report.sentences import NOTHING
from sd4match_lib.report.tables import markdown_table, table_caption, write_table
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import find_runs
from sd4match_lib.utils.files import atomic_write_text

_EVALUATED, _SCORED = "evaluate", "score"


def rank(
    runs: Mapping[str, pd.DataFrame], *, symmetry: Symmetry | None = None, seed: int = 0
) -> pd.DataFrame:
    """Rank systems by PCK@0.10 per image in the stretched frame.

    A system's rank is one more than the number of systems that are clearly better: those whose paired
    difference to it has an interval above zero.

    Returns:
        From the best on: `rank`, `method`, `pairs`, `PCK@0.01`, `PCK@0.05`, `PCK@0.10`, `macro` (PCK@0.10,
        mean over categories), with a symmetry `geo` (PCK@0.10 of the subset), and `behind` the first; all
        but the first three are `Interval`. The first has nothing to be behind.

    Raises:
        UserError: there is no system, or two differ in their keypoints.
    """
    if not runs:
        raise UserError("there is nothing to rank: score or evaluate a system first.")
    table = []
    for name, rows in runs.items():
        scores = {f"PCK@{alpha:.2f}": bootstrap_interval(rows, alpha, seed=seed) for alpha in ALPHAS}
        scores["macro"] = bootstrap_interval(rows, ALPHAS[-1], average="macro", seed=seed)
        if symmetry is not None:
            chosen = rows[in_subset(rows, symmetry)]
            scores["geo"] = bootstrap_interval(chosen, ALPHAS[-1], seed=seed) if len(chosen) else NOTHING
        pairs = known_rows(rows, ALPHAS[-1], "in")["pair_id"].nunique()
        table.append({"method": name, "pairs": pairs, **scores})
    frame = pd.DataFrame(table)
    # By the value, and by name where values are equal, so that the order hangs on nothing else.
    values = frame[f"PCK@{ALPHAS[-1]:.2f}"].map(lambda interval: -interval.value)
    order = frame.assign(value=values).sort_values(["value", "method"], kind="stable").index
    frame = frame.loc[order].reset_index(drop=True)
    ordered = [runs[name] for name in frame["method"]]
    ranks: list[int] = []
    for place, rows in enumerate(ordered):
        gains = (paired_difference(better, rows, ALPHAS[-1], seed=seed) for better in ordered[:place])
        ranks.append(1 + sum(gain.low > 0 for gain in gains))
    behind: list[Interval | None] = [None]
    behind += [paired_difference(rows, ordered[0], ALPHAS[-1], seed=seed) for rows in ordered[1:]]
    frame.insert(0, "rank", ranks)
    return frame.assign(behind=behind)


def measured_systems(
    profile: Profile, dataset: str, split: str, pairs: int, results: Path | None = None
) -> dict[str, pd.DataFrame]:
    """Return the rows of every system that was evaluated or scored on all so many pairs of a split.

    Runs on other data than the newest one's are left out: they cannot be compared pair by pair.

    Returns:
        System to rows, by the order in which they were run. A system's name is that under which it was
        scored, or extractor and prompt; what is ambiguous has its seed and the start of its run's id behind.
    """
    found: list[tuple[RunRecord, Path]] = []
    for kind in (_EVALUATED, _SCORED):
        for folder, record in find_runs(results or profile.results_path, kind=kind):
            if tuple(map(record.setting, ("dataset", "split", "pairs"))) == (dataset, split, pairs):
                found.append((record, folder))
    found.sort(key=lambda item: item[0].started)
    found = [item for item in found if item[0].input_hash("data") == found[-1][0].input_hash("data")]
    names = [_name(record) for record, _ in found]
    systems: dict[str, pd.DataFrame] = {}
    for name, (record, folder) in zip(names, found, strict=True):
        unique = names.count(name) == 1
        shown = name if unique else f"{name} (seed {record.seed}, {record.run_id[-8:]})"
        systems[shown] = read_keypoints(folder / "keypoints.parquet")
    return systems


def write_leaderboard(
    table: pd.DataFrame, folder: Path, *, dataset: str, split: str, profile: str
) -> tuple[Path, Path, Path]:
    """Write the table of `rank` as CSV, Markdown and a page, which also holds what others have published.

    Returns:
        The paths of `leaderboard_<dataset>_<split>` with the endings .csv, .md and .html.
    """
    name = f"leaderboard_{dataset}_{split}"
    title = f"Systems on {dataset}, {split} split, by PCK@0.10; behind: the paired difference to the first"
    caption = table_caption(title, profile=profile, protocol=describe_protocol())
    csv_path, md_path = write_table(table, folder, name, caption)
    said = [f"# Leaderboard: {dataset}, {split}", "", "## Measured here", "", markdown_table(table, caption)]
    said += [
        "A rank counts the systems that are clearly better: whose paired difference lies above zero. "
        "`macro` is the mean over categories, `geo` the geometry-aware subset.",
        "",
    ]
    printed = published_table(dataset)
    if len(printed):
        note = (
            f"What others print of {dataset}'s real test split, per image. These are other models on real "
            f"photographs; what profile `{profile}` measures is only comparable where it tests on the same."
        )
        scores = [column for column in printed if column.startswith("PCK@")]
        said += ["## Published", "", markdown_table(printed, note, percent=scores)]
    html = folder / f"{name}.html"
    atomic_write_text(html, html_page("\n".join(said), f"Leaderboard, {dataset} {split}", folder))
    return csv_path, md_path, html


def _name(record: RunRecord) -> str:
    if record.kind == _SCORED:
        return str(record.setting("method"))
    prefix = f"{record.config['dataset']}-{record.config['split']}-"
    return record.name.removeprefix(prefix).replace("-", ", ")
