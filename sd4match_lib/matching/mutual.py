"""Mutual nearest neighbours: a match is believed when the way back leads to where it came from.

Dekel et al., "Best-Buddies Similarity for Robust Template Matching", CVPR 2015; a filter of matching at
large. It says nothing of meaning: two left ears that a model takes for each other pass it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sd4match_lib.matching.match import correlation

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
    best_ft = _best_cells(correlation(src_map, trg_map, src_ft))
    back_ft = _best_cells(correlation(trg_map, src_map, best_ft))
    return ((back_ft - src_ft).abs() <= REACH_FT).all(-1)[0]


def _best_cells(scores: Tensor) -> Tensor:
    width = scores.shape[3]
    best = scores.flatten(2).argmax(2)
    return torch.stack([best % width, best // width], -1).to(scores)
