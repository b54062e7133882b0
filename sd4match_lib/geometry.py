"""Frames of coordinates and the way between them.

Points are ``(..., 2)`` arrays of ``(x, y)``, numpy or torch, and come back as the same kind and dtype. Sizes
are ``hw = (height, width)``. The frame is the suffix of every name:

- ``_px``: pixels of the original picture, upright, as the data set annotates it;
- ``_in``: pixels of the network's input, to which the picture is stretched (no padding, no crop);
- ``_ft``: cells of a feature grid, "align corners": the centres of the first and of the last cell lie on the
  first and the last input pixel.

>>> import numpy as np
>>> xy_in = stretch_points(np.array([[50.0, 20.0]]), hw_px=(100, 200), hw_in=(768, 768))
>>> xy_in.tolist()
[[192.0, 153.6]]
>>> to_grid(np.array([[767.0, 0.0]]), hw_in=(768, 768), hw_ft=(48, 48)).tolist()
[[47.0, 0.0]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

FloatArray: TypeAlias = npt.NDArray[np.floating]
HW: TypeAlias = tuple[int, int]
"""Height and width, in that order."""

Points = TypeVar("Points", FloatArray, "torch.Tensor")


def stretch_points(xy_px: Points, hw_px: HW, hw_in: HW) -> Points:
    """Move points along with their picture when it is stretched, per axis by new side / old side.

    Args:
        xy_px: points ``(..., 2)`` in the original picture.
        hw_px: the original picture's size.
        hw_in: the network input's size.

    Returns:
        The points ``(..., 2)`` in the network input.
    """
    return _scale(xy_px, hw_in[1] / hw_px[1], hw_in[0] / hw_px[0])


def unstretch_points(xy_in: Points, hw_px: HW, hw_in: HW) -> Points:
    """Undo `stretch_points`: from the network input, of size ``hw_in``, back to the original picture."""
    return _scale(xy_in, hw_px[1] / hw_in[1], hw_px[0] / hw_in[0])


def to_grid(xy_in: Points, *, hw_in: HW, hw_ft: HW) -> Points:
    """Pixels of the network input to cells of the feature grid: ``x_ft = x_in / (W - 1) * (w - 1)``.

    Args:
        xy_in: points ``(..., 2)`` in the network input.
        hw_in: the network input's size; both sides at least 2.
        hw_ft: the feature grid's size.

    Returns:
        The points ``(..., 2)`` in feature cells; fractions are places between the centres of two cells.
    """
    return _scale(xy_in, (hw_ft[1] - 1) / (hw_in[1] - 1), (hw_ft[0] - 1) / (hw_in[0] - 1))


def from_grid(xy_ft: Points, *, hw_in: HW, hw_ft: HW) -> Points:
    """Undo `to_grid`: cells of the feature grid (both sides at least 2) to pixels of the network input."""
    return _scale(xy_ft, (hw_in[1] - 1) / (hw_ft[1] - 1), (hw_in[0] - 1) / (hw_ft[0] - 1))


def clamp_points(xy: Points, hw: HW) -> Points:
    """Pull points into ``[0, W - 1] x [0, H - 1]``, in whichever frame ``hw`` is the size of."""
    if isinstance(xy, np.ndarray):
        return np.clip(xy, 0, np.array([hw[1] - 1, hw[0] - 1], dtype=xy.dtype))
    limit = xy.new_tensor([hw[1] - 1, hw[0] - 1])
    return xy.clamp(min=0).minimum(limit)


def points_to_grid(xy_px: Points, *, hw_px: HW, hw_in: HW, hw_ft: HW) -> Points:
    """Move points of an original picture to its feature grid: stretch, clamp to the input, `to_grid`.

    Args:
        xy_px: points ``(..., 2)`` in the original picture.
        hw_px: the original picture's size.
        hw_in: the network input's size.
        hw_ft: the feature grid's size.
    """
    xy_in = clamp_points(stretch_points(xy_px, hw_px, hw_in), hw_in)
    return to_grid(xy_in, hw_in=hw_in, hw_ft=hw_ft)


def map_extent(*, hw_px: HW, hw_in: HW, hw_ft: HW) -> tuple[float, float, float, float]:
    """Return where a feature map's outer edges (left, right, top, bottom) lie in pixels of its picture.

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


def flip_points(xy_px: Points, hw_px: HW) -> Points:
    """Move points along with their picture when it is mirrored left to right: ``x -> W - 1 - x``."""
    mirrored = _scale(xy_px, -1.0, 1.0)
    mirrored[..., 0] += hw_px[1] - 1
    return mirrored


def _scale(xy: Points, x_factor: float, y_factor: float) -> Points:
    """Points ``(..., 2)`` with each axis multiplied by its own factor, in the points' own dtype."""
    if isinstance(xy, np.ndarray):
        return xy * np.array([x_factor, y_factor], dtype=xy.dtype)
    return xy * xy.new_tensor([x_factor, y_factor])
