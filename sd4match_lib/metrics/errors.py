"""How predictions fail: correct, swap, jitter or miss, after Aygün and Mac Aodha (ECCV 2022).

For a pair's annotated target points ``gt_j`` and predictions ``p_i``, with ``d_ij = |p_i - gt_j|`` and
``tau = alpha * theta``: *correct* iff ``d_ii <= tau`` and no other target point is nearer (their
PCK-dagger); *swap* iff another one is nearest, and within tau; *jitter* iff ``tau < d_ii <= 2 tau``; *miss*
iff no target point is within tau. A prediction may be a jitter and also a swap or a miss: here swap comes
before jitter and jitter before miss, so that every keypoint is of one kind. Both borders count as within.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import Average, Frame, known_rows, require_columns, share
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.keypoints import is_correct

ERROR_KINDS = ("correct", "jitter", "swap", "miss")
"""From best to worst, as bars are stacked."""


def error_kinds(rows: pd.DataFrame, alpha: float, *, frame: Frame = "in") -> pd.Series:
    """Say for every keypoint with a known truth how its prediction fared; tau is `alpha` of theta.

    Returns:
        One of `ERROR_KINDS` per row with a known truth, by the rows' index.

    Raises:
        UserError: no row has a known truth, or the rows are of a version that did not store the points.
    """
    known = known_rows(rows, alpha, frame)
    points = [f"{side}_{axis}_{frame}" for side in ("trg", "pred") for axis in "xy"]
    require_columns(known, points)
    if known[points].isna().any(axis=None):
        raise UserError(
            f"These rows were stored without the points in the frame '{frame}': evaluate again, or use the "
            "frame px."
        )
    kinds = pd.Series(index=known.index, dtype="object")
    for _, pair in known.groupby("pair_id", sort=False):
        kinds[pair.index] = _kinds_of_pair(pair, points, alpha, frame)
    return kinds.astype(pd.CategoricalDtype(ERROR_KINDS, ordered=True))


def error_table(
    runs: Mapping[str, pd.DataFrame],
    alpha: float = 0.1,
    *,
    average: Average = "image",
    frame: Frame = "in",
    seed: int = 0,
    symmetry: Symmetry | None = None,
) -> pd.DataFrame:
    """Tabulate how several methods fail; tau is `alpha` of theta, and a symmetry adds the column ``twin``.

    Returns:
        One row per method: ``method``, ``pairs``, ``keypoints``, the share of each of `ERROR_KINDS` (that of
        ``correct`` is PCK-dagger), ``PCK`` itself, and the share of keypoints that fall on their ``twin``,
        each an `Interval`.
    """
    table = []
    for name, rows in runs.items():
        known = known_rows(rows, alpha, frame)
        kinds = error_kinds(rows, alpha, frame=frame)
        hits = {kind: kinds == kind for kind in ERROR_KINDS}
        hits["PCK"] = is_correct(known, alpha, frame)
        cells = {kind: share(known, hit, average=average, seed=seed) for kind, hit in hits.items()}
        if symmetry is not None:
            cells["twin"] = twin_rate(rows, symmetry, alpha, average=average, frame=frame, seed=seed)
        counts = {"pairs": known["pair_id"].nunique(), "keypoints": len(known)}
        table.append({"method": name, **counts, **cells})
    return pd.DataFrame(table)


def twin_rate(
    rows: pd.DataFrame,
    symmetry: Symmetry,
    alpha: float,
    *,
    average: Average = "image",
    frame: Frame = "in",
    seed: int = 0,
) -> Interval:
    """Return how often a prediction falls on the keypoint's mirror twin, where the target shows that too.

    Returns:
        The share with its interval, all NaN where no target shows a keypoint's twin.

    Raises:
        UserError: no row has a known truth.
    """
    asked = on_twins(rows, symmetry, alpha, frame=frame)
    if asked.empty:
        return Interval(float("nan"), float("nan"), float("nan"))
    return share(asked, asked["on_twin"], average=average, seed=seed)


def on_twins(rows: pd.DataFrame, symmetry: Symmetry, alpha: float, *, frame: Frame = "in") -> pd.DataFrame:
    """Say of every keypoint whose mirror twin the target shows whether its prediction falls on that.

    It falls on the twin iff it lies within ``alpha * theta`` of the twin's true place and nearer to that than
    to its own. (The rate of GECO, ICCV 2025, whose threshold is not in the text at hand.)

    Returns:
        The rows of these keypoints with a column `on_twin`.

    Raises:
        UserError: no row has a known truth.
    """
    known = known_rows(rows, alpha, frame)
    names = [
        symmetry.twin(category, keypoint) or ""
        for category, keypoint in zip(known["category"], known["keypoint"], strict=True)
    ]
    place = [f"trg_x_{frame}", f"trg_y_{frame}"]
    shown = rows.dropna(subset=place)[["pair_id", "keypoint", *place]]
    asked = known.assign(twin=names).reset_index(names="row")
    both = asked.merge(
        shown, left_on=["pair_id", "twin"], right_on=["pair_id", "keypoint"], suffixes=("", "_twin")
    ).set_index("row")
    off = [both[f"pred_{axis}_{frame}"] - both[f"trg_{axis}_{frame}_twin"] for axis in "xy"]
    distance = np.hypot(*(part.astype("float64") for part in off))
    near = distance <= alpha * both[f"theta_{frame}"]
    return both.assign(on_twin=near & (distance < both[f"distance_{frame}"]))


def _kinds_of_pair(pair: pd.DataFrame, points: list[str], alpha: float, frame: Frame) -> list[str]:
    xy = pair[points].to_numpy(np.float64)
    between = np.linalg.norm(xy[:, None, 2:] - xy[None, :, :2], axis=2)
    own = pair[f"distance_{frame}"].to_numpy(np.float64)
    tau = alpha * pair[f"theta_{frame}"].to_numpy(np.float64)
    # A point of its own that ties with another one counts as the nearest.
    nearest_is_own = between.diagonal() <= between.min(1)
    nearest = np.where(nearest_is_own, own, between.min(1))
    swap = ~nearest_is_own & (nearest <= tau)
    conditions = [swap, nearest_is_own & (own <= tau), (own > tau) & (own <= 2 * tau)]
    return np.select(conditions, ["swap", "correct", "jitter"], "miss").tolist()
