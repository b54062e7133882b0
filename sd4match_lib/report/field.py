"""The field on one page: what others print, by protocol, and what was measured here, in today's columns."""

from collections.abc import Mapping
from typing import Final

import pandas as pd

from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import known_rows, share
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.ceiling import grid_ceiling
from sd4match_lib.metrics.errors import error_kinds, twin_rate
from sd4match_lib.metrics.geometry import in_subset
from sd4match_lib.metrics.kap import kap
from sd4match_lib.metrics.pck import bootstrap_interval
from sd4match_lib.report.published import load_field

ALPHAS: Final = (0.01, 0.05, 0.10)
"""The field's three thresholds."""


def published_table(dataset: str, *, average: str = "image", column: str = "all") -> pd.DataFrame:
    """Tabulate what the field prints of one data set, numbers of one average only.

    Args:
        dataset: such as ``"spair"``, ``"spair_u"`` or ``"ap10k"``.
        average: ``"image"``, ``"point"``, or ``"unknown"``: not said in the source.
        column: ``"all"``, or the split of AP-10K.

    Returns:
        By the last column, rising: `method`, `learned from` (Z nothing, I image labels, K keypoints, empty:
        not known), a column ``PCK@<alpha>`` of fractions for each alpha that somebody prints, and `source`;
        no rows where nobody prints anything.
    """
    frame = load_field()
    wanted = (frame["dataset"] == dataset) & (frame["average"] == average) & (frame["column"] == column)
    frame = frame[wanted]
    alphas = sorted(frame["alpha"].unique())
    table = []
    for name, part in frame.groupby("row", sort=False):
        values = dict(zip(part["alpha"], part["value"], strict=True))
        cells = {f"PCK@{alpha:.2f}": values.get(alpha) for alpha in alphas}
        first = part.iloc[0]
        named = {"method": name, "learned from": first["supervision"], **cells}
        table.append({**named, "source": first["source"]})
    columns = ["method", "learned from", *(f"PCK@{alpha:.2f}" for alpha in alphas), "source"]
    result = pd.DataFrame(table, columns=columns)
    return result.sort_values(columns[-2], ignore_index=True, kind="stable") if alphas else result


def columns_table(
    runs: Mapping[str, pd.DataFrame], *, symmetry: Symmetry | None = None, seed: int = 0
) -> pd.DataFrame:
    """Tabulate methods in the columns that the field prints today; `geo` and `twin` need a symmetry.

    Returns:
        One row per method, all but the first two columns `Interval`: `method`, `keypoints`, ``PCK@0.01``,
        ``PCK@0.05``, ``PCK@0.10`` (per image), `macro` (PCK@0.10, mean over categories), `point` (PCK@0.10,
        over all keypoints), `dagger` (PCK-dagger@0.10), `geo` (PCK@0.10 of the geometry-aware subset), `twin`
        (predictions on the mirror twin), `KAP`, and `ceiling` (what the grid lets a nearest neighbour
        reach at 0.01); the last two are missing for systems of which only predictions are known.
    """
    table = []
    for name, rows in runs.items():
        known = known_rows(rows, ALPHAS[-1], "in")
        cells: dict[str, Interval | None] = {
            f"PCK@{alpha:.2f}": bootstrap_interval(rows, alpha, seed=seed) for alpha in ALPHAS
        }
        cells["macro"] = bootstrap_interval(rows, ALPHAS[-1], average="macro", seed=seed)
        cells["point"] = bootstrap_interval(rows, ALPHAS[-1], average="point", seed=seed)
        cells["dagger"] = share(known, error_kinds(rows, ALPHAS[-1]) == "correct", seed=seed)
        if symmetry is not None:
            chosen = rows[in_subset(rows, symmetry)]
            cells["geo"] = bootstrap_interval(chosen, ALPHAS[-1], seed=seed) if len(chosen) else None
            cells["twin"] = twin_rate(rows, symmetry, ALPHAS[-1], seed=seed)
        has_maps = bool(rows["similarity_outside"].notna().any())
        cells["KAP"] = kap(rows, seed=seed) if has_maps else None
        cells["ceiling"] = grid_ceiling(rows, ALPHAS[0], seed=seed) if has_maps else None
        table.append({"method": name, "keypoints": len(known), **cells})
    if not table:
        raise UserError("there is no method to tabulate.")
    return pd.DataFrame(table)
