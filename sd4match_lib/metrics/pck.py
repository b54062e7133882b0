"""Percentage of correct keypoints, in all its readings, from one row per keypoint.

``PCK = mean over keypoints of [distance <= alpha * theta]`` (Eq. 8 of the paper). Two choices change the
number and are therefore always said beside it: the average (per image: over keypoints of a pair, then over
pairs, as in the paper; per point: over all keypoints; macro: per image, then over categories) and the frame
(``in``: the stretched network input, as in the paper; ``px``: the original picture).
"""

from collections.abc import Sequence
from typing import overload

import numpy as np
import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import (
    Average,
    Frame,
    describe_protocol,
    known_rows,
    numbered,
    sums,
    tally,
)
from sd4match_lib.metrics.bootstrap import Interval, PairSums, bootstrap_ratio, bootstrap_sum
from sd4match_lib.metrics.keypoints import (
    KEYPOINT_COLUMNS,
    is_correct,
    keypoint_frame,
    read_keypoints,
    score_pair,
    thresholds,
    write_keypoints,
)

__all__ = [
    "KEYPOINT_COLUMNS",
    "Average",
    "Frame",
    "Interval",
    "bootstrap_interval",
    "check_same_keypoints",
    "describe_protocol",
    "keypoint_frame",
    "pair_sums",
    "paired_difference",
    "pck",
    "pck_table",
    "read_keypoints",
    "score_pair",
    "thresholds",
    "value_sums",
    "write_keypoints",
]


@overload
def pck(
    rows: pd.DataFrame, alpha: float, *, average: Average = "image", frame: Frame = "in", by: None = None
) -> float: ...
@overload
def pck(
    rows: pd.DataFrame,
    alpha: float,
    *,
    average: Average = "image",
    frame: Frame = "in",
    by: str | Sequence[str],
) -> pd.DataFrame: ...
def pck(
    rows: pd.DataFrame,
    alpha: float,
    *,
    average: Average = "image",
    frame: Frame = "in",
    by: str | Sequence[str] | None = None,
) -> float | pd.DataFrame:
    """Return the fraction of correct keypoints, of all rows or of each group.

    Args:
        rows: one row per keypoint (`keypoints.keypoint_frame`); those without known truth are left out.
        alpha: fraction of theta within which a match is correct, the border included.
        average: over images or over points.
        frame: where distances and thresholds are measured.
        by: column or columns that make groups, such as ``"category"``, ``"viewpoint"`` or ``"keypoint"``.

    Returns:
        A float; with ``by`` a table with one row per group, sorted: the columns of ``by``, then ``pck``,
        ``pairs`` and ``keypoints`` (how many).

    Raises:
        UserError: no row has a known truth, a column is missing or empty, or average, frame or alpha is out
        of range.
    """
    if by is None:
        return pair_sums(rows, alpha, average=average, frame=frame).ratio
    groups = [by] if isinstance(by, str) else list(by)
    table = []
    for key, part in _tally(rows, alpha, average, frame, groups).groupby(groups):
        named = dict(zip(groups, key, strict=True))
        table.append({**named, "pck": sums(part, average).ratio, **_counts(part)})
    return pd.DataFrame(table)


def bootstrap_interval(
    rows: pd.DataFrame,
    alpha: float,
    *,
    average: Average = "image",
    frame: Frame = "in",
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return PCK with its percentile bootstrap interval over pictures (`metrics.bootstrap`).

    The result depends on the rows' content and the seed alone, not on their order.

    Args:
        rows, alpha, average, frame: as for `pck`.
        seed: what the draws start from.
        n: number of resamples.
        level: the interval's coverage.

    Raises:
        UserError: as for `pck`.
    """
    return bootstrap_ratio(pair_sums(rows, alpha, average=average, frame=frame), seed=seed, n=n, level=level)


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    alpha: float,
    *,
    average: Average = "image",
    frame: Frame = "in",
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return the first run's PCK minus the second's, with an interval over their common pictures.

    Both runs are resampled together, which takes out what makes a picture hard for either; an interval
    without zero means a clear difference.

    Args:
        first, second: rows of two runs on the same pairs and keypoints.
        alpha, average, frame: as for `pck`.
        seed, n, level: as for `bootstrap_interval`.

    Raises:
        UserError: as for `pck`, or the runs do not hold the same keypoints.
    """
    check_same_keypoints(first, second, alpha, frame=frame)
    terms = [
        (sign, pair_sums(rows, alpha, average=average, frame=frame))
        for sign, rows in ((1.0, first), (-1.0, second))
    ]
    return bootstrap_sum(terms, seed=seed, n=n, level=level)


def check_same_keypoints(
    first: pd.DataFrame, second: pd.DataFrame, alpha: float, *, frame: Frame = "in"
) -> None:
    """Refuse two runs that cannot be compared pair by pair.

    Raises:
        UserError: the runs do not hold the same keypoints.
    """
    keys = [_scored_keypoints(rows, alpha, frame) for rows in (first, second)]
    apart = len(keys[0] ^ keys[1])
    if apart:
        raise UserError(f"The two runs differ in {apart} keypoints: compare runs on the same pairs.")


def pair_sums(
    rows: pd.DataFrame, alpha: float, *, average: Average = "image", frame: Frame = "in"
) -> PairSums:
    """Return what PCK is a ratio of, pair by pair, for `metrics.bootstrap`.

    Args:
        rows, alpha, average, frame: as for `pck`.

    Raises:
        UserError: as for `pck`.
    """
    return sums(_tally(rows, alpha, average, frame), average)


def value_sums(rows: pd.DataFrame) -> PairSums:
    """Return what the mean of any other number per keypoint is a ratio of: over a pair's, then over pairs.

    Args:
        rows: one row per keypoint with `pair_id`, `src_image`, `trg_image` and `value`.
    """
    by_pair = rows.groupby("pair_id")
    means, names = by_pair["value"].mean(), by_pair[["src_image", "trg_image"]].first()
    return PairSums(means.to_numpy(np.float64), np.ones(len(means)), numbered(names))


def pck_table(
    rows: pd.DataFrame,
    alphas: Sequence[float],
    *,
    by: str = "category",
    average: Average = "image",
    frame: Frame = "in",
    seed: int = 0,
    n: int = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return PCK with intervals for every group and for all rows together, ready for a table.

    Args:
        rows, average, frame: as for `pck`.
        alphas: one column ``PCK@<alpha>`` of `Interval` each.
        by: the column that makes the groups.
        seed, n, level: as for `bootstrap_interval`.

    Returns:
        One row per group, sorted, and the row ``all`` (over all pairs, as in the paper, not the mean of the
        groups, unless the average is ``macro``): columns ``by``, ``pairs``, ``keypoints`` and the PCKs.

    Raises:
        UserError: as for `pck`.
    """
    table: list[dict[str, object]] = []
    tallies = [_tally(rows, alpha, average, frame, [by]) for alpha in alphas]
    totals = [_tally(rows, alpha, average, frame) for alpha in alphas]
    for name in [*sorted(tallies[0][by].unique()), "all"]:
        parts = totals if name == "all" else [tally[tally[by] == name] for tally in tallies]
        scores = [bootstrap_ratio(sums(part, average), seed=seed, n=n, level=level) for part in parts]
        columns = {f"PCK@{alpha:.2f}": score for alpha, score in zip(alphas, scores, strict=True)}
        table.append({by: str(name), **_counts(parts[0]), **columns})
    return pd.DataFrame(table)


def _tally(
    rows: pd.DataFrame, alpha: float, average: Average, frame: Frame, groups: Sequence[str] = ()
) -> pd.DataFrame:
    """Count per pair, and per group where given, how many of the keypoints are correct."""
    known = known_rows(rows, alpha, frame)
    return tally(known, is_correct(known, alpha, frame), groups, average)


def _scored_keypoints(rows: pd.DataFrame, alpha: float, frame: Frame) -> set[tuple[str, str]]:
    known = known_rows(rows, alpha, frame)
    return set(zip(known["pair_id"], known["keypoint"], strict=True))


def _counts(counted: pd.DataFrame) -> dict[str, int]:
    return {"pairs": counted["pair_id"].nunique(), "keypoints": int(counted["keypoints"].sum())}
