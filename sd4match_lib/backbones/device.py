"""Where and in what precision models compute, and how tensors get there."""

import torch
from torch import Tensor

from sd4match_lib.errors import UserError


def resolve_device(device: torch.device | str | None) -> torch.device:
    """Return the device asked for, or, for None, the first GPU where there is one and the CPU elsewhere.

    Raises:
        UserError: the device does not exist here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"device {device!r} is not known; use 'cpu' or 'cuda'.") from error
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"device {str(device)!r} is not one that results are made on; use 'cpu' or 'cuda'.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {str(device)!r} is not there: PyTorch sees {torch.cuda.device_count()} GPUs."
        )
    return found


def resolve_dtype(name: str) -> torch.dtype:
    """Return the torch type that a profile's "float32", "bfloat16" or "float16" means."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for it to arrive.

    A copy from ordinary memory would stop the program until everything that the GPU was asked before is done.
    """
    if device.type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
