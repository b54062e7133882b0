"""From two feature maps and points to places, confidences and correlation maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sd4match_lib.geometry import HW
from sd4match_lib.matching.match import MAX_SCORES, Method, correlation, match_points
from sd4match_lib.matching.windowed import windowed_softargmax

CONFIDENCE_REACH = 0.1
"""Of the target grid's longer side: the circle whose share of the distribution is the confidence."""


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of N points, on the CPU.

    Attributes:
        trg_ft: (N, 2), in target cells.
        confidence: (N,); see `Match`.
        similarity: (N,), the best cell's cosine.
        maps: (N, h, w) cosines, or None.
    """

    trg_ft: Tensor
    confidence: Tensor
    similarity: Tensor
    maps: Tensor | None


def locate(
    src_map: Tensor,
    trg_map: Tensor,
    src_ft: Tensor,
    *,
    method: Method,
    temperature: float,
    sigma: float,
    window: int | None = None,
    keep_maps: bool = False,
) -> Found:
    """Find points, as `matching.match_points` does it unless a window is given.

    Args:
        src_map: source features (1, C, h, w).
        trg_map: target features (1, C, h', w').
        src_ft: points (1, N, 2) in source cells.
        method: the matcher.
        temperature: of the soft matchers, and of the confidence.
        sigma: of the kernel soft-argmax, in target cells.
        window: side of `options.windowed` in target cells, instead of the matcher.
        keep_maps: whether the correlation maps are returned.
    """
    chunk = max(1, MAX_SCORES // (trg_map.shape[2] * trg_map.shape[3]))
    parts = []
    for part in src_ft.split(chunk, dim=1):
        scores = correlation(src_map, trg_map, part)[0]
        if window is not None:
            trg_ft = windowed_softargmax(scores, window, temperature)
        else:
            options = {"temperature": temperature, "sigma": sigma}
            trg_ft = match_points(src_map, trg_map, part, method=method, **options)[0]
        best = scores.flatten(1).amax(1) if scores.numel() else scores.new_zeros(0)
        kept = scores if keep_maps else scores[:, :0, :0]
        parts.append((trg_ft, _share_around(trg_ft, scores, temperature), best, kept))
    trg_ft, confidence, similarity, maps = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return Found(trg_ft, confidence, similarity, maps if keep_maps else None)


def map_extent(hw_px: HW, hw_in: HW, hw_ft: HW) -> tuple[float, float, float, float]:
    """Return where a map's outer edges (left, right, top, bottom) lie in pixels of its picture.

    The centres of the first and the last cell lie on the first and the last pixel of the network's input, so
    the edges lie half a cell outside the picture.

    Args:
        hw_px: the picture's size.
        hw_in: the network input's size.
        hw_ft: the map's size; both sides at least 2.
    """
    edges = []
    for side_px, side_in, side_ft in ((hw_px[1], hw_in[1], hw_ft[1]), (hw_px[0], hw_in[0], hw_ft[0])):
        cell_px = (side_in - 1) / (side_ft - 1) * side_px / side_in
        edges += [-0.5 * cell_px, (side_ft - 0.5) * cell_px]
    return edges[0], edges[1], edges[2], edges[3]


def _share_around(trg_ft: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """The share of softmax(scores / temperature) (N, h, w) within a circle around each place (N, 2)."""
    height, width = scores.shape[1:]
    columns = torch.arange(width).to(scores)
    rows = torch.arange(height).to(scores)
    square = (columns - trg_ft[:, :1])[:, None, :] ** 2 + (rows - trg_ft[:, 1:])[:, :, None] ** 2
    probability = (scores.flatten(1) / temperature).softmax(1).view_as(scores)
    inside = square <= (CONFIDENCE_REACH * max(height, width)) ** 2
    return (probability * inside).sum((1, 2))
