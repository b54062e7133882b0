"""The size of a model's feature grid, from its configuration files alone."""

from __future__ import annotations

from pathlib import Path

from sd4match_lib.errors import UserError
from sd4match_lib.geometry import HW
from sd4match_lib.utils.reading import read_json


def feature_grid(folder: Path, *, image_hw: HW, up_block: int) -> HW:
    """Return the (h, w) of what an up block puts out, without loading the model.

    Args:
        folder: a model in diffusers layout.
        image_hw: the network input's size.
        up_block: index of the up block; every one but the last doubles the grid.

    Raises:
        UserError: the UNet has no such block.
    """
    vae_levels = len(read_json(folder / "vae/config.json")["block_out_channels"])
    levels = len(read_json(folder / "unet/config.json")["block_out_channels"])
    if not 0 <= up_block < levels:
        raise UserError(f"features.up_block is {up_block}, but this UNet has up blocks 0 to {levels - 1}.")
    latent = [side // 2 ** (vae_levels - 1) for side in image_hw]
    halvings = levels - 1 - min(up_block + 1, levels - 1)
    height, width = (-(-side // 2**halvings) for side in latent)
    return height, width
