"""A fault at every write in turn, as SQLite's tests do it; the next run ends as an undisturbed one.

Each write of a small evaluation and a small training fails once: the disk is full, the folder is not ours, or
the process is killed between the temporary file and its name. By default the kinds of faults take turns;
SD4MATCH_FAULTS=all tries each of them at each write.
"""

import dataclasses
import errno
import json
import os

import layouts
import pytest
import tiny

from sd4match_lib.config.profile import load_profile
from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.errors import WriteError
from sd4match_lib.utils import files

ALL = os.environ.get("SD4MATCH_FAULTS") == "all"
DEAD = 2**22 + 1
"""A process number that no Linux gives."""

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


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny.write_profile(tmp_path_factory.mktemp("models"))


@pytest.fixture
def profile(models, tmp_path):
    """Two pairs of one's own for every split, on tiny models; results and cache are the test's."""
    for seed, name in enumerate(("a.png", "b.png")):
        layouts.write_picture(tmp_path / "data" / name, (64, 64), seed=seed)
    points = {"src_points": [[5, 6], [40, 30]], "trg_points": [[9, 9], [44, 31]]}
    pairs = [{"src": "a.png", "trg": "b.png", **points}, {"src": "b.png", "trg": "a.png", **points}]
    (tmp_path / "data" / "pairs.json").write_text(json.dumps(pairs))
    loaded = load_profile(models)
    own = DatasetConfig(kind="own", root=str(tmp_path / "data" / "pairs.json"))
    training = dataclasses.replace(
        loaded.training, steps=2, batch_size=1, validate_every=1, validation_pairs=1
    )
    return dataclasses.replace(loaded, datasets={"own": own}, training=training)


def in_folder(profile, folder):
    return dataclasses.replace(profile, results_dir=str(folder / "results"), cache_dir=str(folder / "cache"))


def run_evaluation(profile):
    from sd4match_lib.evaluation.evaluate import evaluate

    result = evaluate(profile, dataset="own", device="cpu")
    return (result.folder / "keypoints.parquet").read_bytes()


def run_training(profile):
    from sd4match_lib.prompts.prompt_file import weights_hash
    from sd4match_lib.training.train import train

    result = train(profile, "single", dataset="own", device="cpu", options={"length": 4})
    log = [line.split(",") for line in (result.folder / "log.csv").read_text().splitlines()]
    return weights_hash(result.prompt.state_dict()), [
        [row[0], *row[2:]] for row in log
    ]  # without the seconds


@pytest.mark.parametrize("work", [run_evaluation, run_training], ids=["evaluate", "train"])
def test_after_a_fault_at_any_write_the_next_run_ends_as_an_undisturbed_one(work, profile, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        counted = Faults(patch, at=0, kind="none")
        undisturbed = work(in_folder(profile, tmp_path / "undisturbed"))
    assert counted.writes > 8, "every write goes through the atomic writer"
    outcomes = dict.fromkeys(("said", "killed", "went on"), 0)
    for at in range(1, counted.writes + 1):
        for kind in KINDS if ALL else [KINDS[at % len(KINDS)]]:
            own = in_folder(profile, tmp_path / f"{at}-{kind}")
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
