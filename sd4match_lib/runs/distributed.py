"""Several processes on one job, as `accelerate launch` starts them; else a group of this one alone.

    accelerate launch --num_processes 4 -m sd4match_lib evaluate --dataset spair

Every process runs the same program; the group says which share of the work is whose.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.errors import UserError, reason

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long processes wait for each other; the libraries' half an hour is less than a share of a big job."""


class ProcessGroup:
    """The processes of one job, `size` of them, seen from the one of the number `rank`, from 0."""

    def __init__(self, state: PartialState | None = None) -> None:
        """Make a group of accelerate's processes, or of this one alone."""
        self._state = state
        self.rank = state.process_index if state else 0
        self.size = state.num_processes if state else 1

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes records and prints."""
        return self.rank == 0

    def device(self, wanted: torch.device | str | None) -> torch.device:
        """Return this process's device: what is wanted, and of several GPUs its own.

        Raises:
            UserError: the device does not exist here.
        """
        found = resolve_device(wanted)
        shared = self._state is not None and found.type == "cuda" and found.index is None
        return self._state.device if self._state and shared else found

    def share_of(self, count: int) -> range:
        """Return this process's part of `count` things: a stretch of neighbours."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self._state:
            self._state.wait_for_everyone()

    def broadcast(self, value: T) -> T:
        """Return the main process's value in every process."""
        if not self._state:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, to each of them."""
        if not self._state:
            return tensor
        from accelerate.utils import reduce

        return reduce(tensor, reduction="sum")

    def gather_sum(self, number: int) -> int:
        """Return the sum of a number over all processes, to each of them."""
        if not self._state:
            return number
        from accelerate.utils import gather_object

        return sum(gather_object([number]))


def current_group(device: torch.device | str | None = None) -> ProcessGroup:
    """Return the group that this process was launched in, joining it at the first call (the CPU by gloo)."""
    said = os.environ.get("WORLD_SIZE") or "1"
    if not said.isascii() or not said.isdecimal() or not 1 <= int(said[:9]) <= 10**6:
        raise UserError(
            f"WORLD_SIZE is {said!r}, not a number of processes; unset it, or use accelerate launch."
        )
    if int(said) == 1:
        return ProcessGroup()
    rank = os.environ.get("RANK", "0")
    if rank not in map(str, range(int(said))):
        raise UserError(f"RANK is {rank!r}, not one of 0 to {int(said) - 1}; use accelerate launch.")
    from accelerate import PartialState

    cpu = resolve_device(device).type == "cpu"
    try:
        return ProcessGroup(PartialState(cpu=cpu, timeout=PATIENCE))
    except (ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"the {said} processes that WORLD_SIZE says do not find each other ({reason(error)}); start them "
            "with accelerate launch, or unset it."
        ) from error
