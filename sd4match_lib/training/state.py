"""Everything that a training needs to go on where it was killed, in one file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from sd4match_lib.config.parse import parse_dataclass
from sd4match_lib.errors import UserError, WriteError, reason
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.reading import parse_json, read_tensor_header

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

    step: int = field(default=0, metadata={"min": 0, "max": 10**9})
    elapsed_s: float = 0.0
    best_pck: float = -1.0
    best_step: int = field(default=0, metadata={"min": 0, "max": 10**9})


def save_state(
    path: Path,
    prompt: LearnedPrompt,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
) -> None:
    """Write weights, Adam's state, the loss scale and the progress in one atomic step.

    Raises:
        WriteError: the disk is full or cannot be written; the last good file stays.
    """
    tensors = {f"weight.{i}": p.detach() for i, p in enumerate(_parameters(optimizer))}
    for i, parameter in enumerate(_parameters(optimizer)):
        state = optimizer.state[parameter]
        tensors |= {f"{key}.{i}": state[key] for key in _ADAM if key in state}
    header = {"progress": json.dumps(asdict(progress)), "scaler": json.dumps(scaler.state_dict())}
    data = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata=header)
    try:
        atomic_write_bytes(path, data)
    except WriteError as error:
        raise WriteError(f"{error} Training goes on from the last state that was kept.") from error


def load_state(path: Path, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Progress:
    """Put weights, Adam's state and loss scale back; return the progress, a fresh one where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return Progress()
    again = "delete it to train from the beginning"
    known, header = read_tensor_header(path, fix=again)
    try:
        progress = parse_dataclass(Progress, parse_json(path, header["progress"], fix=again), where=str(path))
        scale = parse_json(path, header["scaler"], fix=again)
        with safe_open(path, framework="pt") as file:
            for i, parameter in enumerate(_parameters(optimizer)):
                for name in (f"weight.{i}", *(f"{key}.{i}" for key in _ADAM[1:])):
                    if name in known and known[name].shape != tuple(parameter.shape):
                        raise ValueError(f"the shape of {name} is {known[name].shape}")
                weight = file.get_tensor(f"weight.{i}")
                if not weight.isfinite().all():
                    raise ValueError(f"weight.{i} holds numbers that are not finite")
                parameter.data.copy_(weight)
                if f"{_ADAM[0]}.{i}" in known:
                    step, *moments = (file.get_tensor(f"{key}.{i}") for key in _ADAM)
                    average, square = (moment.to(parameter) for moment in moments)
                    fused = optimizer.defaults["fused"]  # counts where the weights lie
                    step = step.to(parameter.device) if fused else step
                    optimizer.state[parameter] = {"step": step, "exp_avg": average, "exp_avg_sq": square}
        if scale:
            scaler.load_state_dict(scale)
    except Exception as error:  # the libraries raise anything from SafetensorError to AttributeError
        raise UserError(f"{path} is damaged ({reason(error)}); {again}.") from error
    return progress


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
