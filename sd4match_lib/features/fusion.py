"""SD+DINO and SD+DINO*: three scales of the diffusion decoder, fused with each other and with DINOv2.

Method, section 7 (A Tale of Two Features, Zhang et al. 2023): the scales of a pair are reduced together by
PCA, brought to one grid and concatenated; the DINOv2 half is put beside them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sd4match_lib.geometry import HW
from sd4match_lib.matching.correlation import l2_normalise


def pair_pca(src: Tensor, trg: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Project two feature maps on the leading principal components of both together.

    The components are the eigenvectors of the exact covariance, not of a random sketch of it, so the same
    pair always gives the same result. Their signs are arbitrary but the same for both maps, and cosines do
    not see them.

    Args:
        src: (C, h, w).
        trg: (C, h, w).
        dim: how many components to keep; at most `C`.

    Returns:
        Both maps centred and projected, (min(dim, C), h, w) float32.
    """
    height, width = src.shape[1:]
    samples = torch.cat([src.flatten(1), trg.flatten(1)], dim=1).double()
    samples = samples - samples.mean(dim=1, keepdim=True)
    _, vectors = torch.linalg.eigh(samples @ samples.T)  # ascending eigenvalues
    basis = vectors[:, -min(dim, len(vectors)) :].flip(1)
    projected = (basis.T @ samples).float().unflatten(1, (2, height, width))
    return projected[:, 0], projected[:, 1]


def fuse_scales(
    src_scales: Sequence[Tensor], trg_scales: Sequence[Tensor], *, pca_dim: int, grid_hw: HW
) -> tuple[Tensor, Tensor]:
    """Fuse the decoder's scales of one pair (SD+DINO*).

    Args:
        src_scales: s5, s4, s3 of the source, coarse to fine, (C_k, h_k, w_k) each.
        trg_scales: the same of the target.
        pca_dim: what each scale is reduced to.
        grid_hw: the common grid (h, w).

    Returns:
        For source and target (3 * pca_dim, h, w), each place of unit length.
    """
    reduced = [pair_pca(src, trg, pca_dim) for src, trg in zip(src_scales, trg_scales, strict=True)]
    scales = [torch.stack(pair) for pair in reduced]
    scales[0] = resize(scales[0], (scales[1].shape[2], scales[1].shape[3]))
    fused = l2_normalise(torch.cat([resize(scale, grid_hw) for scale in scales], dim=1), dim=1)
    return fused[0], fused[1]


def join_halves(sd: Tensor, dino: Tensor, *, sd_weight: float) -> Tensor:
    """Put the Stable Diffusion half and the DINOv2 half side by side (SD+DINO).

    Each half is brought to unit length and scaled by the square root of its weight, so that the cosine of two
    places of joined maps is the weighted mean of the two halves' cosines.

    Args:
        sd: (C, h, w).
        dino: (Dv, h', w'), resized to (h, w).
        sd_weight: weight of the first half, 0 to 1; the other half has the rest.

    Returns:
        (C + Dv, h, w), each place of unit length.
    """
    dino = resize(dino[None], (sd.shape[1], sd.shape[2]))[0]
    halves = (l2_normalise(sd, dim=0) * sd_weight**0.5, l2_normalise(dino, dim=0) * (1 - sd_weight) ** 0.5)
    return torch.cat(halves, dim=0)


def resize(maps: Tensor, grid_hw: HW) -> Tensor:
    """Resize (B, C, h, w) to another grid (bilinear between cell areas)."""
    if tuple(maps.shape[2:]) == tuple(grid_hw):
        return maps
    return interpolate(maps, size=tuple(grid_hw), mode="bilinear", align_corners=False)
