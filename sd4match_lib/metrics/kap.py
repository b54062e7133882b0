"""Keypoint average precision (Mariotti et al., CVPR 2024): do features know the right place from wrong ones?

Every keypoint that source and target show gives a positive, the best similarity near its truth, and a
negative, the best one elsewhere; one whose target is hidden gives only a negative, its best similarity
anywhere. KAP is the average precision over all of them: unlike PCK it asks that a hidden point finds nothing.
Similarities are normalised per pair, and near is within 0.10 theta (`matching.similarity`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import require_columns
from sd4match_lib.metrics.bootstrap import Interval


def kap(rows: pd.DataFrame, *, seed: int = 0, n: int = 1000, level: float = 0.95) -> Interval:
    """Return the keypoint average precision with its percentile bootstrap interval over pairs.

    Args:
        rows: one row per keypoint, those that only the source shows among them.
        seed: what the draws start from.
        n: number of resamples.
        level: the interval's coverage.

    Raises:
        UserError: the rows hold no similarities: other systems' predictions have none.
    """
    require_columns(rows, ["pair_id", "similarity_inside", "similarity_outside"])
    inside, outside = rows["similarity_inside"], rows["similarity_outside"]
    if inside.isna().all():
        raise UserError(
            "These rows hold no similarities: KAP needs features, so evaluate a method of this library."
        )
    score = pd.concat([inside.dropna(), outside.dropna()])
    positive = np.r_[np.ones(inside.count(), bool), np.zeros(outside.count(), bool)]
    # Sorted by name, so that the draws do not depend on the rows' order.
    pairs = pd.Categorical(rows["pair_id"], sorted(rows["pair_id"].unique()))
    pair = pd.Series(pairs.codes, rows.index)[score.index].to_numpy()
    order = np.argsort(-score.to_numpy(np.float64), kind="stable")
    values, positive, pair = score.to_numpy(np.float64)[order], positive[order], pair[order]
    value = _average_precision(values, positive, np.ones(len(values)))
    units = len(pairs.categories)
    if units < 2:
        return Interval(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(n))
    resampled = [_average_precision(values, positive, drawn[pair].astype(np.float64)) for drawn in draws]
    low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _average_precision(
    values: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], weight: npt.NDArray[np.float64]
) -> float:
    """Sum over thresholds of precision times the gain in recall; equal values share a threshold.

    Args:
        values: scores ``(M,)``, falling.
        positive: which of them are positives.
        weight: how often each counts.
    """
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    found, total = np.cumsum(weight * positive)[last], np.cumsum(weight)[last]
    if found[-1] == 0:
        return float("nan")
    precision = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
    return float((np.diff(found, prepend=0.0) * precision).sum() / found[-1])
