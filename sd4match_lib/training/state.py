"""Everything that a training needs to go on where it was killed, in one file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sd4match_lib.errors import UserError
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.utils.files import atomic_write_bytes

# Adam's own count of steps is not the loop's: the gradient scaler skips steps that overflow.
_ADAM = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        step: steps taken.
        elapsed_s: time spent, in all attempts.
        best_pck: best validation PCK@0.1 so far; below 0 before the first.
        best_step: after how many steps that was.
    """

    step: int = 0
    elapsed_s: float = 0.0
    best_pck: float = -1.0
    best_step: int = 0


def save_state(
    path: Path,
    prompt: LearnedPrompt,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
) -> None:
    """Write weights, Adam's state, the loss scale and the progress in one atomic step.

    Raises:
        UserError: the disk is full or cannot be written; the last good file stays.
    """
    tensors = {f"weight.{i}": p.detach() for i, p in enumerate(_parameters(optimizer))}
    for i, parameter in enumerate(_parameters(optimizer)):
        state = optimizer.state[parameter]
        tensors |= {f"{key}.{i}": state[key] for key in _ADAM if key in state}
    header = {"progress": json.dumps(asdict(progress)), "scaler": json.dumps(scaler.state_dict())}
    data = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata=header)
    try:
        atomic_write_bytes(path, data)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error}); make room and start again: training goes on from the last "
            "state that was kept."
        ) from error


def load_state(path: Path, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Progress:
    """Put weights, Adam's state and loss scale back; return the progress, a fresh one where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return Progress()
    try:
        with safe_open(path, framework="pt") as file:
            header, keys = file.metadata(), set(file.keys())
            progress = Progress(**json.loads(header["progress"]))
            for i, parameter in enumerate(_parameters(optimizer)):
                parameter.data.copy_(file.get_tensor(f"weight.{i}"))
                if f"{_ADAM[0]}.{i}" in keys:
                    step, *moments = (file.get_tensor(f"{key}.{i}") for key in _ADAM)
                    average, square = (moment.to(parameter) for moment in moments)
                    optimizer.state[parameter] = {"step": step, "exp_avg": average, "exp_avg_sq": square}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to train from the beginning.") from error
    state = json.loads(header["scaler"])
    if state:
        scaler.load_state_dict(state)
    return progress


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
