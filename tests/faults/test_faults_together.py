"""Two processes at once: one works, the other one waits and says who works; never two writers."""

import itertools
import logging
import multiprocessing
import os
import time

import pytest
from small_runs import (
    FORKS,
    in_folder,
    run_evaluation,
    run_pretrain,
    run_render,
    run_reproduce,
    run_training,
)

from sd4match_lib.utils import files

PATIENCE_S = 120

pytestmark = FORKS

PAIRS = {
    "two trainings": (run_training, run_training),
    "two evaluations": (run_evaluation, run_evaluation),
    "two reproduces": (run_reproduce, run_reproduce),
    "evaluate beside reproduce": (run_evaluation, run_reproduce),
    "two renders": (run_render, run_render),
    "two pretrainings": (run_pretrain, run_pretrain),
}
PLACES = ("/results/runs/", "/results/notebooks/", "/minipair/", "/miniature/renders/", "/miniature/vae")
"""Where one process at a time writes; caches are written to by all."""


class Diary(logging.Handler):
    """What each process wrote and whom it waited for, in the order in which it happened.

    Whoever writes first does so only once the other one waits, so that both are always there at once.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def keep(self):
        """Begin, in a process of its own."""
        for name in ("_replace", "_write"):
            setattr(files, name, self._told(getattr(files, name)))
        logging.getLogger("sd4match_lib.utils.locks").addHandler(self)

    def emit(self, record):
        self._add("waits", record.getMessage())

    def lines(self):
        """The entries: process, what, and where or for whom."""
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split(" ", 2) for line in text.splitlines()]

    def _add(self, what, text):
        with self.path.open("a") as stream:
            stream.write(f"{os.getpid()} {what} {text}\n")

    def _told(self, write):
        def told(target, data):
            if any(place in str(target) for place in PLACES):
                self._await_the_other()
                self._add("writes", target)
            write(target, data)

        return told

    def _await_the_other(self):
        deadline = time.monotonic() + PATIENCE_S
        while not any(what == "waits" for _, what, _ in self.lines()) and time.monotonic() < deadline:
            time.sleep(0.05)


def at_once(work, profile, diary):
    files._SWEPT.clear()
    diary.keep()
    work(profile)


@pytest.mark.parametrize("works", PAIRS.values(), ids=PAIRS)
def test_of_two_at_once_one_works_and_the_other_says_for_whom_it_waits(works, small_profile, tmp_path):
    undisturbed = [work(in_folder(small_profile, tmp_path / "undisturbed")) for work in works]
    own, diary = in_folder(small_profile, tmp_path / "both"), Diary(tmp_path / "diary.txt")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=at_once, args=(work, own, diary)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=PATIENCE_S)
    assert [process.exitcode for process in processes] == [0, 0]
    waits = [(int(who), text) for who, what, text in diary.lines() if what == "waits"]
    written = [(who, where) for who, what, where in diary.lines() if what == "writes"]
    first = int(written[0][0])
    assert waits[0][0] != first and f"process {first} on " in waits[0][1], "who works is known"
    for place in PLACES:
        turns = [who for who, _ in itertools.groupby(who for who, where in written if place in where)]
        assert len(turns) == len(set(turns)), f"they take turns in {place}"
    assert [work(own) for work in works] == undisturbed
    runs = own.results_path / "runs"
    for folder in runs.iterdir() if runs.exists() else ():
        assert len({who for who, where in written if f"/{folder.name}/" in where}) == 1, "computed once"
        assert not {"parts", "state.safetensors"} & {path.name for path in folder.iterdir()}
