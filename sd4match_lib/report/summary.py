"""What the terminal shows of a finished run: its numbers and where its record is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import Average, Frame, describe_protocol
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.errors import error_table
from sd4match_lib.metrics.geometry import geometry_aware
from sd4match_lib.metrics.kap import kap
from sd4match_lib.metrics.pck import pck_table
from sd4match_lib.prompts.factory import PROMPT_FILE
from sd4match_lib.report.sentences import counted
from sd4match_lib.report.tables import format_percent, table_caption
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.utils.progress import format_duration

if TYPE_CHECKING:
    from sd4match_lib.evaluation.evaluate import EvaluationResult

Subset = Literal["all", "geo"]
"""Which keypoints count: all, or those of the geometry-aware subset."""

_KAP = "average precision of similarities at the true place, at others, and of points that the target hides"


def summarise_evaluation(
    result: EvaluationResult,
    *,
    by: str = "category",
    alphas: Sequence[float] | None = None,
    average: Average = "image",
    frame: Frame = "in",
    symmetry: Symmetry | None = None,
    subset: Subset = "all",
) -> str:
    """Return a table of PCK with its caption, and below it the run's record in short.

    Args:
        result: the evaluation.
        by: the column of its rows that makes the groups; "error" tabulates how predictions fail instead, with
            KAP below.
        alphas: the thresholds; the profile's when None.
        average, frame: how PCK is taken; see `pck.pck`.
        symmetry: which keypoints of the data set are alike.
        subset: the keypoints that count: all, or the geometry-aware ones ("geo").

    Raises:
        UserError: there is no such column, or it is empty; or nobody says which keypoints are alike.
    """
    record = result.record
    counts = [counted(int(record.number(f"{noun}s")), noun) for noun in ("pair", "keypoint")]
    lines = [f"{record.name} (profile {record.profile}): {', '.join(counts)}", ""]
    if any(name.startswith("pck@") for name in record.metrics):
        rows = result.keypoints if subset == "all" else _geometry_aware(result.keypoints, symmetry)
        alphas = alphas or result.alphas
        if by == "error":
            what = "Kinds of errors"
            parts = [
                error_table(
                    {f"{alpha:.2f}": rows},
                    alpha,
                    average=average,
                    frame=frame,
                    seed=record.seed,
                    symmetry=symmetry,
                )
                for alpha in alphas
            ]
            scores = pd.concat(parts, ignore_index=True).rename(columns={"method": "alpha"})
        else:
            what = "PCK"
            scores = pck_table(rows, alphas, by=by, average=average, frame=frame, seed=record.seed)
        table = scores.map(lambda cell: format_percent(cell) if isinstance(cell, Interval) else cell)
        protocol = describe_protocol(average=average, frame=frame)
        if subset == "geo":
            protocol += "; geometry-aware keypoints alone"
        caption = table_caption(
            f"{what} in percent with 95 % intervals", profile=record.profile, protocol=protocol
        )
        lines += [caption, "", table.to_string(index=False), ""]
        # Rows of another system hold no similarities, and the subset leaves out the points that KAP punishes.
        if by == "error" and subset == "all" and rows["similarity_inside"].notna().any():
            lines += [f"KAP {format_percent(kap(rows, seed=record.seed))}: {_KAP}", ""]
    else:
        lines += ["These pairs say no targets, so that there is nothing to score.", ""]
    return "\n".join([*lines, *_provenance(record, result.folder, result.reused)]) + "\n"


def _geometry_aware(rows: pd.DataFrame, symmetry: Symmetry | None) -> pd.DataFrame:
    if symmetry is None:
        raise UserError(
            "nobody says which keypoints of this data set are alike; the subset geo needs SPair-71k's layout "
            "or AP-10K."
        )
    return geometry_aware(rows, symmetry)


def summarise_ranking(table: pd.DataFrame, *, profile: str) -> str:
    """Return a ranking (`leaderboard.rank`) as text with its caption."""
    shown = table.map(lambda cell: format_percent(cell) if isinstance(cell, Interval) else cell)
    title = "Systems by PCK@0.10 in percent with 95 % intervals; behind: the paired difference to the first"
    caption = table_caption(title, profile=profile, protocol=describe_protocol())
    text = shown.assign(behind=shown["behind"].fillna("-")).to_string(index=False)
    legend = "a rank counts the systems that are clearly better: their paired interval lies above zero"
    return f"{caption}\n\n{text}\n{legend}\n"


def summarise_training(record: RunRecord, folder: Path, *, reused: bool) -> str:
    """Return what a training achieved, and below it the run's record in short."""
    steps, best_step = int(record.number("steps")), int(record.number("best_step"))
    lines = [
        f"{record.name} (profile {record.profile}): {counted(steps, 'step')}, "
        f"validation PCK@0.10 {format_percent(record.number('validation PCK@0.10'))} after step {best_step}",
        f"prompt: {folder / PROMPT_FILE}",
    ]
    return "\n".join([*lines, *_provenance(record, folder, reused)]) + "\n"


def _provenance(record: RunRecord, folder: Path, reused: bool) -> list[str]:
    memory = ", ".join(f"{value:.0f} MB {name}" for name, value in record.peak_memory_mb.items())
    commit = str(record.commit.get("id", ""))[:8] + ("+changes" if record.commit.get("dirty") else "")
    at = f" at {commit}" if commit else ""
    computed = f"computed in {format_duration(record.wall_s)} on {record.device}, peak {memory}{at}"
    found = ["found finished; nothing was computed again"] if reused else []
    return [computed, f"record: {folder / 'run.json'}", *found]
