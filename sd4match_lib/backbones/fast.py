"""The fast path of a cut UNet: its pass compiled as one graph, on a GPU replayed as a CUDA graph.

Fixed shapes are the price: each number of rows is compiled for itself, minutes each at the paper's size.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

GRADIENT_TOLERANCE = 0.05
"""How far a compiled gradient may be from the plain one, as a share of its norm: more than rounding to 16 bit
makes of it, and less than a mistake of the compiler's."""

MOST_ROWS = 64
"""Rows of one pass without gradients: eight pictures under eight noises fill a data-centre GPU at 768."""


class ReadPass(nn.Module):
    """A cut UNet's pass as a function of tensors alone: from latents, step and conditions to some layers."""

    def __init__(self, unet: Any, layers: Sequence[str]) -> None:
        """Read `layers` of `unet`, the last of which ends its pass."""
        super().__init__()
        self.unet = unet
        self._layers = tuple(layers)
        self._outputs: dict[str, Tensor] = {}
        # Once, and not around each pass: what is compiled knows the hooks that were there then.
        for layer in self._layers:
            unet.get_submodule(layer).register_forward_hook(partial(self._keep, layer))

    def forward(self, noisy: Tensor, step: Tensor, conditions: dict[str, Any]) -> list[Tensor]:
        """Return one (B, C_k, h_k, w_k) for each layer."""
        self.unet(noisy, step, **conditions)
        return [self._outputs.pop(layer) for layer in self._layers]

    def _keep(self, layer: str, _module: nn.Module, _given: Any, output: Tensor) -> None:
        self._outputs[layer] = output


class FastPass:
    """A cut UNet, compiled.

    Attributes:
        layers: what it returns, in this order.
        warm_up_s: seconds spent in passes of a shape that was new: most of it is the compiling.
    """

    def __init__(self, unet: Any, layers: Sequence[str]) -> None:
        """Compile the pass when it is first used, once for each shape."""
        self.layers = tuple(layers)
        self.warm_up_s = 0.0
        self._graphs = unet.device.type == "cuda"
        # The layout that convolutions on tensor cores want.
        unet.to(memory_format=torch.channels_last)
        self._plain = ReadPass(unet, layers)
        self._compiled = torch.compile(
            self._plain, dynamic=False, mode="reduce-overhead" if self._graphs else "default"
        )
        self._known: dict[tuple[torch.Size, bool], Callable[..., list[Tensor]]] = {}
        self._images: dict[tuple[int, int], int] = {}

    def __call__(self, noisy: Tensor, step: Tensor, conditions: dict[str, Any]) -> list[Tensor]:
        """Run a pass; see `ReadPass.forward`.

        On a GPU the answers lie where the next pass puts its own: read them before that.
        """
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        form = noisy.shape, torch.is_grad_enabled()
        if form not in self._known:
            begun = time.monotonic()
            right = not form[1] or self._gradient_holds(noisy, step, conditions)
            self._known[form] = self._compiled if right else self._plain
            outputs = self._known[form](noisy, step, conditions)
            took = time.monotonic() - begun
            self.warm_up_s += took
            _log.info("The UNet was compiled for %d rows in %.0f s.", len(noisy), took)
            return outputs
        return self._known[form](noisy, step, conditions)

    def _gradient_holds(self, noisy: Tensor, step: Tensor, conditions: dict[str, Any]) -> bool:
        """Whether the compiled pass leads back to the context as the plain one does.

        Seen on a CPU with PyTorch 2.13: the same features, and a gradient that is a quarter off.
        """
        plain, compiled = (
            self._gradient(run, noisy, step, conditions) for run in (self._plain, self._compiled)
        )
        off = float((compiled - plain).norm() / plain.norm().clamp(min=torch.finfo(torch.float32).tiny))
        if off <= GRADIENT_TOLERANCE:
            return True
        _log.warning(
            "The compiled UNet's gradient is off by %.0f %%; prompts are learned through the plain one.",
            100 * off,
        )
        return False

    def _gradient(
        self, run: Callable[..., list[Tensor]], noisy: Tensor, step: Tensor, conditions: dict[str, Any]
    ) -> Tensor:
        context = conditions["encoder_hidden_states"].detach().requires_grad_()
        outputs = run(noisy, step, {**conditions, "encoder_hidden_states": context})
        # Sums, as means would vanish in 16 bit.
        total = torch.stack([output.float().square().sum() / output.numel() ** 0.5 for output in outputs])
        (gradient,) = torch.autograd.grad(total.sum(), context)
        return gradient.float()

    def portion(self, images: int, ensemble: int, most: int) -> tuple[int, int]:
        """How many images, under how many noises each, go through one pass of at most `most` rows.

        The first call decides for all later ones of its ensemble: shorter ones are filled up to its size.
        """
        members = min(ensemble, most)
        known = self._images.setdefault((ensemble, most), max(1, min(images, most // members)))
        return known, members
