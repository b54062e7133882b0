"""Reading inner modules of a stock model without computing what lies behind them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class _Stop(Exception):
    """Ends a pass once every wanted module has answered."""


@contextmanager
def capture(
    model: nn.Module, names: Sequence[str], *, inputs: Sequence[str] = ()
) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of some submodules during one pass and end the pass after the last of them.

    The call to the model inside the `with` block never returns: the pass ends by an exception that is caught
    here.

    Args:
        model: a stock model whose submodules run once a pass.
        names: dotted names of submodules that put out one tensor, such as "up_blocks.1".
        inputs: those of `names` whose first input is wanted in place of the output; they need not run.

    Yields:
        A dict, filled on leaving the `with` block: name -> output, or input.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def keep(value: Tensor) -> None:
            outputs[name] = value
            if len(outputs) == len(set(names)):
                raise _Stop

        if name in inputs:
            return model.get_submodule(name).register_forward_pre_hook(lambda _module, given: keep(given[0]))
        return model.get_submodule(name).register_forward_hook(lambda _module, _given, output: keep(output))

    handles = [record(name) for name in dict.fromkeys(names)]
    try:
        yield outputs
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
