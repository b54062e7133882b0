"""Keypoint average precision (Mariotti et al., CVPR 2024): do features know the right place from wrong ones?

Every keypoint that source and target show gives a positive, the best similarity near its truth, and a
negative, the best one elsewhere; one whose target is hidden gives only a negative, its best similarity
anywhere. KAP is the average precision over all of them: unlike PCK it asks that a hidden point finds nothing.
Similarities are normalised per pair, and near is within 0.10 theta (`matching.similarity`).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import numbered, require_columns
from sd4match_lib.metrics.bootstrap import Interval, PairSums, bootstrap_ratio


def kap(rows: pd.DataFrame, *, seed: int = 0) -> Interval:
    """Return the keypoint average precision with its bootstrap interval over pictures (`metrics.bootstrap`).

    Average precision is no ratio of sums over pairs, so what each pair adds to it is its influence: the
    derivative by the pair's weight (the infinitesimal jackknife).

    Raises:
        UserError: the rows hold no similarities: other systems' predictions have none.
    """
    require_columns(rows, ["pair_id", "src_image", "trg_image", "similarity_inside", "similarity_outside"])
    inside, outside = rows["similarity_inside"], rows["similarity_outside"]
    if inside.isna().all():
        raise UserError(
            "These rows hold no similarities: KAP needs features, so evaluate a method of this library."
        )
    score = pd.concat([inside.dropna(), outside.dropna()])
    positive = np.r_[np.ones(inside.count(), bool), np.zeros(outside.count(), bool)]
    value, influence = _average_precision(score.to_numpy(np.float64), positive)
    by_pair = pd.Series(influence).groupby(rows.loc[score.index, "pair_id"].to_numpy()).sum()
    names = rows.groupby("pair_id")[["src_image", "trg_image"]].first().loc[by_pair.index]
    count = len(by_pair)
    sums = PairSums(value + count * by_pair.to_numpy(), np.ones(count), numbered(names))
    return Interval(*np.clip(bootstrap_ratio(sums, seed=seed), 0, 1).tolist())


def _average_precision(
    values: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]
) -> tuple[float, npt.NDArray[np.float64]]:
    """Sum over thresholds of precision times the gain in recall; equal values share a threshold.

    Args:
        values: scores ``(M,)``.
        positive: which of them are positives, at least one.

    Returns:
        The average precision, and its derivative by the weight of each value ``(M,)``, around weights of one.
    """
    # Thresholds from the highest score down, and which of them each value meets first.
    _, place = np.unique(-values, return_inverse=True)
    gained = np.bincount(place, positive)
    found, total = np.cumsum(gained), np.cumsum(np.bincount(place))
    precision = found / total
    value = float((gained * precision).sum() / found[-1])

    def from_here_down(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.cumsum(terms[::-1])[::-1][place]

    # A value's weight raises the total from its threshold down, and as a positive what is found there too.
    raised = positive * from_here_down(gained / total) - from_here_down(gained * found / total**2)
    return value, (positive * (precision[place] - value) + raised) / found[-1]
