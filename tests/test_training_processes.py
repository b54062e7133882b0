"""Training as processes: killed and gone on with, or shared by two."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import tiny
from processes import accelerate
from safetensors.torch import load_file

from sd4match_lib.config.profile import load_profile
from sd4match_lib.reproduce.prepare import prepare_data


def command(*arguments):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SD4MATCH_HEADLESS": "1"}
    return [sys.executable, "-m", "sd4match_lib", *arguments], env


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """Of tiny models on MiniPair, as a file."""
    prepare_data(load_profile("smoke"))
    path = tiny.write_profile(tmp_path_factory.mktemp("tiny"))
    pairs = "[datasets.spair.max_pairs]\ntrain = 12\nval = 4\n"
    training = "[training]\nbatch_size = 2\nvalidate_every = 20\nvalidation_pairs = 4\n"
    path.write_text(path.read_text() + pairs + training)
    return str(path)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_prompt_bit_for_bit(tmp_path, profile):
    arguments = ["train", "--prompt", "cpm", "--profile", profile, "--steps", "60"]
    straight, env = command(*arguments, "--results", str(tmp_path / "a"))
    subprocess.run(straight, env=env, check=True, capture_output=True)
    killed, _ = command(*arguments, "--results", str(tmp_path / "b"))
    process = subprocess.Popen(killed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("b/runs/*/state.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (record,) = tmp_path.glob("b/runs/*/run.json")
    assert json.loads(record.read_text())["status"] == "running"
    subprocess.run(killed, env=env, check=True, capture_output=True)
    one, other = (next(tmp_path.glob(f"{name}/runs/*")) for name in "ab")
    prompts = [(folder / "prompt.safetensors").read_bytes() for folder in (one, other)]
    assert prompts[0] == prompts[1]
    logs = [pd.read_csv(folder / "log.csv").drop(columns="seconds") for folder in (one, other)]
    pd.testing.assert_frame_equal(*logs)


# Python runs a module of this name first: Adam then keeps the gradients of its first step. Prompts after
# a step tell little of them, as Adam's first steps depend on signs alone.
KEEP_GRADIENTS = """
import os

import torch
from safetensors.torch import save_file


class Adam(torch.optim.Adam):
    def step(self, closure=None):
        path = os.environ["GRADIENTS"]
        if os.environ.get("RANK", "0") == "0" and not os.path.exists(path):
            parameters = [p for group in self.param_groups for p in group["params"]]
            save_file({str(i): p.grad.clone() for i, p in enumerate(parameters)}, path)
        return super().step(closure)


torch.optim.Adam = Adam
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, profile):
    (tmp_path / "sitecustomize.py").write_text(KEEP_GRADIENTS)
    tail = ["train", "--prompt", "cpm", "--profile", profile, "--steps", "3"]
    alone, env = command(*tail, "--results", str(tmp_path / "a"))
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    subprocess.run(
        alone, check=True, capture_output=True, env=env | {"GRADIENTS": str(tmp_path / "a.safetensors")}
    )
    both = [*accelerate(2), "-m", "sd4match_lib", *alone[alone.index("train") :]]
    both[both.index(str(tmp_path / "a"))] = str(tmp_path / "b")
    env["GRADIENTS"] = str(tmp_path / "b.safetensors")
    done = subprocess.run(both, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (next(tmp_path.glob(f"{name}/runs/*")) for name in "ab")
    assert one.name == other.name
    record = json.loads((other / "run.json").read_text())
    assert record["metrics"]["processes"] == 2 and done.stdout.count("prompt:") == 1
    assert load_file(one / "prompt.safetensors").keys() == load_file(other / "prompt.safetensors").keys()
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert len(first) == len(second) > 3
    for name, gradient in first.items():
        assert float((second[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) > 0, name
    rows = [list(csv.DictReader((folder / "log.csv").open())) for folder in (one, other)]
    for left, right in zip(*rows, strict=True):
        assert float(left["loss"]) == pytest.approx(float(right["loss"]), rel=1e-4)
