"""Processes that are killed at random moments: no half file, nothing lost, the same result in the end.

Three kills of each command by default; SD4MATCH_KILLS=20 kills each 20 times, and SD4MATCH_FAULTS=all trains
every kind of prompt in every precision.
"""

import dataclasses
import multiprocessing
import os
import random
import subprocess
import sys
import time

import psutil
import pytest
import torch
from small_runs import (
    ALL,
    in_folder,
    run_class_training,
    run_cpm_training,
    run_evaluation,
    run_score,
    run_training,
)

from sd4match_lib.utils import files

KILLS = int(os.environ.get("SD4MATCH_KILLS", "3"))
TRAININGS = (run_training, run_class_training, run_cpm_training)
PRECISIONS = ("model", "bfloat16", "float16")
WORKS = [
    (run_evaluation, "model"),
    (run_score, "model"),
    *(
        (work, precision)
        for work in (TRAININGS if ALL else (run_training,))
        for precision in PRECISIONS[: 3 if ALL else 1]
    ),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a process with PyTorch loaded"),
]


@pytest.fixture(autouse=True)
def one_thread():
    """A forked process has one thread; another number of them rounds otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def work_alone(work, profile):
    """What a forked process does: it begins with nothing swept."""
    files._SWEPT.clear()
    work(profile)


@pytest.mark.parametrize(("work", "precision"), WORKS, ids=lambda value: getattr(value, "__name__", value))
def test_what_was_killed_at_any_moment_ends_as_if_undisturbed(work, precision, small_profile, tmp_path):
    training = dataclasses.replace(small_profile.training, precision=precision)
    profile = dataclasses.replace(small_profile, training=training)
    work(in_folder(profile, tmp_path / "warm"))  # the first one also imports
    started = time.monotonic()
    undisturbed = work(in_folder(profile, tmp_path / "undisturbed"))
    took = time.monotonic() - started
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


def lives(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_workers_of_a_killed_process_end_with_it():
    script = (
        "import os, time; from sd4match_lib.utils.processes import worker_pool\n"
        "if __name__ == '__main__':\n"
        "    pool = worker_pool(); print(pool.submit(os.getpid).result(), flush=True)\n"
        "    pool.submit(time.sleep, 60); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=-1, text=True)
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while lives(worker):
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.2)


def test_two_processes_with_one_request_compute_it_once(small_profile, tmp_path):
    """Of two evaluations at once one works and the other one waits; both have the same rows."""
    undisturbed = run_evaluation(in_folder(small_profile, tmp_path / "undisturbed"))
    own = in_folder(small_profile, tmp_path / "both")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work_alone, args=(run_evaluation, own)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert run_evaluation(own) == undisturbed
    (folder,) = (tmp_path / "both" / "results" / "runs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["keypoints.parquet", "run.json"]
