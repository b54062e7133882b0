"""Evaluation over several processes, as `accelerate launch` starts them: two on the CPU, through gloo."""

import os
import pickle
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from processes import accelerate
from test_evaluate import PairPrompt, models, profile, run
from threads import threads

from sd4match_lib.evaluation import pairs as pair_matching
from sd4match_lib.metrics.keypoints import read_keypoints
from sd4match_lib.runs.distributed import ProcessGroup, current_group
from sd4match_lib.runs.record import RunRecord

__all__ = ["models", "profile"]

SCRIPT = """
import os, pickle, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from test_evaluate import PairPrompt
from sd4match_lib.evaluation import evaluate
from sd4match_lib.evaluation import pairs as pair_matching
pair_matching.PART_PAIRS = 2
matched = []
plain = pair_matching.score_pair
pair_matching.score_pair = lambda pair, *rest: matched.append(pair.pair_id) or plain(pair, *rest)
profile = pickle.load(open({profile!r}, "rb"))
for request in ({{"matcher": "nn"}}, {{"matcher": "nn", "prompt": PairPrompt()}}):
    matched.clear()
    result = evaluate.evaluate(profile, dataset="own", device="cpu", **request)
    # One write a line: the processes share one pipe, and a line in pieces mixes with another's.
    said = f"rank {{os.environ['RANK']}} rows {{len(result.keypoints)}} matched {{len(matched)}}\\n"
    os.write(1, said.encode())
"""


def launch(script: Path, processes: int) -> str:
    command = [*accelerate(processes), str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_write_one_run_with_the_rows_of_one(profile, tmp_path, monkeypatch):
    path = tmp_path / "profile.pickle"
    path.write_bytes(pickle.dumps(profile))
    script = tmp_path / "evaluate.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), profile=str(path)))
    said = sorted(line.split() for line in launch(script, 2).splitlines() if line.startswith("rank"))
    rows = said[0][3]
    # Ten pairs in five parts: 4 pairs to the first process and 6 to the second, in each of the two runs.
    assert [line[1] for line in said] == ["0", "0", "1", "1"] and {line[3] for line in said} == {rows}
    assert [line[5] for line in said] == ["4", "4", "6", "6"]

    folders = [found.parent for found in Path(profile.results_dir).glob("runs/*/run.json")]
    assert len(folders) == 2
    monkeypatch.setattr(pair_matching, "PART_PAIRS", 2)
    with threads(1):
        for folder, prompt in [("text", "text"), ("toy", PairPrompt())]:
            (shared,) = [found for found in folders if folder in found.name]
            record = RunRecord.read(shared / "run.json")
            assert record.status == "complete" and record.metrics["processes"] == 2
            assert not (shared / "parts").exists()
            alone = run(profile, matcher="nn", prompt=prompt, results_dir=tmp_path / "alone")
            pd.testing.assert_frame_equal(read_keypoints(shared / "keypoints.parquet"), alone.keypoints)
            assert alone.record.run_id == record.run_id and alone.record.metrics["processes"] == 1
            assert record.metrics["unet_passes"] >= alone.record.metrics["unet_passes"]


def test_without_a_launcher_there_is_a_team_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = current_group("cpu")
    assert (group.rank, group.size, group.main) == (0, 1, True)
    assert group.broadcast("word") == "word" and group.gather_sum(3) == 3 and group.share_of(5) == range(5)
    assert str(group.device("cpu")) == "cpu"
    group.barrier()


def test_shares_are_neighbours_and_cover_everything():
    group = ProcessGroup()
    for size in (1, 2, 3, 7):
        shares = []
        for rank in range(size):
            group.rank, group.size = rank, size
            shares.append(group.share_of(10))
        assert [place for share in shares for place in share] == list(range(10))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
