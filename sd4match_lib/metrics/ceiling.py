"""The ceiling of the grid: what no nearest-neighbour matcher on a feature grid can exceed."""

import pandas as pd

from sd4match_lib.errors import UserError
from sd4match_lib.metrics.averages import known_rows, share
from sd4match_lib.metrics.bootstrap import Interval


def grid_ceiling(rows: pd.DataFrame, alpha: float, *, seed: int = 0) -> Interval:
    """Return the share of keypoints whose nearest cell centre lies within ``alpha * theta`` of the truth.

    Distances are those of the network input. Matchers that answer between cells are not bound by it.

    Raises:
        UserError: the rows do not say where cells lie: other systems' predictions do not.
    """
    known = known_rows(rows, alpha, "in")
    if "cell_distance_in" not in known or known["cell_distance_in"].isna().any():
        raise UserError(
            "These rows do not say where the grid's cells lie: evaluate a method of this library."
        )
    return share(known, known["cell_distance_in"] <= alpha * known["theta_in"], seed=seed)
