"""What each of `Matcher`'s options is worth: the same pairs with the option off and on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sd4match_lib.data.types import Pair
from sd4match_lib.geometry import stretch_points
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matcher.options import MatchOptions
from sd4match_lib.metrics.keypoints import keypoint_frame, score_pair
from sd4match_lib.metrics.pck import bootstrap_interval, paired_difference
from sd4match_lib.report.sentences import NOTHING
from sd4match_lib.utils.progress import progress

OPTIONS: Mapping[str, MatchOptions] = {
    "none (the paper)": MatchOptions(),
    "window of 9 cells": MatchOptions(window=9),
    "mutual only": MatchOptions(mutual=True),
    "flip": MatchOptions(flip=True),
    "DINOv2 at 0.5": MatchOptions(dino_weight=0.5),
    "grid 3 times denser": MatchOptions(denser=3),
}
"""The first is what the others are compared with."""


def option_table(
    matcher: Matcher, pairs: Sequence[Pair], alpha: float = 0.1, *, seed: int = 0
) -> pd.DataFrame:
    """Match pairs with known target points under each option.

    Returns:
        One row per option: `option`, `pairs`, `points kept` (the share of points that `mutual` leaves, 1
        elsewhere), `PCK@<alpha>` over the points kept, and `gain`, an `Interval` over the same pairs; None
        for the first row, and for `mutual`, which scores other points.
    """
    every = len(pairs) * len(OPTIONS)
    steps = progress(_measure(matcher, pairs), total=every, description="options", unit="pair")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in OPTIONS}
    counts = dict.fromkeys(OPTIONS, 0)
    for name, rows, asked in steps:
        found[name] += rows
        counts[name] += asked
    frames = {name: keypoint_frame(rows) for name, rows in found.items()}
    base = next(iter(frames.values()))
    table = []
    for name, rows in frames.items():
        comparable = rows is not base and len(rows) == len(base)
        table.append(
            {
                "option": name,
                "pairs": rows["pair_id"].nunique(),
                "points kept": len(rows) / counts[name],
                f"PCK@{alpha:.2f}": bootstrap_interval(rows, alpha, seed=seed) if len(rows) else NOTHING,
                "gain": paired_difference(rows, base, alpha, seed=seed) if comparable else None,
            }
        )
    return pd.DataFrame(table)


def _measure(matcher: Matcher, pairs: Sequence[Pair]) -> Any:
    """Yield an option's name, the rows of one pair, and how many points were asked for."""
    hw_in = matcher.profile.model.image_hw
    for name, options in OPTIONS.items():
        at = matcher.with_settings(options=options)
        for pair in pairs:
            match = at.match(pair.src, pair.trg, pair.src_px)
            pred_in = stretch_points(match.trg_px.astype(np.float64), pair.trg.hw_px, hw_in)
            rows = score_pair(pair, pred_in, hw_in)[: len(pred_in)]
            kept = match.mutual if match.mutual is not None else np.ones(len(rows), dtype=bool)
            yield name, [row for row, keep in zip(rows, kept, strict=True) if keep], len(rows)
