"""Training: any learned prompt on any data set, one run per request, found again when it is finished.

    accelerate launch --multi_gpu --num_processes 4 -m sd4match_lib train --prompt cpm --profile paper

Several processes share each batch; their gradients add up to those of one.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.shuffled import ShuffledPairs
from sd4match_lib.data.types import PairDataset
from sd4match_lib.errors import NoSplitError, UserError
from sd4match_lib.evaluation.evaluate import check_seed, open_pairs
from sd4match_lib.evaluation.pairs import PairMatcher
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.extractors import DiffusionSource
from sd4match_lib.features.methods import method_settings
from sd4match_lib.metrics.pck import pck
from sd4match_lib.prompts.factory import PROMPT_FILE, load_prompt, new_prompt
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.runs.distributed import ProcessGroup, current_group
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import RECORD_FILE, Run, open_run
from sd4match_lib.training.loop import BEST_FILE, LOG_FILE, STATE_FILE, Task, train_loop
from sd4match_lib.utils.fingerprint import method_hash
from sd4match_lib.utils.progress import progress

ALPHA = 0.1
"""The threshold of the PCK that picks the best checkpoint (method, section 4)."""

# Settings that cost memory or time, but do not change what is learned beyond rounding.
_COSTS = ("accumulate", "checkpoint_activations")


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished training.

    Attributes:
        prompt: the best prompt by validation, frozen.
        log: step, seconds, loss (mean since the last row) and pck (validation; NaN where there was none).
        record: configuration, inputs, machine, time and metrics.
        folder: the run's folder, with `prompt.safetensors`, `log.csv` and `run.json`.
        reused: whether the run was found finished.
    """

    prompt: LearnedPrompt
    log: pd.DataFrame
    record: RunRecord
    folder: Path
    reused: bool


def train(
    profile: Profile,
    prompt: str,
    *,
    dataset: str = "spair",
    data_root: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    seed: int | None = None,
    shuffled: bool = False,
    device: str | None = None,
    results_dir: Path | str | None = None,
    tensorboard: bool = False,
) -> TrainResult:
    """Learn a prompt on a data set's training pairs, or find the finished run that did.

    A training that was killed goes on from its last state and ends with the same prompt. Validation pairs
    are matched at the training timestep, with one noise and nearest neighbour.

    Args:
        profile: the experiment; its `training` says how.
        prompt: "single", "class" or "cpm".
        dataset: a data set of the profile with a training and a validation split.
        data_root: the data set's folder, instead of the profile's.
        options: keyword arguments of the prompt's class: `length`, `init`, `space`, `condition_on`, ...
        steps: instead of the profile's.
        seed: of initial weights, order and noises; the profile's when None.
        shuffled: a negative control: learn from pairs whose correspondences are wrong (`ShuffledPairs`).
        device: "cpu" or "cuda"; None is a GPU where there is one.
        results_dir: the run lies in `runs/` below it.
        tensorboard: whether events are written to `tensorboard/` in the run's folder.

    Raises:
        UserError: unknown prompt or options, missing models or data, a loss that is no number, a full disk.
    """
    seed = profile.seed if seed is None else seed
    config = profile.training if steps is None else replace(profile.training, steps=steps)
    if config.steps < 1:
        raise UserError(f"steps is {config.steps}; use at least 1.")
    check_seed(seed)
    try:
        pairs = open_pairs(profile, dataset, "train", data_root, None)
    except NoSplitError as error:
        raise UserError(
            f"{dataset} has pairs to test on only; train on another data set, such as spair."
        ) from error
    if shuffled:
        pairs = ShuffledPairs(pairs, seed)
    held_out = open_pairs(profile, dataset, "val", data_root, config.validation_pairs)
    for part in (pairs, held_out):
        if not len(part):
            raise UserError(f"{dataset} {part.split} at {part.root} has no pairs; training needs some.")
    learned = new_prompt(prompt, profile, pairs.categories, options or {})
    settings = method_settings(
        profile, Extractor.SD, timestep=profile.features.train_timestep, ensemble=1, matcher="nn"
    )
    models = MethodModels(profile, settings, learned)
    group = current_group(device)
    where = group.device(device)
    told = {key: value for key, value in asdict(config).items() if key not in _COSTS}
    code = method_hash()
    # Without the hash of its weights, which are only drawn once a training begins.
    asked = {name: value for name, value in learned.fingerprint().items() if name != "weights"}
    run = open_run(
        profile.results_path if results_dir is None else results_dir,
        f"train-{dataset}-{prompt}",
        "train",
        {"dataset": dataset, "pairs": len(pairs), "training": told, **models.config(), "prompt": asked},
        {**models.inputs(), "data": pairs.fingerprint(), "val": held_out.fingerprint(), "code": code},
        profile=profile.name,
        seed=seed,
        device=str(where),
    )
    reused = bool(group.broadcast(run.complete))
    if not reused:
        with run if group.main else nullcontext():
            # Another job may have learned it while this one waited for the folder.
            reused = bool(group.broadcast(run.complete))
            if not reused:
                source = models.load(where, seed)
                assert isinstance(source, DiffusionSource)
                _fill_caches(source, {**pairs.images(), **held_out.images()}, group)
                learned.requires_grad_(True).initialise(source.model.text, seed)
                task = Task(learned.to(where), source, pairs, config, models.image_hw, seed, run.folder)
                with source.model.learning(checkpoint_activations=config.checkpoint_activations):
                    _learn(task, held_out, models, group, run, tensorboard=tensorboard)
        group.barrier()
    record = run.record if group.main or reused else RunRecord.read(run.folder / RECORD_FILE)
    log = pd.read_csv(run.folder / LOG_FILE)
    return TrainResult(load_prompt(run.folder / PROMPT_FILE), log, record, run.folder, reused)


def _fill_caches(source: DiffusionSource, images: Mapping[str, ImageRecord], group: ProcessGroup) -> None:
    """Encode every image once, onto the disk, so that none is decoded in training."""
    share = group.share_of(len(images))
    own = list(images.values())[share.start : share.stop]
    for record in progress(own, description="encoding images", unit="image"):
        source.prepare([record])
    group.barrier()


def _learn(
    task: Task,
    held_out: PairDataset,
    models: MethodModels,
    group: ProcessGroup,
    run: Run,
    *,
    tensorboard: bool,
) -> None:
    """Train, and keep the best prompt with where it comes from."""

    def validate(step: int) -> float:
        folder = run.folder / f"validation-{step}"
        device = task.source.model.device
        matcher = PairMatcher(task.source, models, device, folder, task.config.batch_size)
        rows = matcher.match_all(held_out, group)
        group.barrier()
        if group.main:
            matcher.clear()
            folder.rmdir()
        return pck(rows, ALPHA)

    done = train_loop(task, group, validate, run.folder / "tensorboard" if tensorboard else None)
    if not group.main:
        return
    best = load_prompt(run.folder / BEST_FILE)
    metrics = {"validation PCK@0.10": done.best_pck, "best_step": done.best_step, "steps": done.step}
    best.save(run.output(PROMPT_FILE), {**_origin(run.record), **metrics})
    run.output(LOG_FILE)
    run.metrics.update(metrics, training_s=round(done.elapsed_s, 2), processes=group.size)
    if models.profile.model.fast:
        run.metrics["warm_up_s"] = round(task.source.warm_up_s, 2)
    # Until the record says "complete", a start after a kill goes on from these.
    run.when_complete(lambda: _forget_state(run.folder))


def _forget_state(folder: Path) -> None:
    for name in (BEST_FILE, STATE_FILE):
        (folder / name).unlink(missing_ok=True)


def _origin(record: RunRecord) -> dict[str, Any]:
    """Where a learned prompt comes from, for its file's header."""
    return {
        "profile": record.profile,
        "model": record.inputs.get("model"),
        "vision": record.inputs.get("vision"),
        "dataset": record.config["dataset"],
        "data": record.inputs["data"],
        "seed": record.seed,
        "run": record.run_id,
        "licence": "the prompt's licence is its author's choice; data set and model have their own",
        "versions": record.versions,
    }
