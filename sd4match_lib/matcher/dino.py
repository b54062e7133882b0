"""SD + DINOv2 under a learned prompt: DINOv2's features beside the diffusion model's, both of unit length.

Zhang et al., "A Tale of Two Features", NeurIPS 2023 (SD+DINO), fuse DINOv2 with three scales of an unprompted
Stable Diffusion; here its partner is the one feature map that the prompt was learned for.
"""

from torch import Tensor

from sd4match_lib.features.fusion import join_halves


def with_dino(maps: Tensor, dino: Tensor, weight: float) -> Tensor:
    """Join two feature maps of one picture.

    Args:
        maps: the diffusion model's, (1, C, h, w).
        dino: DINOv2's, (Dv, h', w'), resized to (h, w).
        weight: share of DINOv2 in the cosine of two joined places, above 0 and below 1.

    Returns:
        (1, C + Dv, h, w).
    """
    return join_halves(maps[0], dino.to(maps), sd_weight=1 - weight)[None]
