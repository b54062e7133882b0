"""The pretraining loop: bounded in steps or minutes, resumable after `kill -9`, the same on CPU and GPU."""

import csv
import io
import json
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sd4match_lib.config.parse import parse_dataclass
from sd4match_lib.errors import UserError, reason
from sd4match_lib.training.state import Progress
from sd4match_lib.utils.files import atomic_write_bytes, atomic_write_text
from sd4match_lib.utils.reading import parse_json, read_tensor_header, read_text

logger = logging.getLogger(__name__)

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Batch:
    """All that a loss may see: pictures and whole captions, and what comes of pictures alone.

    Attributes:
        images: `(B, S, S, 3)` uint8.
        captions: `(B, 77)` token ids of whole captions.
        latents: `(B, 4, h, w)` of the pictures, from our own autoencoder.
        patches: `(B, N, D)` of the pictures, from our own vision model.
    """

    images: Tensor | None = None
    captions: Tensor | None = None
    latents: Tensor | None = None
    patches: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        moved = {name: None if t is None else t.to(device) for name, t in vars(self).items()}
        return Batch(**moved)


@dataclass(frozen=True)
class Budget:
    """When to stop, whichever comes first (both None: never), and how to step.

    The learning rate warms up over `warmup` steps, stays, and falls in a line to a twentieth over the last
    fifth of the budget.
    """

    steps: int | None
    minutes: float | None
    batch: int
    learning_rate: float
    warmup: int = 200
    average: float = 0.998
    save_every_s: float = 120.0
    watch_every_s: float = 900.0

    def check_end(self, stage: str) -> None:
        """Make sure that it ends.

        Raises:
            UserError: it has neither steps nor minutes.
        """
        if not self.steps and not self.minutes:
            raise UserError(f"pretraining {stage} needs --steps or --minutes, or it would never end.")

    def spent(self, step: int, elapsed_s: float) -> float:
        """The part of the budget that is used up, in [0, 1]."""
        parts = [
            step / self.steps if self.steps else 0.0,
            elapsed_s / 60 / self.minutes if self.minutes else 0.0,
        ]
        return min(1.0, max(parts))

    def learning_rate_at(self, step: int, spent: float) -> float:
        """The learning rate of a step, from the part of the budget that is used up."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, 0.05 + 0.95 * (1 - spent) / 0.2)


class Objective(nn.Module, ABC):
    """What a stage trains, and the loss that it is trained on; frozen parts are without gradients."""

    @abstractmethod
    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Named scalars; `"loss"` is minimised.

        Args:
            batch: all that there is to learn from.
            generator: the step's own, on the CPU.
        """

    def after_step(self, averages: list[Tensor]) -> None:
        """Called after each step of the optimizer with the running averages of the trained weights."""


Batches = Callable[[int, torch.Generator], Batch]


def checkpoint_files(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """Where a stage keeps its checkpoint, its log and the log of its measurements."""
    return folder / f"{name}.safetensors", folder / f"{name}.csv", folder / f"{name}_probe.csv"


def pretrain(
    name: str,
    objective: Objective,
    batches: Batches,
    budget: Budget,
    folder: Path,
    device: torch.device,
    watch: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Trains `objective` until the budget is used up, and leaves the averaged weights in it.

    Goes on from `folder/<name>.safetensors` where it exists; logs to `folder/<name>.csv` (step, samples,
    seconds, every value that the objective returns). Batches depend on the step alone, so an interrupted run
    sees the batches that an undisturbed one does.

    Args:
        name: the stage's name.
        objective: what is trained, moved to `device`.
        batches: given the step and a CPU generator seeded for it, returns the step's batch.
        budget: when to stop and how to step.
        folder: where checkpoint and log live.
        device: where to train; bf16 autocast is used on either kind.
        watch: measures the objective now and then, with the averaged weights in place; logged to
            `folder/<name>_probe.csv`.

    Raises:
        UserError: the budget has no end, the checkpoint is damaged or another model's, or the loss stops
            being finite (the last checkpoint stays).
    """
    budget.check_end(name)
    objective.to(device).train()
    run = _Run(objective, budget)
    checkpoint, log, probe_log = checkpoint_files(folder, name)
    step, before_s = run.restore(checkpoint) if checkpoint.is_file() else (0, 0.0)
    _cut_log(log, step)
    _cut_log(probe_log, step)
    start = saved = noted = time.monotonic()
    watched = start if step == 0 else start - budget.watch_every_s / 2
    sums: dict[str, float] = {}
    first = step

    def measure(elapsed_s: float) -> None:
        if watch is not None:
            with run.averaged(), torch.autocast(device.type, dtype=torch.bfloat16):
                values = watch()
            note(probe_log, elapsed_s, values)

    def note(file: Path, elapsed_s: float, values: dict[str, float]) -> None:
        row = {"step": step, "samples": step * budget.batch, "seconds": elapsed_s, **values}
        _note(name, file, row, budget.spent(step, elapsed_s))

    def means() -> dict[str, float]:
        return {key: value / (step - first) for key, value in sums.items()}

    while (spent := budget.spent(step, before_s + time.monotonic() - start)) < 1.0:
        run.set_learning_rate(budget.learning_rate_at(step, spent))
        generator = torch.Generator().manual_seed(step + 1_000_003)
        batch = batches(step, generator).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            values = objective.losses(batch, generator)
        if not torch.isfinite(values["loss"]):
            raise UserError(
                f"pretraining {name}: the loss is not finite at step {step}; "
                f"{checkpoint} holds the last good state"
            )
        run.step(values["loss"], step)
        step += 1
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        now = time.monotonic()
        elapsed_s = before_s + now - start
        due = now - saved > budget.save_every_s
        if due or now - noted > 20:  # nothing is gone on from that the log does not tell of
            note(log, elapsed_s, means())
            noted, sums, first = now, {}, step
        if now - watched > budget.watch_every_s:
            measure(elapsed_s)
            watched = now
        if due:
            run.save(checkpoint, step, elapsed_s)
            saved = now
    elapsed_s = before_s + time.monotonic() - start
    if sums:
        note(log, elapsed_s, means())
    run.save(checkpoint, step, elapsed_s)
    measure(elapsed_s)
    run.finish()


class _Run:
    """What a checkpoint holds: weights, their averages and the optimizer's moments, all in float32.

    The objective itself computes with bfloat16 copies of the weights: on a CPU, casting them and what they
    touch in every step costs up to a third of the time.
    """

    def __init__(self, objective: Objective, budget: Budget) -> None:
        """Sets up AdamW and the averages over all parameters with gradients."""
        self.objective, self.budget = objective, budget
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.weights = [p.detach().float().clone() for p in self.parameters]
        self.averages = [w.clone() for w in self.weights]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=budget.learning_rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
        )
        for parameter in objective.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)

    def set_learning_rate(self, value: float) -> None:
        """For all parameters."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def step(self, loss: Tensor, step: int) -> None:
        """One step of the optimizer, with gradients clipped at a norm of 1, and of the averages."""
        loss.backward()
        for weight, parameter in zip(self.weights, self.parameters, strict=True):
            weight.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        decay = min(self.budget.average, (2 + step) / (11 + step))
        torch._foreach_lerp_(self.averages, self.weights, 1 - decay)
        self._use(self.weights)
        self.objective.after_step(self.averages)

    @torch.no_grad()
    def _use(self, values: list[Tensor]) -> None:
        """Puts values into the objective."""
        torch._foreach_copy_(list[Tensor](self.parameters), values)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The objective with averaged weights, for measuring."""
        self.objective.eval()
        self._use(self.averages)
        try:
            yield
        finally:
            self._use(self.weights)
            self.objective.train()

    def finish(self) -> None:
        """Leaves the averaged weights in the objective, in float32."""
        for parameter in self.objective.parameters():
            parameter.data = parameter.data.float()
        self._use(self.averages)
        self.objective.eval()

    def save(self, path: Path, step: int, elapsed_s: float) -> None:
        """Writes all in one atomic step."""
        tensors: dict[str, Tensor] = {}
        for i, (weight, mean) in enumerate(zip(self.weights, self.averages, strict=True)):
            state = self.optimizer.state[weight]
            tensors |= {f"{i}.weight": weight, f"{i}.average": mean}
            tensors |= {f"{i}.{key}": state[key] for key in _MOMENTS} if state else {}
        tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        header = {"progress": json.dumps({"step": step, "elapsed_s": elapsed_s})}
        atomic_write_bytes(path, save(tensors, metadata=header))

    @torch.no_grad()
    def restore(self, path: Path) -> tuple[int, float]:
        """Loads what `save` wrote; returns the step and the seconds spent.

        Raises:
            UserError: the file is damaged, or another model's.
        """
        again = "delete it to train from the beginning"
        _, header = read_tensor_header(path, fix=again)
        try:
            done = parse_dataclass(Progress, parse_json(path, header["progress"], fix=again), where=str(path))
            tensors = load_file(path)
            for i, (weight, mean) in enumerate(zip(self.weights, self.averages, strict=True)):
                parts = ("weight", "average", *(_MOMENTS if f"{i}.{_MOMENTS[0]}" in tensors else ()))
                found = {part: tensors.pop(f"{i}.{part}") for part in parts}
                if any(t.shape != weight.shape or not t.isfinite().all() for t in found.values()):
                    raise ValueError(f"parameter {i} is of another shape, or not finite")
                weight.copy_(found.pop("weight"))
                mean.copy_(found.pop("average"))
                if found:
                    step = torch.tensor(float(done.step), device=weight.device)
                    moments = {name: moment.to(weight) for name, moment in found.items()}
                    self.optimizer.state[weight] = {"step": step, **moments}
            if tensors:
                raise ValueError("it holds more than the model")
        except Exception as error:  # safetensors has exceptions of its own
            raise UserError(f"{path} cannot be gone on from ({reason(error)}); {again}.") from error
        self._use(self.weights)
        self.objective.after_step(self.averages)
        return done.step, done.elapsed_s


def _note(name: str, log: Path, row: dict[str, float], spent: float) -> None:
    """Adds one line to the log file and to the logger."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(row))
    if log.is_file():
        stream.write(read_text(log))
    else:
        writer.writeheader()
    writer.writerow({key: round(value, 5) for key, value in row.items()})
    atomic_write_text(log, stream.getvalue())
    left = row["seconds"] / max(spent, 1e-6) - row["seconds"]
    shown = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
    logger.info("%s: %s, %.0f min left", name, shown, left / 60)


def _cut_log(log: Path, step: int) -> None:
    """Drops log lines from after the checkpoint, whose steps are taken again, and those that are none."""
    if log.is_file():
        lines = read_text(log, fix="delete it").splitlines(keepends=True)
        steps = (re.match(r"[0-9]{1,9}(?=,)", line) for line in lines[1:])
        kept = [line for line, found in zip(lines[1:], steps, strict=True) if found and int(found[0]) <= step]
        atomic_write_text(log, "".join([*lines[:1], *kept])) if kept else log.unlink()
