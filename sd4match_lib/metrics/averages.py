"""From a yes or no per keypoint to one number: the three averages of this field, and their units.

``image``: over the keypoints of a pair, then over pairs (the paper's). ``point``: over all keypoints.
``macro``: as ``image`` within each category, then over categories. Every number says which one it is.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.metrics.bootstrap import Interval, PairSums, bootstrap_ratio

Average = Literal["image", "point", "macro"]
"""``image``: mean over a pair's keypoints, then over pairs. ``point``: mean over all keypoints. ``macro``:
the per-image mean of each category, then the mean over categories."""
Frame = Literal["in", "px"]
"""``in``: the stretched network input. ``px``: the original picture."""


def tally(rows: pd.DataFrame, hits: pd.Series, groups: Sequence[str], average: Average) -> pd.DataFrame:
    """Count hits, by the rows' index, among the keypoints of each pair, and of each group where given.

    Returns:
        Columns of `groups`, `pair_id`, for ``macro`` also `category`, `hits` of `keypoints`, and the pair's
        pictures `src_image` and `trg_image`, sorted by the first ones.

    Raises:
        UserError: a column is missing or holds nothing, or the average is unknown.
    """
    check_choice("average", average, Average)
    extra = ["category"] if average == "macro" and "category" not in groups else []
    require_columns(rows, ["pair_id", *groups, *extra])
    for column in groups:
        if rows[column].isna().all():
            raise UserError(f"The rows have no values in '{column}': this data set does not annotate it.")
    keys = [rows[column] for column in (*groups, *extra, "pair_id")]
    counted = hits.astype(bool).groupby(keys).agg(["sum", "count"])
    counted = counted.rename(columns={"sum": "hits", "count": "keypoints"})
    # Rows without pictures' names, as other tools may write them, count as pairs that share none.
    for side in ("src_image", "trg_image"):
        own = pd.Series([f"{side} of {key}" for key in counted.index], counted.index)
        names = rows[side].groupby(keys).first() if side in rows else own
        counted[side] = names.where(names.notna(), own)
    return counted.reset_index()


def sums(counted: pd.DataFrame, average: Average) -> PairSums:
    """Return per pair of a `tally` what the average is a ratio of, with the pair's pictures."""
    hits, keypoints = (counted[column].to_numpy(np.float64) for column in ("hits", "keypoints"))
    pictures = numbered(counted[["src_image", "trg_image"]])
    if average == "point":
        return PairSums(hits, keypoints, pictures)
    if average == "image":
        return PairSums(hits / keypoints, np.ones_like(keypoints), pictures)
    # Weights that give every category the same say; they stay fixed when pictures are resampled.
    weight = 1 / counted.groupby("category")["pair_id"].transform("count").to_numpy(np.float64)
    return PairSums(weight * hits / keypoints, weight, pictures)


def numbered(names: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Return numbers from 0 for the pictures' names, (P, 2)."""
    return np.unique(names.to_numpy(str), return_inverse=True)[1].reshape(-1, 2)


def share(
    rows: pd.DataFrame,
    hits: pd.Series,
    *,
    average: Average = "image",
    seed: int = 0,
) -> Interval:
    """Return the share of the rows that are hits, with its percentile bootstrap interval over pictures."""
    return bootstrap_ratio(sums(tally(rows, hits, (), average), average), seed=seed)


def known_rows(rows: pd.DataFrame, alpha: float, frame: Frame) -> pd.DataFrame:
    """Return the rows that can be scored: those of keypoints that both pictures are known to show.

    Raises:
        UserError: there are none, or alpha or frame is out of range.
    """
    check_choice("frame", frame, Frame)
    if not alpha > 0:
        raise UserError(f"alpha is {alpha}; give a fraction above 0, such as 0.1.")
    require_columns(rows, ["pair_id", f"distance_{frame}", f"theta_{frame}"])
    known = rows[rows[f"distance_{frame}"].notna()]
    if known.empty:
        raise UserError("There is nothing to score: no row has a keypoint whose true match is known.")
    return known


def describe_protocol(*, average: Average = "image", frame: Frame = "in") -> str:
    """Say in words how PCK was taken, for captions."""
    check_choice("average", average, Average)
    check_choice("frame", frame, Frame)
    what = "per image, mean over categories (macro)" if average == "macro" else f"per {average}"
    where = "the stretched network input" if frame == "in" else "the original picture"
    return f"PCK {what}, distances in {where}"


def require_columns(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise a `UserError` that names the first column that the rows lack."""
    missing = [column for column in columns if column not in rows]
    if missing:
        raise UserError(
            f"The rows have no column '{missing[0]}'; they have {', '.join(map(str, rows.columns))}."
        )


def check_choice(name: str, value: str, choices: object) -> None:
    """Raise a `UserError` unless the value is one of a `Literal`'s."""
    if value not in get_args(choices):
        raise UserError(f"Unknown {name} '{value}': choose one of {', '.join(get_args(choices))}.")
