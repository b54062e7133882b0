"""A fault at every write in turn, as SQLite's tests do it; the next run ends as an undisturbed one.

Each write of a small evaluation and a small training fails once: the disk is full, the folder is not ours, or
the process is killed between the temporary file and its name. By default the kinds of faults take turns;
SD4MATCH_FAULTS=all tries each of them at each write.
"""

import errno
import os

import pytest
from small_runs import ALL, in_folder, run_evaluation, run_training

from sd4match_lib.errors import WriteError
from sd4match_lib.utils import files

DEAD = 2**22 + 1
"""A process number that no Linux gives."""

pytestmark = pytest.mark.slow

KINDS = ("full", "forbidden", "killed")


class Killed(BaseException):
    """What a killed process does not live to see; after it, nothing is written any more."""


class Faults:
    """The atomic writer, whose n-th write fails."""

    def __init__(self, monkeypatch, at, kind):
        self.writes, self._at, self._kind = 0, at, kind
        self._replace = files._replace
        monkeypatch.setattr(files, "_replace", self._write)
        files._SWEPT.clear()

    def _write(self, target, data):
        self.writes += 1
        if self._kind == "killed" and self.writes >= self._at > 0:
            if self.writes == self._at:
                name = f"{files._TEMPORARY}{files._host()}-{DEAD}-x.tmp"
                (target.parent / name).write_bytes(data[: len(data) // 2])
            raise Killed
        if self.writes == self._at:
            code = errno.ENOSPC if self._kind == "full" else errno.EACCES
            raise OSError(code, os.strerror(code), str(target))
        self._replace(target, data)


@pytest.mark.parametrize("work", [run_evaluation, run_training], ids=["evaluate", "train"])
def test_after_a_fault_at_any_write_the_next_run_ends_as_an_undisturbed_one(work, small_profile, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        counted = Faults(patch, at=0, kind="none")
        undisturbed = work(in_folder(small_profile, tmp_path / "undisturbed"))
    assert counted.writes > 8, "every write goes through the atomic writer"
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
    assert outcomes["said"] and outcomes["killed"] and outcomes["went on"], outcomes
