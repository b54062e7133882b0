"""Turning two feature maps into matches: the four matchers of the paper's evaluation.

Coordinates are ``(x, y)`` in feature cells (``_ft``): cell centres are whole numbers, ``(0, 0)`` is the
centre of the first cell and ``(w - 1, h - 1)`` that of the last. Shape symbols: ``B`` batch, ``N`` keypoints,
``C`` channels, ``h w`` feature grid.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import torch
from torch import Tensor

from sd4match_lib.errors import UserError

MAX_SCORES = 2**24
"""Most correlation scores held at once (64 MiB in float32); more keypoints are matched in chunks."""


class Method(StrEnum):
    """The matchers, by the names that profiles and the command line use."""

    NN = "nn"
    BILINEAR = "bilinear"
    SOFTARGMAX = "softargmax"
    KERNEL_SOFTARGMAX = "kernel_softargmax"


def match_points(
    src_feat: Tensor,
    trg_feat: Tensor,
    src_ft: Tensor,
    *,
    method: Method | str = Method.KERNEL_SOFTARGMAX,
    temperature: float = 0.04,
    sigma: float = 7.0,
) -> Tensor:
    """Find the target positions that correspond to source keypoints.

    ``nn`` is the best scoring target cell; ``bilinear`` the best cells of the four source cells around the
    keypoint, averaged with the keypoint's bilinear weights; ``softargmax`` the expected position under the
    softmax of all scores; ``kernel_softargmax`` the same after the score map has been multiplied by a
    Gaussian centred on its maximum (Lee et al., SFNet; the choice of the paper, Sec. 3.2). The source feature
    is read between cells first and normalised after, as in the loss, so that scores are cosine similarities.
    They are computed in float32 (float64 features: in float64) whatever the features' precision.

    Args:
        src_feat: source features ``(B, C, h, w)``, not necessarily normalised.
        trg_feat: target features ``(B, C, h', w')``; the grid may differ from the source's.
        src_ft: source keypoints ``(B, N, 2)`` in source cells, clamped to the grid. Padding may be NaN.
        method: one of `Method`.
        temperature: softmax temperature (beta in the paper's Eq. 4), for the two soft matchers.
        sigma: standard deviation of the Gaussian in target cells, for ``kernel_softargmax``; the paper's 7
            belongs to a grid of 48.

    Returns:
        ``(B, N, 2)`` positions in target cells; NaN where the source keypoint is not finite.

    Raises:
        UserError: the method is unknown, or temperature or sigma is not positive.
        ValueError: shapes do not fit together.
    """
    method = parse_method(method)
    for name, value in (("temperature", temperature), ("sigma", sigma)):
        if not value > 0:
            raise UserError(f"The matcher's {name} is {value}; give a number above 0.")
    _check_shapes(src_feat, trg_feat, src_ft)
    with torch.autocast(src_feat.device.type, enabled=False):
        src_feat, trg_feat = in_full_precision(src_feat), in_full_precision(trg_feat)
        src_ft = src_ft.to(src_feat)
        trg_unit = l2_normalise(trg_feat, dim=1)
        chunk = max(1, MAX_SCORES // max(1, trg_feat.shape[0] * trg_feat.shape[2] * trg_feat.shape[3]))
        found = [
            _match_chunk(src_feat, trg_unit, part, method, temperature, sigma)
            for part in src_ft.split(chunk if method is not Method.BILINEAR else max(1, chunk // 4), dim=1)
        ]
    trg_ft = torch.cat(found, dim=1) if found else src_ft.clone()
    return trg_ft.masked_fill(~src_ft.isfinite().all(-1, keepdim=True), float("nan"))


def parse_method(name: Method | str) -> Method:
    """Return the `Method` of that name; an unknown name is a `UserError` that lists the known ones."""
    try:
        return Method(name)
    except ValueError:
        raise UserError(f"Unknown matcher '{name}': choose one of {', '.join(Method)}.") from None


def correlation(src_feat: Tensor, trg_feat: Tensor, src_ft: Tensor) -> Tensor:
    """Cosine similarity of every source keypoint's feature with every target cell (Eq. 3 of the paper).

    Args:
        src_feat: source features ``(B, C, h, w)``.
        trg_feat: target features ``(B, C, h', w')``.
        src_ft: source keypoints ``(B, N, 2)`` in source cells.

    Returns:
        ``(B, N, h', w')``, in [-1, 1]; differentiable in both feature maps.

    Raises:
        ValueError: shapes do not fit together.
    """
    _check_shapes(src_feat, trg_feat, src_ft)
    with torch.autocast(src_feat.device.type, enabled=False):
        trg_unit = l2_normalise(in_full_precision(trg_feat), dim=1)
        return _scores(sample_features(src_feat, src_ft), trg_unit)


def sample_features(feat: Tensor, xy_ft: Tensor) -> Tensor:
    """Read a feature map between its cells (bilinear, align corners).

    Args:
        feat: ``(B, C, h, w)``.
        xy_ft: ``(B, N, 2)`` in cells; positions outside are clamped to the border.

    Returns:
        ``(B, N, C)`` in float32 (or float64), not normalised.
    """
    batch, channels, height, width = feat.shape
    feat = in_full_precision(feat)
    index, weight = surrounding_cells(xy_ft.to(feat), (height, width))
    gathered = feat.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))
    return (gathered.view(batch, channels, -1, 4) * weight[:, None]).sum(-1).transpose(1, 2)


def surrounding_cells(xy_ft: Tensor, hw_ft: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Find the four cells around each position and their bilinear weights.

    Args:
        xy_ft: ``(..., 2)`` in cells, clamped to the grid; positions that are not finite count as ``(0, 0)``.
        hw_ft: ``(h, w)`` of the grid.

    Returns:
        Flat cell indices ``y * w + x`` and weights that sum to 1, both ``(..., 4)`` in the order top left,
        top right, bottom left, bottom right.
    """
    height, width = hw_ft
    xy_ft = xy_ft.nan_to_num(0.0)
    x, y = xy_ft[..., 0].clamp(0, width - 1), xy_ft[..., 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    to_right, to_bottom = x - left, y - top
    x0, y0 = left.long(), top.long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    index = torch.stack([y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1], -1)
    rows = torch.stack([1 - to_bottom, to_bottom], -1)
    columns = torch.stack([1 - to_right, to_right], -1)
    return index, (rows[..., :, None] * columns[..., None, :]).flatten(-2)


def l2_normalise(vectors: Tensor, dim: int) -> Tensor:
    """Scale to unit length along ``dim``; a zero vector stays zero, and its gradient stays finite."""
    norm = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / torch.where(norm > 0, norm, torch.ones_like(norm))


def in_full_precision(values: Tensor) -> Tensor:
    """Return half precision (float16, bfloat16) as float32; leave float32 and float64 alone."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _match_chunk(
    src_feat: Tensor, trg_unit: Tensor, src_ft: Tensor, method: Method, temperature: float, sigma: float
) -> Tensor:
    match method:
        case Method.NN:
            return _best_cell(_scores(sample_features(src_feat, src_ft), trg_unit))
        case Method.BILINEAR:
            return _match_four_cells(src_feat, trg_unit, src_ft)
        case Method.SOFTARGMAX:
            return _expected_position(_scores(sample_features(src_feat, src_ft), trg_unit), temperature)
        case Method.KERNEL_SOFTARGMAX:
            scores = _scores(sample_features(src_feat, src_ft), trg_unit)
            return _expected_position(scores * _gaussian_at(_best_cell(scores), scores, sigma), temperature)
        case _:
            assert_never(method)


def _match_four_cells(src_feat: Tensor, trg_unit: Tensor, src_ft: Tensor) -> Tensor:
    batch, _, height, width = src_feat.shape
    index, weight = surrounding_cells(src_ft, (height, width))
    cells_ft = torch.stack([index % width, index // width], -1).to(src_ft).view(batch, -1, 2)
    best = _best_cell(_scores(sample_features(src_feat, cells_ft), trg_unit))
    return (best.view(batch, -1, 4, 2) * weight[..., None]).sum(2)


def _scores(src_vectors: Tensor, trg_unit: Tensor) -> Tensor:
    scores = l2_normalise(src_vectors, dim=2) @ trg_unit.flatten(2)
    return scores.view(*scores.shape[:2], *trg_unit.shape[2:])


def _best_cell(scores: Tensor) -> Tensor:
    """Argmax of ``(B, N, h, w)`` as ``(B, N, 2)`` cells."""
    width = scores.shape[3]
    best = scores.flatten(2).argmax(2)
    return torch.stack([best % width, best // width], -1).to(scores)


def _expected_position(scores: Tensor, temperature: float) -> Tensor:
    """Mean position under the softmax of ``(B, N, h, w)``, as ``(B, N, 2)`` cells."""
    probability = (scores.flatten(2) / temperature).softmax(2).view_as(scores)
    columns, rows = _cell_axes(scores)
    return torch.stack([(probability.sum(2) * columns).sum(-1), (probability.sum(3) * rows).sum(-1)], -1)


def _gaussian_at(centre_ft: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """``exp(-d^2 / (2 sigma^2))`` around one cell per map, ``(B, N, h, w)``."""
    columns, rows = _cell_axes(scores)
    along_x = torch.exp(-((columns - centre_ft[..., :1]) ** 2) / (2 * sigma**2))
    along_y = torch.exp(-((rows - centre_ft[..., 1:]) ** 2) / (2 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :]


def _cell_axes(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row numbers of a map's cells, in the map's type and on its device."""
    height, width = scores.shape[2:]
    return torch.arange(width).to(scores), torch.arange(height).to(scores)


def _check_shapes(src_feat: Tensor, trg_feat: Tensor, src_ft: Tensor) -> None:
    if src_feat.ndim != 4 or trg_feat.ndim != 4 or src_feat.shape[:2] != trg_feat.shape[:2]:
        raise ValueError(
            f"Features must be (B, C, h, w) with the same B and C, not {tuple(src_feat.shape)} and "
            f"{tuple(trg_feat.shape)}."
        )
    if src_ft.ndim != 3 or src_ft.shape[0] != src_feat.shape[0] or src_ft.shape[2] != 2:
        raise ValueError(
            f"Keypoints must be (B, N, 2) with the features' B = {src_feat.shape[0]}, "
            f"not {tuple(src_ft.shape)}."
        )
