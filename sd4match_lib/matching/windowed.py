"""Windowed soft-argmax: the expected position within a square around the best cell, and nowhere else.

Zhang et al., "Telling Left from Right: Identifying Geometry-Aware Semantic Correspondence", CVPR 2024
(GeoAware-SC), who use a window of 15 cells on a grid of 60. Unlike the paper's kernel soft-argmax it
gives a far second mode no weight at all.
"""

from torch import Tensor

from sd4match_lib.matching.correlation import best_cells
from sd4match_lib.matching.points import cell_axes, expected_position


def windowed_softargmax(scores: Tensor, window: int, temperature: float) -> Tensor:
    """Return the expected position under the softmax over a window around the maximum.

    Args:
        scores: cosine similarities (..., h, w).
        window: the window's side in cells, odd; what of it lies outside the grid does not count.
        temperature: of the softmax.

    Returns:
        (..., 2), x and y in cells.
    """
    best = best_cells(scores)
    columns, rows = cell_axes(scores)
    near_x = (columns - best[..., :1]).abs() <= window // 2
    near_y = (rows - best[..., 1:]).abs() <= window // 2
    near = near_y[..., :, None] & near_x[..., None, :]
    return expected_position(scores.masked_fill(~near, float("-inf")), temperature)
