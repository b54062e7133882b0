"""What a training step minimises: the matching loss of some pairs under a prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sd4match_lib.backbones.device import send
from sd4match_lib.config.schema import TrainingConfig
from sd4match_lib.data.types import Pair
from sd4match_lib.errors import UserError
from sd4match_lib.features.extractors import DiffusionSource
from sd4match_lib.geometry import HW, points_to_grid
from sd4match_lib.matching.loss import distance_loss, matching_loss

_SIGMA_SHARE = 7 / 48
"""The kernel soft-argmax's sigma as a share of the grid: the paper's 7 of 48 cells."""


def pair_points(pairs: Sequence[Pair], *, hw_in: HW, hw_ft: HW) -> tuple[Tensor, Tensor, Tensor]:
    """Return the keypoints of `B` pairs in cells of the feature grid.

    Returns:
        Source points and target points, (B, N, 2) each, and which of them are real, (B, N) bool.

    Raises:
        UserError: a pair's target points are not known.
    """
    points = torch.zeros(2, len(pairs), max(len(pair.src_px) for pair in pairs), 2)
    valid = torch.zeros(points.shape[1:3], dtype=torch.bool)
    for row, pair in enumerate(pairs):
        if not pair.has_truth:
            raise UserError(
                f"pair {pair.pair_id} has target points that are not known; it cannot be learned."
            )
        valid[row, : len(pair.src_px)] = True
        for side, (xy_px, record) in enumerate(((pair.src_px, pair.src), (pair.trg_px, pair.trg))):
            xy_ft = points_to_grid(xy_px, hw_px=record.hw_px, hw_in=hw_in, hw_ft=hw_ft)
            points[side, row, : len(xy_px)] = torch.from_numpy(xy_ft)
    return points[0], points[1], valid


def pair_loss(
    source: DiffusionSource, pairs: Sequence[Pair], config: TrainingConfig, *, hw_in: HW, seed: int | str
) -> Tensor:
    """Return the mean matching loss of `B` pairs (Eq. 5 of the paper).

    Sources and targets go through the UNet in one batch; gradients flow to the prompt alone. The terms that
    the paper does not have, `distance_weight` and `both_directions`, are off unless the profile says
    otherwise; they read the same features.

    Args:
        source: the frozen features under the prompt that is learned.
        pairs: `B` pairs with known targets.
        config: temperature, window and terms of the loss, and the precision.
        hw_in: network input.
        seed: what latents and noises are drawn from; another one each step.
    """
    mixed = config.precision != "model"
    dtype = getattr(torch, config.precision) if mixed else None
    with torch.autocast(source.model.device.type, dtype=dtype, enabled=mixed):
        src, trg = source.pair_features(pairs, seed=seed)
    hw_ft = (src.shape[2], src.shape[3])
    points = [send(tensor, src.device) for tensor in pair_points(pairs, hw_in=hw_in, hw_ft=hw_ft)]
    src_ft, trg_ft, valid = points
    loss = _directed_loss(src, trg, src_ft, trg_ft, valid, config)
    if not config.both_directions:
        return loss
    return (loss + _directed_loss(trg, src, trg_ft, src_ft, valid, config)) / 2


def _directed_loss(
    src: Tensor, trg: Tensor, src_ft: Tensor, trg_ft: Tensor, valid: Tensor, config: TrainingConfig
) -> Tensor:
    """The loss of matching from one picture of each pair to the other."""
    points = (src, trg, src_ft, trg_ft, valid)
    loss = matching_loss(*points, temperature=config.temperature, kernel_size=config.kernel_size)
    if config.distance_weight == 0:
        return loss
    sigma = _SIGMA_SHARE * max(trg.shape[2:])
    return loss + config.distance_weight * distance_loss(*points, temperature=config.temperature, sigma=sigma)
