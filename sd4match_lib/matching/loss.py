"""The matching loss that tunes a prompt (Eq. 5 of the paper, with its label smoothing).

Symbols: ``B`` batch, ``N`` keypoints of a pair, ``C`` channels, ``h w`` feature grid. Coordinates are
``(x, y)`` in feature cells.
"""

import math

import torch
from torch import Tensor

from sd4match_lib.matching.correlation import Correlation, surrounding_cells
from sd4match_lib.matching.points import kernel_softargmax

BORDER_TOLERANCE = 1e-3
"""Cells by which rounding may push a position over the grid's border and still count as on it."""


def matching_loss(
    src_feat: Tensor,
    trg_feat: Tensor,
    src_ft: Tensor,
    trg_ft: Tensor,
    valid: Tensor,
    *,
    temperature: float = 0.04,
    kernel_size: int = 7,
) -> Tensor:
    """Cross-entropy between predicted match distributions and Gaussians around the true matches.

    For each keypoint: the softmax over all target cells of its cosine similarities, divided by the
    temperature, is read bilinearly at a ``kernel_size x kernel_size`` window of positions one cell apart
    around the true match; the loss is minus the kernel-weighted sum of the logarithms. Window positions
    outside the grid do not count, and the kernel is not renormalised for them. Computed in float32 (float64
    features: in float64), also under autocast; finite for finite features.

    Args:
        src_feat: source features ``(B, C, h, w)``, not necessarily normalised.
        trg_feat: target features ``(B, C, h', w')``.
        src_ft: source keypoints ``(B, N, 2)`` in source cells.
        trg_ft: their true matches ``(B, N, 2)`` in target cells.
        valid: boolean ``(B, N)``; False marks padding, whose coordinates may be anything, NaN included.
        temperature: softmax temperature (beta in Eq. 4).
        kernel_size: side of the window in cells, odd, at least 3; the Gaussian's sigma is
            ``(kernel_size // 2) / 2``.

    Returns:
        A scalar: the mean over a pair's valid keypoints, then over the pairs that have any; a differentiable
        zero where no pair has.

    Raises:
        ValueError: kernel size or temperature out of range, or shapes that do not fit together.
    """
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and at least 3, not {kernel_size}.")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}.")
    src_ft, trg_ft, valid = _known_points(src_ft, trg_ft, valid)
    scores = Correlation(src_feat, trg_feat)(src_ft)
    log_probability = (scores.flatten(2) / temperature).log_softmax(2)
    per_keypoint = _smoothed_cross_entropy(log_probability, trg_ft.to(scores), scores.shape[2:], kernel_size)
    return _mean_over_pairs(per_keypoint, valid)


def distance_loss(
    src_feat: Tensor,
    trg_feat: Tensor,
    src_ft: Tensor,
    trg_ft: Tensor,
    valid: Tensor,
    *,
    temperature: float = 0.04,
    sigma: float = 7.0,
) -> Tensor:
    """Distance between where the kernel soft-argmax puts a match and where it truly is; not in the paper.

    It trains what the test matches with. The cross-entropy of `matching_loss` does not know the Gaussian that
    the kernel soft-argmax lays around the best cell, nor how far off a wrong cell is.

    Args:
        src_feat, trg_feat, src_ft, trg_ft, valid: as for `matching_loss`.
        temperature, sigma: as for `points.kernel_softargmax`.

    Returns:
        A scalar, in fractions of the target grid's longer side, averaged as in `matching_loss`.

    Raises:
        ValueError: shapes that do not fit together.
    """
    src_ft, trg_ft, valid = _known_points(src_ft, trg_ft, valid)
    score = Correlation(src_feat, trg_feat)
    found_ft = kernel_softargmax(score, src_ft.to(score.src_feat), temperature=temperature, sigma=sigma)
    distance = torch.linalg.vector_norm(found_ft - trg_ft.to(found_ft), dim=-1)
    return _mean_over_pairs(distance / (max(score.trg_hw) - 1), valid)


def gaussian_kernel(kernel_size: int, device: torch.device | None = None) -> Tensor:
    """Weights of the label smoothing.

    Args:
        kernel_size: side of the window in cells, odd, at least 3.
        device: where it is made; None is the CPU.

    Returns:
        ``(kernel_size, kernel_size)`` in float64: ``exp(-r^2 / (2 sigma^2)) / (2 pi sigma^2)`` with
        ``sigma = (kernel_size // 2) / 2``; sums to a little less than 1.
    """
    sigma = (kernel_size // 2) / 2
    steps = torch.arange(kernel_size, dtype=torch.float64, device=device) - kernel_size // 2
    along = torch.exp(-(steps**2) / (2 * sigma**2))
    return along[:, None] * along[None, :] / (2 * math.pi * sigma**2)


def _known_points(src_ft: Tensor, trg_ft: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points with zeros for padding, and `valid` as booleans."""
    if trg_ft.shape != src_ft.shape or valid.shape != src_ft.shape[:2]:
        raise ValueError(
            f"src_ft and trg_ft must be (B, N, 2) and valid (B, N), not {tuple(src_ft.shape)}, "
            f"{tuple(trg_ft.shape)} and {tuple(valid.shape)}."
        )
    valid = valid.bool()
    padding = ~valid[..., None]
    return src_ft.masked_fill(padding, 0.0), trg_ft.masked_fill(padding, 0.0), valid


def _mean_over_pairs(per_keypoint: Tensor, valid: Tensor) -> Tensor:
    """The mean over a pair's valid keypoints, then over the pairs that have any."""
    counts = valid.sum(1)
    per_pair = per_keypoint.masked_fill(~valid, 0.0).sum(1) / counts.clamp(min=1)
    return per_pair.sum() / (counts > 0).sum().clamp(min=1)


def _smoothed_cross_entropy(
    log_probability: Tensor, trg_ft: Tensor, hw_ft: torch.Size, kernel_size: int
) -> Tensor:
    """``(B, N, h * w)`` log-probabilities and ``(B, N, 2)`` targets to a loss per keypoint ``(B, N)``."""
    height, width = hw_ft
    steps = torch.arange(kernel_size, dtype=trg_ft.dtype, device=trg_ft.device) - kernel_size // 2
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    window_ft = trg_ft[:, :, None] + offsets
    last_ft = torch.stack([window_ft.new_full((), side - 1) for side in (width, height)])
    inside = ((window_ft >= -BORDER_TOLERANCE) & (window_ft <= last_ft + BORDER_TOLERANCE)).all(-1)
    index, weight = surrounding_cells(window_ft, (height, width))
    corners = log_probability.gather(2, index.flatten(2)).view_as(weight)
    # The log of the weighted sum of probabilities, without leaving the logarithm: a probability may
    # underflow, its logarithm cannot. A corner of weight zero enters as log 0 = -inf, which logsumexp turns
    # into nothing.
    log_window = torch.logsumexp(corners + weight.log(), dim=-1)
    kernel = gaussian_kernel(kernel_size, trg_ft.device).to(trg_ft).flatten()
    return -(kernel * log_window.masked_fill(~inside, 0.0)).sum(-1)
