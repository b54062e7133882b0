"""The mixture of layers that a prompt may be learned with: a few weights, and one map out of several.

Not in the paper. Hyperfeatures (Luo et al., NeurIPS 2023) learn such weights over blocks and steps, with
bottleneck layers besides; here the weights stand alone, over the blocks of one step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sd4match_lib.errors import UserError
from sd4match_lib.matching.correlation import l2_normalise

_START = 3.0
"""The first layer's logit before training; the others' are 0. Of three layers it has nine tenths of the
weight, and the others enough for a gradient."""


class LayerMixture(nn.Module):
    """Softmax weights of several layers; cosines of mixed maps are the weighted means of the layers' own.

    Attributes:
        layers: names of the diffusion model's layers; the first gives the grid, and most of the start.
        logits: (K,), what is learned.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        """Start near the first layer.

        Raises:
            UserError: there are not at least two different layers.
        """
        super().__init__()
        self.layers = tuple(layers)
        named = not isinstance(layers, str) and all(isinstance(layer, str) for layer in layers)
        if not named or len(self.layers) < 2 or len(set(self.layers)) < len(self.layers):
            raise UserError(f"a mixture is of two or more different layers, not of {list(self.layers)}.")
        self.logits = nn.Parameter(torch.zeros(len(self.layers)))
        self.logits.data[0] = _START

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Bring every layer's map to the first one's grid and to unit length, and put them side by side.

        Args:
            maps: one (B, C_k, h_k, w_k) a layer.

        Returns:
            (B, sum of C_k, h_1, w_1), each place of unit length.
        """
        # Roots, so that a product of two maps has the weights themselves; by the logarithm, whose way back
        # is finite where a weight vanishes.
        roots = (self.logits.log_softmax(0) / 2).exp()
        grid = maps[0].shape[2:]
        parts = [
            l2_normalise(
                one if one.shape[2:] == grid else interpolate(one, size=grid, mode="bilinear"), dim=1
            )
            for one in maps
        ]
        return torch.cat([part * root for part, root in zip(parts, roots, strict=True)], dim=1)
