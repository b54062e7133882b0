"""The pretraining loop: step- or time-boxed, resumable after `kill -9`, the same on CPU and GPU."""

import csv
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sd4match_lib.errors import UserError
from sd4match_lib.miniature.pretraining.memory import hold_memory
from sd4match_lib.utils.files import atomic_write_bytes

logger = logging.getLogger(__name__)

Loss = Callable[[int, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Box:
    """When to stop, whichever comes first (both None: never started), and how to step.

    The learning rate warms up over `warmup` steps and falls along a cosine to a twentieth at the end of the
    box.
    """

    steps: int | None
    minutes: float | None
    batch: int
    learning_rate: float
    warmup: int = 200
    average: float = 0.998
    save_every_s: float = 120.0
    watch_every_s: float = 900.0

    def spent(self, step: int, elapsed_s: float) -> float:
        """The part of the box that is used up, in [0, 1]."""
        parts = [
            step / self.steps if self.steps else 0.0,
            elapsed_s / 60 / self.minutes if self.minutes else 0.0,
        ]
        return min(1.0, max(parts))


def pretrain(
    name: str,
    modules: nn.ModuleDict,
    loss: Loss,
    box: Box,
    folder: Path,
    device: torch.device,
    watch: Callable[[], dict[str, float]] | None = None,
) -> nn.ModuleDict:
    """Trains `modules` on `loss` until the box is used up, and leaves their averaged weights in them.

    Goes on from `folder/<name>.safetensors` where it exists; logs to `folder/<name>.csv` (step, samples,
    seconds, every value that `loss` returns). Batches depend on the step alone, so an interrupted run sees
    the batches that an undisturbed one does.

    Args:
        name: the stage's name.
        modules: what is trained, moved to `device`.
        loss: given the step and a CPU generator seeded for it, returns named scalars; `"loss"` is minimised.
        box: when to stop and how to step.
        folder: where checkpoint and log live.
        device: where to train; bf16 autocast is used on either kind.
        watch: measures the modules now and then, with their averaged weights in place; logged to
            `folder/<name>_probe.csv`.

    Raises:
        UserError: when the box has no end, or the loss stops being finite (the last checkpoint stays).
    """
    if box.steps is None and box.minutes is None:
        raise UserError(f"pretraining {name} needs --steps or --minutes, or it would never end")
    hold_memory()
    modules.to(device).train()
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=box.learning_rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
    )
    averages = [p.detach().clone() for p in parameters]
    checkpoint, log = folder / f"{name}.safetensors", folder / f"{name}.csv"
    step, before_s = (
        _restore(checkpoint, parameters, averages, optimizer) if checkpoint.is_file() else (0, 0.0)
    )
    probe_log = folder / f"{name}_probe.csv"
    _cut_log(log, step)
    _cut_log(probe_log, step)
    start = saved = noted = watched = time.monotonic()
    sums: dict[str, float] = {}
    first = step
    while (spent := box.spent(step, before_s + time.monotonic() - start)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = (
                box.learning_rate
                * min(1.0, (step + 1) / box.warmup)
                * (0.05 + 0.95 * (1 + math.cos(math.pi * spent)) / 2)
            )
        generator = torch.Generator().manual_seed(step + 1_000_003)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            values = loss(step, generator)
        if not torch.isfinite(values["loss"]):
            raise UserError(
                f"pretraining {name}: the loss is not finite at step {step}; "
                f"{checkpoint} holds the last good state"
            )
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        decay = min(box.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - decay)
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        now = time.monotonic()
        elapsed_s = before_s + now - start
        if now - noted > 20:
            means = {key: value / (step - first) for key, value in sums.items()}
            _note(
                name, log, {"step": step, "samples": step * box.batch, "seconds": elapsed_s, **means}, spent
            )
            noted, sums, first = now, {}, step
        if watch is not None and now - watched > box.watch_every_s:
            _watch(
                name,
                probe_log,
                modules,
                parameters,
                averages,
                watch,
                step,
                step * box.batch,
                elapsed_s,
                spent,
            )
            watched = now
        if now - saved > box.save_every_s:
            _save(checkpoint, parameters, averages, optimizer, step, elapsed_s)
            saved = now
    elapsed_s = before_s + time.monotonic() - start
    if sums:
        means = {key: value / (step - first) for key, value in sums.items()}
        _note(name, log, {"step": step, "samples": step * box.batch, "seconds": elapsed_s, **means}, 1.0)
    _save(checkpoint, parameters, averages, optimizer, step, elapsed_s)
    if watch is not None:
        _watch(name, probe_log, modules, parameters, averages, watch, step, step * box.batch, elapsed_s, 1.0)
    _exchange(parameters, averages)
    return modules.eval()


def _exchange(parameters: list[nn.Parameter], averages: list[Tensor]) -> None:
    """Swaps the weights with their averages, in place."""
    for parameter, mean in zip(parameters, averages, strict=True):
        kept = parameter.data.clone()
        parameter.data.copy_(mean)
        mean.copy_(kept)


def _watch(
    name: str,
    log: Path,
    modules: nn.ModuleDict,
    parameters: list[nn.Parameter],
    averages: list[Tensor],
    watch: Callable[[], dict[str, float]],
    step: int,
    samples: int,
    elapsed_s: float,
    spent: float,
) -> None:
    """Measures the averaged weights and logs what was found."""
    modules.eval()
    _exchange(parameters, averages)
    values = watch()
    _exchange(parameters, averages)
    modules.train()
    _note(name, log, {"step": step, "samples": samples, "seconds": elapsed_s, **values}, spent)


def _note(name: str, log: Path, row: dict[str, float], spent: float) -> None:
    """Adds one line to the log file and to the logger."""
    fresh = not log.is_file()
    with log.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow({key: round(value, 5) for key, value in row.items()})
    left = row["seconds"] / max(spent, 1e-6) - row["seconds"]
    shown = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
    logger.info("%s: %s, %.0f min left", name, shown, left / 60)


def _cut_log(log: Path, step: int) -> None:
    """Drops log lines from after the checkpoint: those steps are taken again."""
    if log.is_file():
        lines = log.read_text().splitlines(keepends=True)
        kept = [line for line in lines[1:] if int(line.split(",")[0]) <= step]
        atomic_write_bytes(log, "".join([*lines[:1], *kept]).encode()) if kept else log.unlink()


def _save(
    path: Path,
    parameters: list[nn.Parameter],
    averages: list[Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    elapsed_s: float,
) -> None:
    """Writes weights, averages and optimizer moments in one atomic step."""
    tensors: dict[str, Tensor] = {}
    for i, (parameter, mean) in enumerate(zip(parameters, averages, strict=True)):
        state = optimizer.state[parameter]
        tensors |= {f"{i}.weight": parameter.detach(), f"{i}.average": mean}
        tensors |= {f"{i}.{key}": state[key] for key in ("exp_avg", "exp_avg_sq")} if state else {}
    tensors = {key: tensor.contiguous().cpu() for key, tensor in tensors.items()}
    header = {"progress": json.dumps({"step": step, "elapsed_s": elapsed_s})}
    atomic_write_bytes(path, save(tensors, metadata=header))


def _restore(
    path: Path, parameters: list[nn.Parameter], averages: list[Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Loads what `_save` wrote; returns the step and the seconds spent."""
    with safe_open(path, framework="pt") as file:
        done = json.loads(file.metadata()["progress"])
        keys = set(file.keys())
        for i, (parameter, mean) in enumerate(zip(parameters, averages, strict=True)):
            parameter.data.copy_(file.get_tensor(f"{i}.weight"))
            mean.copy_(file.get_tensor(f"{i}.average"))
            if f"{i}.exp_avg" in keys:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(done["step"]), device=parameter.device),
                    **{key: file.get_tensor(f"{i}.{key}").to(parameter) for key in ("exp_avg", "exp_avg_sq")},
                }
    return done["step"], done["elapsed_s"]
