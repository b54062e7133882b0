"""A fault at every write in turn, as SQLite's tests do it; the next run ends as an undisturbed one.

Each write of a small run of each command fails once: the disk is full, the folder is not ours, or the process
is killed between the temporary file and its name. By default the kinds of faults take turns;
SD4MATCH_FAULTS=all tries each of them at each write.
"""

import errno
import functools
import os

import pytest
from small_runs import (
    ALL,
    in_folder,
    run_evaluation,
    run_match,
    run_pretrain,
    run_render,
    run_reproduce,
    run_score,
    run_training,
)

from sd4match_lib.errors import WriteError
from sd4match_lib.utils import files

DEAD = 2**22 + 1
"""A process number that no Linux gives."""

pytestmark = pytest.mark.slow

KINDS = ("full", "forbidden", "killed")


class Killed(BaseException):
    """What a killed process does not live to see; after it, nothing is written any more."""


class Faults:
    """The writing layer, whose n-th write fails."""

    def __init__(self, monkeypatch, at, kind):
        self.writes, self._at, self._kind = 0, at, kind
        for name, half in (("_replace", self._leftover), ("_write", lambda target: target)):
            whole = getattr(files, name)
            monkeypatch.setattr(files, name, functools.partial(self._fail_at, whole, half))
        files._SWEPT.clear()

    def _fail_at(self, whole, half, target, data):
        self.writes += 1
        if self._kind == "killed" and self.writes >= self._at > 0:
            if self.writes == self._at:
                half(target).write_bytes(data[: len(data) // 2])
            raise Killed
        if self.writes == self._at:
            code = errno.ENOSPC if self._kind == "full" else errno.EACCES
            raise OSError(code, os.strerror(code), str(target))
        whole(target, data)

    def _leftover(self, target):
        return target.parent / f"{files._TEMPORARY}{files._host()}-{DEAD}-x.tmp"


WORKS = {
    "evaluate": (run_evaluation, 9),
    "train": (run_training, 9),
    "score": (run_score, 4),
    "match": (run_match, 3),
    "reproduce": (run_reproduce, 20),
    "render": (run_render, 20),
    "pretrain": (run_pretrain, 8),
}
"""What is run, and how many writes of it there are at least, so that none goes past what fails here."""


@pytest.mark.parametrize(("work", "least"), WORKS.values(), ids=WORKS)
def test_after_a_fault_at_any_write_the_next_run_ends_as_an_undisturbed_one(
    work, least, small_profile, tmp_path
):
    with pytest.MonkeyPatch.context() as patch:
        counted = Faults(patch, at=0, kind="none")
        undisturbed = work(in_folder(small_profile, tmp_path / "undisturbed"))
    assert counted.writes >= least, "every write goes through the writing layer"
    outcomes = dict.fromkeys(("said", "killed", "went on"), 0)
    for at in range(1, counted.writes + 1):
        for kind in KINDS if ALL else [KINDS[at % len(KINDS)]]:
            own = in_folder(small_profile, tmp_path / f"{at}-{kind}")
            with pytest.MonkeyPatch.context() as patch:
                Faults(patch, at, kind)
                try:
                    assert work(own) == undisturbed, "what does without a write is not harmed by its failure"
                    outcomes["went on"] += 1
                except WriteError as error:
                    assert str(error).isprintable() and kind != "killed"
                    outcomes["said"] += 1
                except Killed:
                    outcomes["killed"] += 1
            files._SWEPT.clear()
            assert work(own) == undisturbed, f"write {at}, {kind}"
            left = [path.name for path in (tmp_path / f"{at}-{kind}").rglob("*.tmp")]
            assert not left, f"write {at}, {kind}: {left}"
    assert outcomes["said"] and outcomes["killed"], outcomes
    # An evaluation and a training do without the files that only save time.
    assert outcomes["went on"] or work not in (run_evaluation, run_training), outcomes
