"""One row per keypoint: what an evaluation stores, and from which every metric is derived.

Keypoints that only one of a pair's pictures shows have a row too where the data set knows them (SPair-71k
does): without a place in the other picture and without a distance, so that no PCK counts them.

Frames: ``_px`` pixels of the original picture, ``_in`` pixels of the network's input (the stretched picture).
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyarrow import parquet

from sd4match_lib.data.types import Pair, ThresholdRule
from sd4match_lib.errors import DataError, UserError, reason
from sd4match_lib.geometry import HW, FloatArray, clamp_points, stretch_points, unstretch_points
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.reading import check_file

KEYPOINT_COLUMNS: dict[str, str] = {
    "pair_id": "str",
    "category": "str",
    "keypoint": "str",
    "src_image": "str",
    "trg_image": "str",
    "src_x_px": "float32",
    "src_y_px": "float32",
    "trg_x_px": "float32",
    "trg_y_px": "float32",
    "pred_x_px": "float32",
    "pred_y_px": "float32",
    "distance_in": "float64",
    "theta_in": "float64",
    "distance_px": "float64",
    "theta_px": "float64",
    "viewpoint": "Int8",
    "scale": "Int8",
    "truncation": "Int8",
    "occlusion": "Int8",
    "trg_x_in": "float32",
    "trg_y_in": "float32",
    "pred_x_in": "float32",
    "pred_y_in": "float32",
    "cell_distance_in": "float32",
    "similarity_inside": "float32",
    "similarity_outside": "float32",
}
"""The columns of the per-keypoint table and their types. The difficulty flags are missing where a data set
has none; the last three (`matching.similarity`) where there was no feature map, as in other systems'
predictions."""

LATER_COLUMNS = tuple(list(KEYPOINT_COLUMNS)[list(KEYPOINT_COLUMNS).index("occlusion") + 1 :])
"""Columns that older tables lack; they are read as missing values."""

_MOST_ROWS = 20_000_000
"""A few bytes of parquet can stand for any number of rows; real data sets give a hundred thousand."""

FLAGS = ("viewpoint", "scale", "truncation", "occlusion")
SCALARS = ("cell_distance_in", "similarity_inside", "similarity_outside")


def thresholds(pair: Pair, hw_in: HW) -> tuple[float, float]:
    """Return theta, what PCK's alpha is a fraction of, by the pair's own rule (method, section 6).

    Box: the longer side of the target's box, scaled per axis to the frame first. Image: the longer side of
    the target picture in the frame. Keypoints: the larger extent of the pair's known target points in the
    frame.

    Returns:
        ``(theta_in, theta_px)``; NaN where the rule needs target points that are not known.

    Raises:
        DataError: the target has no box, or its points have no extent.
    """
    hw_px = pair.trg.hw_px
    match pair.threshold:
        case ThresholdRule.IMAGE:
            return float(max(hw_in)), float(max(hw_px))
        case ThresholdRule.BOX:
            if pair.trg.box_px is None:
                raise DataError(f"{pair.trg.path} has no box, which pair {pair.pair_id}'s threshold needs.")
            corners_px = np.asarray(pair.trg.box_px, np.float64).reshape(2, 2)
            return _longer_side(stretch_points(corners_px, hw_px, hw_in)), _longer_side(corners_px)
        case ThresholdRule.KEYPOINTS:
            known_px = pair.trg_px[np.isfinite(pair.trg_px).all(1)].astype(np.float64)
            if len(known_px) == 0:
                return float("nan"), float("nan")
            theta_in = _longer_side(clamp_points(stretch_points(known_px, hw_px, hw_in), hw_in))
            if theta_in == 0:
                raise DataError(
                    f"The {len(known_px)} target points of pair {pair.pair_id} have no extent and give no "
                    "threshold: add points, or use the threshold 'image'."
                )
            return theta_in, _longer_side(known_px)


def score_pair(
    pair: Pair, pred_in: npt.ArrayLike, hw_in: HW, scalars: npt.ArrayLike | None = None
) -> list[dict[str, Any]]:
    """Score one pair's predictions.

    Args:
        pair: the pair, with N keypoints, and S more that only its source shows.
        pred_in: predicted target points ``(N, 2)`` in the network input; a tensor on the CPU is welcome. No
            padding.
        hw_in: the network input's size.
        scalars: what `matching.similarity.pair_scalars` found for the N and the S keypoints, ``(N + S, 3)``:
            `cell_distance_in`, `similarity_inside`, `similarity_outside`; None where there are no features.

    Returns:
        Dictionaries with the keys of `KEYPOINT_COLUMNS`: of the N keypoints, then of those that only the
        source, then of those that only the target shows. Distances are NaN where the truth is not known.

    Raises:
        ValueError: there is not one prediction per keypoint.
        UserError: a prediction is not finite.
        DataError: the pair's threshold cannot be computed.
    """
    pred_in = np.asarray(pred_in, np.float64)
    if pred_in.shape != pair.trg_px.shape:
        raise ValueError(
            f"Pair {pair.pair_id} needs predictions {pair.trg_px.shape}, no padding, not {pred_in.shape}."
        )
    if not np.isfinite(pred_in).all():
        raise UserError(
            f"The predictions of pair {pair.pair_id} are not finite, so its features were not either: "
            "use the dtype float32 or bfloat16."
        )
    hw_px = pair.trg.hw_px
    trg_px = pair.trg_px.astype(np.float64)
    trg_in = clamp_points(stretch_points(trg_px, hw_px, hw_in), hw_in)
    pred_px = unstretch_points(pred_in, hw_px=hw_px, hw_in=hw_in)
    distance_in = np.linalg.norm(pred_in - trg_in, axis=1)
    distance_px = np.linalg.norm(pred_px - trg_px, axis=1)
    theta_in, theta_px = thresholds(pair, hw_in)
    common = {
        "pair_id": pair.pair_id,
        "category": pair.category,
        "src_image": pair.src.image_id,
        "trg_image": pair.trg.image_id,
        "theta_in": theta_in,
        "theta_px": theta_px,
        **{flag: getattr(pair.difficulty, flag, None) for flag in FLAGS},
    }
    rows = [
        {
            **common,
            "keypoint": pair.keypoint_ids[i],
            **_point("src", pair.src_px[i], "px"),
            **_point("trg", trg_px[i], "px"),
            **_point("trg", trg_in[i], "in"),
            **_point("pred", pred_px[i], "px"),
            **_point("pred", pred_in[i], "in"),
            "distance_in": distance_in[i],
            "distance_px": distance_px[i],
        }
        for i in range(len(pred_in))
    ]
    if pair.one_sided is not None:
        only = pair.one_sided
        only_in = clamp_points(stretch_points(only.trg_px.astype(np.float64), hw_px, hw_in), hw_in)
        rows += [
            {**common, "keypoint": name, **_point("src", xy, "px")}
            for name, xy in zip(only.src_ids, only.src_px, strict=True)
        ]
        sides = zip(only.trg_ids, only.trg_px, only_in, strict=True)
        rows += [
            {**common, "keypoint": name, **_point("trg", xy_px, "px"), **_point("trg", xy_in, "in")}
            for name, xy_px, xy_in in sides
        ]
    if scalars is not None:
        for row, values in zip(rows, np.asarray(scalars, np.float64).tolist(), strict=False):
            row |= dict(zip(SCALARS, values, strict=True))
    missing = dict.fromkeys(KEYPOINT_COLUMNS, np.nan)
    return [{**missing, **row} for row in rows]


def all_keypoints(pair: Pair) -> tuple[str, ...]:
    """Return the names of a pair's rows: of the keypoints that both pictures show, and that only one does."""
    only = pair.one_sided
    return pair.keypoint_ids if only is None else (*pair.keypoint_ids, *only.src_ids, *only.trg_ids)


def keypoint_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Collect `score_pair`'s rows of many pairs into one typed table, sorted by pair and keypoint.

    Raises:
        DataError: a keypoint of a pair occurs twice.
    """
    frame = pd.DataFrame(list(rows), columns=list(KEYPOINT_COLUMNS)).astype(KEYPOINT_COLUMNS)
    _check_unique(frame, "The rows")
    return frame.sort_values(["pair_id", "keypoint"], ignore_index=True, kind="stable")


def is_correct(keypoints: pd.DataFrame, alpha: float, frame: str = "in") -> pd.Series:
    """Say which predictions lie within ``alpha * theta`` of a known truth, the border included (Eq. 8)."""
    return keypoints[f"distance_{frame}"] <= alpha * keypoints[f"theta_{frame}"]


def write_keypoints(rows: pd.DataFrame, path: Path | str) -> None:
    """Write a table of rows as parquet, atomically."""
    buffer = io.BytesIO()
    rows[list(KEYPOINT_COLUMNS)].to_parquet(buffer, index=False, compression="zstd")
    atomic_write_bytes(path, buffer.getvalue())


def read_keypoints(path: Path | str) -> pd.DataFrame:
    """Read a table that `write_keypoints` wrote.

    Raises:
        DataError: the file is missing, damaged, lacks a column, or holds a keypoint twice.
    """
    again = "delete it and evaluate again"
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist: evaluate first.")
    check_file(path, fix=again)
    try:
        about = parquet.read_metadata(path)
        known = about.schema.to_arrow_schema().names
        missing = [column for column in KEYPOINT_COLUMNS if column not in (*known, *LATER_COLUMNS)]
        if not missing and about.num_rows <= _MOST_ROWS:
            columns = [column for column in KEYPOINT_COLUMNS if column in known]
            frame = pd.read_parquet(path, columns=columns)
            frame = frame.assign(**{column: np.nan for column in KEYPOINT_COLUMNS if column not in known})
            frame = frame[list(KEYPOINT_COLUMNS)].astype(KEYPOINT_COLUMNS)
    except Exception as error:  # pyarrow raises nearly anything on damaged files
        raise DataError(f"{path} is not readable parquet ({reason(error)}): {again}.") from error
    if missing:
        raise DataError(f"{path} lacks the column {missing[0]}: {again}.")
    if about.num_rows > _MOST_ROWS:
        raise DataError(f"{path} promises {about.num_rows:,} rows, more than any data set has: {again}.")
    endless = [name for name in frame.select_dtypes("floating") if np.isinf(frame[name]).any()]
    if endless:
        raise DataError(f"{path}: the column {endless[0]} holds infinite numbers: {again}.")
    _check_unique(frame, str(path))
    return frame


def matched_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that hold a prediction: those of keypoints that both pictures show."""
    return rows[rows["pred_x_px"].notna()]


def _point(side: str, xy: npt.NDArray[Any], frame: str) -> dict[str, float]:
    return {f"{side}_x_{frame}": xy[0], f"{side}_y_{frame}": xy[1]}


def _longer_side(xy: FloatArray) -> float:
    return float(np.ptp(xy, axis=0).max())


def _check_unique(frame: pd.DataFrame, where: str) -> None:
    twice = frame.duplicated(["pair_id", "keypoint"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise DataError(f"{where} hold keypoint {first['keypoint']} of pair {first['pair_id']} twice.")
