"""Three numbers a keypoint that a feature map leaves behind: they are stored, so that metrics need no map.

The distance from the truth to the nearest cell bounds what a nearest-neighbour matcher can reach. The best
similarity near the truth and away from it say how well features tell the right place from wrong ones, the
keypoint average precision of Mariotti et al. (CVPR 2024).
"""

import torch
from torch import Tensor

NEAR_ALPHA = 0.10
"""How near counts as near: this fraction of PCK's theta, the border included."""


def pair_scalars(scores: Tensor, cells_in: Tensor, trg_in: Tensor, theta_in: float) -> Tensor:
    """Return what is stored of one pair's score maps.

    Similarities are min-max normalised over all maps of the pair. A keypoint whose target is not known, or
    not to be seen, has nothing inside: its best similarity anywhere lies outside. Where cells are so coarse
    that none is near the truth, the nearest one counts as inside.

    Args:
        scores: cosine similarities ``(K, h, w)`` of K source points with every target cell.
        cells_in: the cells' centres ``(h, w, 2)`` in the network input.
        trg_in: the true targets ``(K, 2)`` in the network input; NaN where a target is hidden.
        theta_in: PCK's theta in the network input.

    Returns:
        ``(K, 3)`` float64: the distance from the truth to the nearest cell's centre in pixels of the network
        input, the best similarity inside, and the best outside; NaN where there is none.
    """
    flat = scores.double().flatten(1)
    low, high = flat.min(), flat.max()
    flat = (flat - low) / (high - low) if high > low else torch.zeros_like(flat)
    distance = (cells_in.double().view(1, -1, 2) - trg_in.double()[:, None]).norm(dim=2)
    nearest, place = distance.nan_to_num(torch.inf).min(1)
    hidden = distance.isnan().any(1)
    inside = distance <= NEAR_ALPHA * theta_in
    inside[torch.arange(len(flat), device=flat.device), place] = True
    inside[hidden] = False
    best_inside = flat.masked_fill(~inside, -1).amax(1)
    best_outside = flat.masked_fill(inside, -1).amax(1)
    found = torch.stack([nearest, best_inside, best_outside], 1)
    missing = torch.stack([hidden, best_inside < 0, best_outside < 0], 1)
    return found.masked_fill(missing, torch.nan)
