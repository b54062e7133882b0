"""Cosine similarities between points of one feature map and every cell of another (Eq. 3 of the paper).

Coordinates are ``(x, y)`` in feature cells (``_ft``): cell centres are whole numbers, ``(0, 0)`` is the
centre of the first cell and ``(w - 1, h - 1)`` that of the last. Shape symbols: ``B`` batch, ``N`` keypoints,
``C`` channels, ``h w`` feature grid.
"""

import torch
from torch import Tensor


class Correlation:
    """Two feature maps, asked for the correlation maps of source positions; the target is normalised once.

    Scores are computed in float32 (float64 features: in float64) whatever the features' precision.
    """

    def __init__(self, src_feat: Tensor, trg_feat: Tensor) -> None:
        """Prepare two feature maps.

        Args:
            src_feat: source features ``(B, C, h, w)``, not necessarily normalised.
            trg_feat: target features ``(B, C, h', w')``; the grid may differ from the source's.

        Raises:
            ValueError: shapes do not fit together.
        """
        if src_feat.ndim != 4 or trg_feat.ndim != 4 or src_feat.shape[:2] != trg_feat.shape[:2]:
            raise ValueError(
                f"Features must be (B, C, h, w) with the same B and C, not {tuple(src_feat.shape)} and "
                f"{tuple(trg_feat.shape)}."
            )
        with torch.autocast(src_feat.device.type, enabled=False):
            self.src_feat = in_full_precision(src_feat)
            self._trg_unit = l2_normalise(in_full_precision(trg_feat), dim=1)

    @property
    def src_hw(self) -> tuple[int, int]:
        """The source's grid ``(h, w)``."""
        return self.src_feat.shape[2], self.src_feat.shape[3]

    @property
    def trg_hw(self) -> tuple[int, int]:
        """The target's grid ``(h', w')``."""
        return self._trg_unit.shape[2], self._trg_unit.shape[3]

    def __call__(self, src_ft: Tensor) -> Tensor:
        """Return the cosine similarity of every source position's feature with every target cell.

        The source feature is read between cells first and normalised after, as in the loss.

        Args:
            src_ft: source positions ``(B, N, 2)`` in source cells.

        Returns:
            ``(B, N, h', w')``, in [-1, 1]; differentiable in both feature maps.

        Raises:
            ValueError: shapes do not fit together.
        """
        if src_ft.ndim != 3 or src_ft.shape[0] != self.src_feat.shape[0] or src_ft.shape[2] != 2:
            raise ValueError(
                f"Keypoints must be (B, N, 2) with the features' B = {self.src_feat.shape[0]}, "
                f"not {tuple(src_ft.shape)}."
            )
        with torch.autocast(self.src_feat.device.type, enabled=False):
            vectors = l2_normalise(sample_features(self.src_feat, src_ft), dim=2)
            scores = vectors @ self._trg_unit.flatten(2)
            return scores.view(*scores.shape[:2], *self.trg_hw)


def best_cells(scores: Tensor) -> Tensor:
    """Return the cells of the maxima of maps ``(..., h, w)`` as ``(..., 2)``, x and y, in the maps' type."""
    width = scores.shape[-1]
    best = scores.flatten(-2).argmax(-1)
    return torch.stack([best % width, best // width], -1).to(scores)


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
