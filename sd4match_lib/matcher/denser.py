"""A denser target grid: the target's features interpolated between cells before they are compared.

Tang et al., "Emergent Correspondence from Image Diffusion" (DIFT), NeurIPS 2023, upsample their feature map
to the picture's size before the nearest neighbour. Here by a whole factor; the first and the last cell stay
where they are (align corners), so every old cell is a new one too.
"""

from torch import Tensor
from torch.nn.functional import interpolate


def make_denser(maps: Tensor, factor: int) -> Tensor:
    """Interpolate features bilinearly.

    Args:
        maps: (B, C, h, w).
        factor: new cells per old one; 1 returns the maps as they are.

    Returns:
        (B, C, factor * (h - 1) + 1, factor * (w - 1) + 1).
    """
    if factor == 1:
        return maps
    height, width = (factor * (side - 1) + 1 for side in maps.shape[2:])
    return interpolate(maps, size=(height, width), mode="bilinear", align_corners=True)
