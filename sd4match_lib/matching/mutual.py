"""Mutual nearest neighbours: a match is believed when the way back leads to where it came from.

Dekel et al., "Best-Buddies Similarity for Robust Template Matching", CVPR 2015; a filter of matching at
large. It says nothing of meaning: two left ears that a model takes for each other pass it.
"""

from torch import Tensor

from sd4match_lib.matching.correlation import Correlation, best_cells

REACH_FT = 1.5
"""How far, in source cells and per axis, the way back may end from the point, which lies between cells."""


def found_back(src_map: Tensor, trg_map: Tensor, src_ft: Tensor) -> Tensor:
    """Say for each point whether its best target cell's best source cell is the point's own.

    Args:
        src_map: source features (1, C, h, w).
        trg_map: target features (1, C, h', w').
        src_ft: points (1, N, 2) in source cells.

    Returns:
        (N,) bool.
    """
    best_ft = best_cells(Correlation(src_map, trg_map)(src_ft))
    back_ft = best_cells(Correlation(trg_map, src_map)(best_ft))
    return ((back_ft - src_ft).abs() <= REACH_FT).all(-1)[0]
