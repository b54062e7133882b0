"""Processes that are killed at random moments: no half file, nothing lost, the same result in the end.

Three kills of each command by default; SD4MATCH_KILLS=20 kills each 20 times, and SD4MATCH_FAULTS=all trains
every kind of prompt in every precision. Trainings in float16 overflow at every other step.
"""

import dataclasses
import multiprocessing
import os
import random
import time

import pytest
import torch
from small_runs import (
    ALL,
    FORKS,
    in_folder,
    run_class_training,
    run_cpm_training,
    run_evaluation,
    run_match,
    run_pretrain,
    run_render,
    run_reproduce,
    run_score,
    run_training,
)

from sd4match_lib.training.objective import pair_loss
from sd4match_lib.utils import files

KILLS = int(os.environ.get("SD4MATCH_KILLS", "3"))
TRAININGS = (run_training, run_class_training, run_cpm_training)
PRECISIONS = ("model", "bfloat16", "float16")
COMMANDS = (run_evaluation, run_score, run_match, run_render, run_reproduce, run_pretrain)
WORKS = [
    *((work, "model") for work in (*COMMANDS, run_training)),
    *((work, precision) for work in TRAININGS for precision in (PRECISIONS if ALL else ("float16",))),
]

pytestmark = FORKS


def work_alone(work, profile):
    """What a forked process does: it begins with nothing swept."""
    files._SWEPT.clear()
    work(profile)


def overflowing(source, pairs, config, *, hw_in, seed):
    """The loss; in float16 every other step's gradient is not finite, as where its scale is too large."""
    loss = pair_loss(source, pairs, config, hw_in=hw_in, seed=seed)
    overflows = config.precision == "float16" and int(seed.split("/")[1]) % 2 == 0
    return loss + torch.sqrt(0 * loss) if overflows else loss


@pytest.mark.parametrize(("work", "precision"), WORKS, ids=lambda value: getattr(value, "__name__", value))
def test_what_was_killed_at_any_moment_ends_as_if_undisturbed(
    work, precision, small_profile, tmp_path, monkeypatch
):
    training = dataclasses.replace(small_profile.training, precision=precision, steps=4)
    profile = dataclasses.replace(small_profile, training=training)
    without = work(in_folder(profile, tmp_path / "warm"))  # the first one also imports
    monkeypatch.setattr("sd4match_lib.training.loop.pair_loss", overflowing)
    started = time.monotonic()
    undisturbed = work(in_folder(profile, tmp_path / "undisturbed"))
    took = time.monotonic() - started
    assert (undisturbed == without) == (precision != "float16"), "a step that overflows is left out"
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    for kill in range(KILLS):
        own = in_folder(profile, tmp_path / f"kill-{kill}")
        process = multiprocessing.get_context("fork").Process(target=work_alone, args=(work, own))
        process.start()
        time.sleep(moments.uniform(0, 1.2 * took))
        process.kill()
        process.join()
        files._SWEPT.clear()
        assert work(own) == undisturbed, f"kill {kill} of seed {seed}"
        assert not list((tmp_path / f"kill-{kill}").rglob("*.tmp")), f"kill {kill} of seed {seed}"
