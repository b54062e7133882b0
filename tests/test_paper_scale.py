"""The `paper` profile's path at its true size: SD2-1's and DINOv2's shapes, random weights, 768 x 768, bf16.

Takes some minutes on two cores and 6 GB: SD4MATCH_PAPER_SCALE=1 asks for it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.stand_in import write_stand_in
from sd4match_lib.config.profile import load_profile
from sd4match_lib.reproduce.prepare import prepare_data

PROJECT = Path(__file__).resolve().parent.parent
MOST_MB = 20_000


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A profile like paper's on models of SD2-1's and DINOv2's shapes, which know nothing."""
    prepare_data(load_profile("mini"))
    return write_stand_in(tmp_path_factory.mktemp("paper"), PROJECT / "data" / "minipair" / "SPair-71k")


def launch(*arguments):
    """Run the command as `accelerate launch` starts it; returns what it printed."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--cpu"]
    command += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "-m",
        "sd4match_lib",
    ]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(
    os.environ.get("SD4MATCH_PAPER_SCALE") != "1", reason="set SD4MATCH_PAPER_SCALE=1: some minutes and 6 GB"
)
def test_cpm_is_learned_and_evaluated_at_full_size(stand_in):
    said = launch("train", "--profile", stand_in, "--prompt", "cpm")
    prompt = next(line for line in said.splitlines() if line.startswith("prompt: ")).removeprefix("prompt: ")
    launch("evaluate", "--profile", stand_in, "--dataset", "spair", "--prompt", prompt)
    records = [json.loads(path.read_text()) for path in (stand_in.parent / "results").glob("runs/*/run.json")]
    peaks = {record["name"]: record["peak_memory_mb"]["host"] for record in records}
    assert len(records) == 2 and all(record["status"] == "complete" for record in records), records
    for record in records:
        sys.stdout.write(f"{record['name']}: {record['wall_s']:.0f} s, {peaks[record['name']]:.0f} MB\n")
    assert max(peaks.values()) < MOST_MB
