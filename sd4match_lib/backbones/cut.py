"""Cutting a stock UNet so that its own forward pass ends behind the last block that is read.

Nothing has to be raised out of the pass to end it, so it can be compiled as a whole.
"""

from typing import Any

from torch import Tensor, nn


class _Behind(nn.Module):
    """Stands in the place of a block behind the last one, and hands on what that put out."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        # The UNet takes as many of the encoder's outputs off its stack as a block has of these.
        self.resnets = (None,) * len(block.resnets)

    def forward(self, hidden_states: Tensor, **_unused: Any) -> Tensor:
        """`(B, C, h, w)` as it came."""
        return hidden_states


def cut_unet(unet: Any, last: int) -> None:
    """Make a `UNet2DConditionModel` end with its up block `last`, whose output its pass then returns.

    What lies behind is let go of. The number of blocks stays: the UNet asks which of them is the last where
    sizes do not halve evenly.
    """
    for index in range(last + 1, len(unet.up_blocks)):
        unet.up_blocks[index] = _Behind(unet.up_blocks[index])
    unet.conv_norm_out = None
    unet.conv_out = nn.Identity()


def is_cut(block: nn.Module) -> bool:
    """Whether an up block was cut off."""
    return isinstance(block, _Behind)
