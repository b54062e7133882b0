"""The geometry-aware subset of GeoAware-SC (Zhang et al., CVPR 2024): keypoints that could be another one."""

import pandas as pd

from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import require_columns


def in_subset(rows: pd.DataFrame, symmetry: Symmetry) -> pd.Series:
    """Say of every row whether its keypoint belongs to the geometry-aware subset; see `geometry_aware`."""
    require_columns(rows, ["pair_id", "category", "keypoint", "trg_x_px", "distance_in"])
    groups = [
        symmetry.group(category, keypoint) or ""
        for category, keypoint in zip(rows["category"], rows["keypoint"], strict=True)
    ]
    shown = rows.assign(group=groups)[rows["trg_x_px"].notna() & (pd.Series(groups, rows.index) != "")]
    members = shown.groupby(["pair_id", "group"])["keypoint"].transform("count")
    chosen = shown.index[(members >= 2) & shown["distance_in"].notna()]
    return pd.Series(rows.index.isin(chosen), rows.index)


def geometry_aware(rows: pd.DataFrame, symmetry: Symmetry) -> pd.DataFrame:
    """Return the rows without the scored keypoints that are not of the geometry-aware subset.

    A keypoint that both pictures show belongs to it iff the target shows at least two members of its group
    (the four paws), itself among them. That includes members that the source does not show, where the data
    set knows them. Metrics of the result are compared with ``<=``; GeoAware-SC's own border is ``<``.

    Raises:
        UserError: no keypoint belongs to the subset.
    """
    chosen = in_subset(rows, symmetry)
    if not chosen.any():
        raise UserError("No keypoint of these rows has a like that its target shows.")
    return rows[rows["distance_in"].isna() | chosen]
