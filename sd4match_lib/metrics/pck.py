"""Percentage of correct keypoints, in all its readings, from one row per keypoint.

``PCK = mean over keypoints of [distance <= alpha * theta]`` (Eq. 8 of the paper). Two choices change the
number and are therefore always said beside it: the average (per image: over keypoints of a pair, then over
pairs, as in the paper; per point: over all keypoints; macro: per image, then over categories) and the frame
(``in``: the stretched network input, as in the paper; ``px``: the original picture).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import Average, Frame, known_rows, numbered, sums, tally
from sd4match_lib.metrics.bootstrap import Interval, PairSums, bootstrap_ratio, bootstrap_sum
from sd4match_lib.metrics.keypoints import is_correct


def pck(rows: pd.DataFrame, alpha: float, *, average: Average = "image", frame: Frame = "in") -> float:
    """Return the fraction of correct keypoints.

    Args:
        rows: one row per keypoint (`keypoints.keypoint_frame`); those without known truth are left out.
        alpha: fraction of theta within which a match is correct, the border included.
        average: over images, over points or over categories.
        frame: where distances and thresholds are measured.

    Raises:
        UserError: no row has a known truth, a column is missing or empty, or average, frame or alpha is out
        of range.
    """
    return pair_sums(rows, alpha, average=average, frame=frame).ratio


def bootstrap_interval(
    rows: pd.DataFrame,
    alpha: float,
    *,
    average: Average = "image",
    frame: Frame = "in",
    seed: int = 0,
    n: int = 1000,
) -> Interval:
    """Return `pck` with its percentile bootstrap interval over pictures (`metrics.bootstrap`).

    The result depends on the rows' content and the seed alone, not on their order.
    """
    return bootstrap_ratio(pair_sums(rows, alpha, average=average, frame=frame), seed=seed, n=n)


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, alpha: float, *, seed: int = 0, n: int = 1000
) -> Interval:
    """Return the first run's PCK minus the second's, with an interval over their common pictures.

    Both runs are resampled together, which takes out what makes a picture hard for either; an interval
    without zero means a clear difference.

    Raises:
        UserError: as for `pck`, or the runs do not hold the same keypoints.
    """
    check_same_keypoints(first, second, alpha)
    terms = [(1.0, pair_sums(first, alpha)), (-1.0, pair_sums(second, alpha))]
    return bootstrap_sum(terms, seed=seed, n=n)


def check_same_keypoints(first: pd.DataFrame, second: pd.DataFrame, alpha: float) -> None:
    """Refuse two runs that cannot be compared pair by pair.

    Raises:
        UserError: the runs do not hold the same keypoints.
    """
    known = [known_rows(rows, alpha, "in") for rows in (first, second)]
    keys = [set(zip(rows["pair_id"], rows["keypoint"], strict=True)) for rows in known]
    apart = len(keys[0] ^ keys[1])
    if apart:
        raise UserError(f"The two runs differ in {apart} keypoints: compare runs on the same pairs.")


def pair_sums(
    rows: pd.DataFrame, alpha: float, *, average: Average = "image", frame: Frame = "in"
) -> PairSums:
    """Return what `pck` of the same arguments is a ratio of, pair by pair, for `metrics.bootstrap`."""
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
) -> pd.DataFrame:
    """Return PCK with intervals for every group and for all rows together, ready for a table.

    Returns:
        One row per group, sorted, and the row ``all`` (over all pairs, as in the paper, not the mean of the
        groups, unless the average is ``macro``): columns ``by``, ``pairs``, ``keypoints`` and the PCKs.
    """
    table: list[dict[str, object]] = []
    tallies = [_tally(rows, alpha, average, frame, [by]) for alpha in alphas]
    totals = [_tally(rows, alpha, average, frame) for alpha in alphas]
    for name in [*sorted(tallies[0][by].unique()), "all"]:
        parts = totals if name == "all" else [tally[tally[by] == name] for tally in tallies]
        scores = [bootstrap_ratio(sums(part, average), seed=seed) for part in parts]
        columns = {f"PCK@{alpha:.2f}": score for alpha, score in zip(alphas, scores, strict=True)}
        table.append({by: str(name), **_counts(parts[0]), **columns})
    return pd.DataFrame(table)


def _tally(
    rows: pd.DataFrame, alpha: float, average: Average, frame: Frame, groups: Sequence[str] = ()
) -> pd.DataFrame:
    """Count per pair, and per group where given, how many of the keypoints are correct."""
    known = known_rows(rows, alpha, frame)
    return tally(known, is_correct(known, alpha, frame), groups, average)


def _counts(counted: pd.DataFrame) -> dict[str, int]:
    return {"pairs": counted["pair_id"].nunique(), "keypoints": int(counted["keypoints"].sum())}
