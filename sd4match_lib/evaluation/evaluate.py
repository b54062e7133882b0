"""Evaluation: any prompt or extractor on any data set, one row per keypoint.

What a method computes per image is computed once per image, whatever the number of pairs; finished pairs
survive a kill; the same request finds the finished run. Under `accelerate launch` the processes share the
pairs out and write one run together. The rows do not depend on batch size, order or sharding beyond the
rounding of floating-point sums (about 1e-6 of a feature's size), which can move a nearest neighbour only
where two cells tie.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sd4match_lib.config.names import DATASETS, Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.data.datasets import layout_of, open_dataset
from sd4match_lib.data.types import PairDataset
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.pairs import PairMatcher
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.methods import method_settings
from sd4match_lib.metrics.keypoints import matched_rows, read_keypoints, write_keypoints
from sd4match_lib.metrics.pck import bootstrap_interval, pck_table
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.runs.distributed import current_group
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import RECORD_FILE, open_run
from sd4match_lib.utils.fingerprint import method_hash

KEYPOINTS_FILE = "keypoints.parquet"


# Code that decides what the rows are: with another version of it, a finished run is another run.
@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """A finished evaluation.

    Attributes:
        keypoints: one row per keypoint (`keypoints.KEYPOINT_COLUMNS`), from which every PCK is derived.
        record: configuration, inputs, machine, time and metrics.
        folder: the run's folder, with `keypoints.parquet` and `run.json`.
        alphas: the thresholds of `table`.
        reused: whether the run was found finished.
    """

    keypoints: pd.DataFrame
    record: RunRecord
    folder: Path
    alphas: tuple[float, ...]
    reused: bool

    @cached_property
    def table(self) -> pd.DataFrame:
        """PCK per image in the stretched frame, by category and for all, with intervals (`pck_table`)."""
        return pck_table(self.keypoints, self.alphas, seed=self.record.seed)


def evaluate(
    profile: Profile,
    *,
    dataset: str,
    split: str = "test",
    data_root: Path | str | None = None,
    extractor: Extractor | str = Extractor.SD,
    prompt: Prompt | str | None = None,
    timestep: int | None = None,
    layer: str | None = None,
    ensemble: int | None = None,
    matcher: str | None = None,
    max_pairs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    results_dir: Path | str | None = None,
    batch_size: int | None = None,
) -> EvaluationResult:
    """Match all pairs of a split, or find the finished run that did.

    Points are scored in the frame of the profile's own network input (`model.image_hw`), whatever size a
    extractor looks at. None means the profile's value.

    Args:
        profile: the experiment.
        dataset: a data set of the profile; with `data_root` also the name of a layout that it does not have
            ("own").
        split: "train", "val" or "test".
        data_root: the data set's folder, instead of the profile's.
        extractor: the feature extractor.
        prompt: a prompt, or "empty", "text" or "captioner"; None is "text" for baselines with a UNet, and the
            only choice for those without.
        timestep: diffusion step.
        layer: name of the diffusion model's layer that is read, such as "up_blocks.1".
        ensemble: number of noises averaged.
        matcher: "nn", "bilinear", "softargmax" or "kernel_softargmax".
        max_pairs: an evenly spaced subset of so many pairs.
        seed: what all noises start from.
        device: "cpu" or "cuda"; None is a GPU where there is one.
        results_dir: the run lies in `runs/` below it.
        batch_size: pairs per step; changes time and memory only.

    Raises:
        UserError: a request that cannot be met: unknown names, settings without meaning, missing models or
            data.
    """
    check_batch_size(batch_size)
    seed = profile.seed if seed is None else seed
    check_seed(seed)
    settings = method_settings(
        profile, extractor, layer=layer, timestep=timestep, ensemble=ensemble, matcher=matcher
    )
    pairs = open_pairs(profile, dataset, split, data_root, max_pairs)
    if not len(pairs):
        raise UserError(f"{dataset} {split} at {pairs.root} has no pairs to match.")
    models = MethodModels(profile, settings, prompt)
    group = current_group(device)
    where = group.device(device)
    prompt_kind = f"-{models.prompt.identity()['kind']}" if models.prompt else ""
    run = open_run(
        profile.results_path if results_dir is None else results_dir,
        f"{dataset}-{split}-{settings.extractor}{prompt_kind}",
        "evaluate",
        {"dataset": dataset, "split": split, "pairs": len(pairs), **models.config()},
        {**models.inputs(), "data": pairs.fingerprint(), "code": method_hash()},
        profile=profile.name,
        seed=seed,
        device=str(where),
    )
    alphas = profile.evaluation.alphas
    # The main process's word counts: it is the one that writes the record.
    reused = group.broadcast(run.complete)
    if not reused:
        with run if group.main else nullcontext():
            # Another job may have computed it while this one waited for the folder.
            reused = group.broadcast(run.complete)
            if not reused:
                source = models.load(where, seed)
                batch = batch_size or profile.evaluation.batch_size
                matching = PairMatcher(source, models, where, run.folder, batch)
                rows = matching.match_all(pairs, group)
                passes = group.gather_sum(source.passes)
                if group.main:
                    write_keypoints(rows, run.output(KEYPOINTS_FILE))
                    numbers = pck_metrics(rows, alphas, seed)
                    run.metrics.update(numbers, unet_passes=passes, processes=group.size)
                    if models.profile.model.fast:
                        run.metrics["warm_up_s"] = round(source.warm_up_s, 2)
                    # Only once the record says "complete" nothing of it is needed any more.
                    run.when_complete(matching.clear)
        group.barrier()
    record = run.record if group.main or reused else RunRecord.read(run.folder / RECORD_FILE)
    rows = read_keypoints(run.folder / KEYPOINTS_FILE) if reused else rows
    return EvaluationResult(rows, record, run.folder, alphas, reused)


def check_seed(seed: int) -> None:
    """Refuse, before any work, a seed that random generators do not take.

    Raises:
        UserError: it is negative or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed is {seed}; use a whole number from 0 to {2**32 - 1}.")


def check_batch_size(batch_size: int | None) -> None:
    """Refuse a batch without a pair.

    Raises:
        UserError: it is below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; use at least 1.")


def check_pairs(
    profile: Profile, name: str, split: str, root: Path | str | None, max_pairs: int | None
) -> DatasetConfig:
    """Say where pairs will be opened, without looking at the data, which may not be rendered yet.

    Raises:
        UserError: there is no such data set or split, or fewer than one pair is asked for.
    """
    if name not in profile.datasets and name in DATASETS and root is not None:
        config = DatasetConfig(kind=name, root=str(root))
    else:
        config = profile.dataset(name)
    if max_pairs is not None:
        if max_pairs < 1:
            raise UserError(f"max_pairs is {max_pairs}; use at least 1.")
        config = dataclasses.replace(config, max_pairs={**config.max_pairs, split: max_pairs})
    layout_of(config, split)
    return config


def open_pairs(
    profile: Profile, name: str, split: str, root: Path | str | None, max_pairs: int | None
) -> PairDataset:
    """Open a split of one of the profile's data sets, or of a layout's folder at `root`; see `evaluate`."""
    return open_dataset(check_pairs(profile, name, split, root, max_pairs), split, root)


def pck_metrics(rows: pd.DataFrame, alphas: Sequence[float], seed: int) -> dict[str, Any]:
    """Return what a record says of an evaluation: counts, and PCK per image with intervals, as fractions."""
    metrics: dict[str, Any] = {
        "pairs": int(rows["pair_id"].nunique()),
        "keypoints": len(matched_rows(rows)),
    }
    if rows["distance_in"].isna().all():
        return metrics  # pairs of one's own without known targets: matched, but there is nothing to score
    for alpha in alphas:
        interval = bootstrap_interval(rows, alpha, seed=seed)
        metrics[f"pck@{alpha:.2f}"] = interval.value
        bounds = [interval.low, interval.high]
        metrics[f"interval@{alpha:.2f}"] = [None if math.isnan(bound) else bound for bound in bounds]
    return metrics
