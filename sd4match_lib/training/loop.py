"""The one loop that trains every prompt."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sd4match_lib.config.schema import TrainingConfig
from sd4match_lib.data.types import PairDataset
from sd4match_lib.errors import UserError, reason
from sd4match_lib.features.extractors import DiffusionSource
from sd4match_lib.geometry import HW
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.runs.distributed import ProcessGroup
from sd4match_lib.training.log import TrainingLog
from sd4match_lib.training.objective import pair_loss
from sd4match_lib.training.order import PairOrder
from sd4match_lib.training.state import Progress, load_state, save_state
from sd4match_lib.utils.progress import progress

STATE_FILE, LOG_FILE, BEST_FILE = "state.safetensors", "log.csv", "best.safetensors"
SAVE_EVERY_S = 60.0
LOG_EVERY = 10

_log = logging.getLogger(__name__)

_TOO_SMALL = (
    "training {kind}: not even one pair fits the memory ({reason}); set training.checkpoint_activations."
)

Validate = Callable[[int], float]


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained, from where and how, and the folder for state, log and best prompt."""

    prompt: LearnedPrompt
    source: DiffusionSource
    pairs: PairDataset
    config: TrainingConfig
    hw_in: HW
    seed: int
    folder: Path


def train_loop(
    task: Task, group: ProcessGroup, validate: Validate, tensorboard: Path | None = None
) -> Progress:
    """Train, going on from the folder's state where there is one; the best prompt is kept in `BEST_FILE`.

    The pairs, latents and noises of a step depend on the seed and the step alone, so an interrupted training
    ends with the weights of an undisturbed one.

    Args:
        task: what to do.
        group: the processes that share each batch; gradients are added up over them.
        validate: measures the prompt after so many steps, as PCK@0.1.
        tensorboard: a folder for TensorBoard's events, or None.

    Raises:
        UserError: the loss stops being finite, the disk is full, or a single pair does not fit the memory;
            the last good state stays.
    """
    config, prompt = task.config, task.prompt
    groups = prompt.parameter_groups(config.learning_rate, config.linear_learning_rate)
    # On a GPU fused: the other kinds ask the scaler whether to step, and wait for all that was launched.
    optimizer = torch.optim.Adam(groups, fused=task.source.model.device.type == "cuda")
    # Half-precision gradients underflow; other types need no scale.
    half = task.source.model.dtype == torch.float16 or config.precision == "float16"
    scaler = torch.amp.GradScaler(task.source.model.device.type, enabled=half)
    done = load_state(task.folder / STATE_FILE, optimizer, scaler)
    if done.best_step and not (task.folder / BEST_FILE).is_file():
        raise UserError(
            f"{task.folder / BEST_FILE} is missing, without which {STATE_FILE} beside it is worth nothing; "
            "delete that too, and the training begins anew."
        )
    log = TrainingLog(task.folder / LOG_FILE, done.step, tensorboard) if group.main else None
    order = PairOrder(len(task.pairs), config.batch_size, task.seed)
    before_s, start = done.elapsed_s, time.monotonic()
    saved = start
    losses: list[Tensor] = []
    shown = {"loss": math.nan, "pck": done.best_pck}

    def status() -> str:
        best = f", best PCK {100 * shown['pck']:.1f}" if shown["pck"] >= 0 else ""
        return f"loss {shown['loss']:.3f}{best}"

    steps = progress(
        range(done.step, config.steps), description=f"training {prompt.kind}", unit="step", status=status
    )
    parts = config.accumulate
    for step in steps:
        loss = None
        while loss is None:
            try:
                loss = _step(task, group, order.batch(step), optimizer, scaler, step, parts)
            except torch.OutOfMemoryError as error:
                if parts >= config.batch_size:
                    raise UserError(_TOO_SMALL.format(kind=prompt.kind, reason=reason(error))) from error
                parts *= 2
                _log.warning(
                    "A step does not fit the GPU's memory; from now on it is computed in %d parts.", parts
                )
        losses.append(loss)
        done.step = step + 1
        validated = done.step % config.validate_every == 0 or done.step == config.steps
        if validated or done.step % LOG_EVERY == 0:
            # Before anything is kept. Between rows nothing is read from the device: it is never waited for.
            shown["loss"] = _mean_loss(task, losses, done.step)
        done.elapsed_s = before_s + time.monotonic() - start
        pck = None
        if validated:
            pck = validate(done.step)
            if not math.isfinite(pck):
                raise UserError(
                    f"training {prompt.kind}: the validation PCK is not a number; are the target points "
                    "of all validation pairs known?"
                )
            if pck > done.best_pck:
                done.best_pck, done.best_step = pck, done.step
                if group.main:
                    prompt.save(task.folder / BEST_FILE, {"step": done.step, "validation PCK@0.10": pck})
        if pck is not None or done.step % LOG_EVERY == 0:
            shown["pck"] = done.best_pck
            if log is not None:
                log.add(done.step, done.elapsed_s, shown["loss"], pck)
            losses.clear()
        # Only where a log row ends: the mean loss of the next row is then complete after a restart too.
        due = time.monotonic() - saved > SAVE_EVERY_S and not losses
        if group.main and (pck is not None or due):
            save_state(task.folder / STATE_FILE, prompt, optimizer, scaler, done)
            saved = time.monotonic()
    if log is not None:
        log.close()
    return done


def _step(
    task: Task,
    group: ProcessGroup,
    places: Sequence[int],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    step: int,
    parts: int,
) -> Tensor:
    """One optimizer step on one batch, in parts; returns its mean loss over all processes, on the device."""
    optimizer.zero_grad(set_to_none=False)
    share = group.share_of(len(places))
    own = [task.pairs[place] for place in places[share.start : share.stop]]
    part = -(-len(places) // parts)
    total = torch.zeros((), device=task.source.model.device)
    for first in range(0, len(own), part):
        pairs = own[first : first + part]
        loss = pair_loss(task.source, pairs, task.config, hw_in=task.hw_in, seed=f"{task.seed}/{step}")
        loss = loss * (len(pairs) / len(places))
        scaler.scale(loss).backward()
        total += loss.detach()
    for parameter in task.prompt.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad = group.all_reduce(parameter.grad)
    scaler.step(optimizer)
    scaler.update()
    return group.all_reduce(total)


def _mean_loss(task: Task, losses: Sequence[Tensor], last_step: int) -> float:
    """The mean of the losses of the steps up to `last_step`, known to be finite."""
    values: list[float] = torch.stack(list(losses)).tolist()
    for step, value in enumerate(values, start=last_step - len(values) + 1):
        if not math.isfinite(value):
            raise UserError(
                f"training {task.prompt.kind}: the loss is not finite at step {step}; "
                f"{task.folder / STATE_FILE} holds the last good state. Lower training.learning_rate."
            )
    return sum(values) / len(values)
