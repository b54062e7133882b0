"""Reading inner blocks of a stock UNet without computing what lies behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class _Stop(Exception):
    """Ends a UNet pass once the last wanted block has answered."""


@contextmanager
def capture_up_blocks(unet: Any, blocks: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Record the outputs of some up blocks during one UNet pass and end the pass after the last of them.

    The call to the UNet inside the `with` block never returns: the pass ends by an exception that is caught
    here.

    Args:
        unet: a stock `UNet2DConditionModel`.
        blocks: indices into `unet.up_blocks`.

    Yields:
        A dict, filled on leaving the `with` block: up block index -> (B, C, h, w).
    """
    outputs: dict[int, Tensor] = {}
    last = max(blocks)

    def record(index: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs[index] = output
            if index == last:
                raise _Stop

        return hook

    handles = [unet.up_blocks[index].register_forward_hook(record(index)) for index in blocks]
    try:
        yield outputs
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
