"""Windowed soft-argmax: the expected position within a square around the best cell, and nowhere else.

Zhang et al., "Telling Left from Right: Identifying Geometry-Aware Semantic Correspondence", CVPR 2024
(GeoAware-SC), who use a window of 15 cells on a grid of 60. Unlike the paper's kernel soft-argmax it
gives a far second mode no weight at all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def windowed_softargmax(scores: Tensor, window: int, temperature: float) -> Tensor:
    """Return the expected position under the softmax over a window around the maximum.

    Args:
        scores: cosine similarities (N, h, w).
        window: the window's side in cells, odd; what of it lies outside the grid does not count.
        temperature: of the softmax.

    Returns:
        (N, 2), x and y in cells.
    """
    height, width = scores.shape[1:]
    best = scores.flatten(1).argmax(1)
    column, row = best % width, best // width
    columns, rows = (torch.arange(side, device=scores.device) for side in (width, height))
    reach = window // 2
    near_x = (columns - column[:, None]).abs() <= reach
    near_y = (rows - row[:, None]).abs() <= reach
    masked = scores.masked_fill(~(near_y[:, :, None] & near_x[:, None, :]), float("-inf"))
    probability = (masked.flatten(1) / temperature).softmax(1).view_as(scores)
    x, y = probability.sum(1) @ columns.to(scores), probability.sum(2) @ rows.to(scores)
    return torch.stack([x, y], -1)
