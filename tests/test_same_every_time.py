"""The same request gives the same prompt, bit for bit, in every run on one machine."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from threads import threads

from sd4match_lib.config.profile import load_profile
from sd4match_lib.prompts.base import PromptBatch
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.reproduce.prepare import prepare_data

WIDTH, ROWS = 16, 96  # enough that torch shares the rows between threads


@pytest.fixture
def two_threads():
    with threads(2):
        yield


@pytest.mark.parametrize("space", ["tokens", "hidden"])
@pytest.mark.parametrize("kind", ["single", "class"])
def test_a_prompt_that_a_batch_repeats_has_one_gradient(encoder, two_threads, kind, space):
    length = 75 if space == "tokens" else 77
    prompt = (
        SinglePrompt(WIDTH, length=length, space=space)
        if kind == "single"
        else ClassPrompt(WIDTH, ["cat", "dog"], length=length, space=space)
    )
    prompt.initialise(encoder, 0)
    batch = PromptBatch(tuple(map(str, range(ROWS))), ("cat", "cat", "dog") * (ROWS // 3))
    slope = torch.randn(ROWS, 77, WIDTH, generator=torch.Generator().manual_seed(0))
    gradients = []
    for _ in range(20):
        prompt.zero_grad()
        (prompt.context(batch, encoder) * slope).sum().backward()
        gradients.append(prompt.theta.grad.clone())
    assert float(gradients[0].abs().sum()) > 0
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


# Trains every kind of prompt in both precisions, and says nothing: what it leaves is compared.
TRAIN_ALL = """
import dataclasses, sys

from sd4match_lib.config.profile import load_profile
from sd4match_lib.training.train import train

smoke = load_profile("smoke")
for precision in ("model", "bfloat16"):
    few = dataclasses.replace(smoke.training, steps=2, validation_pairs=1)
    profile = dataclasses.replace(smoke, training=dataclasses.replace(few, precision=precision))
    for kind in ("single", "class", "cpm"):
        train(profile, kind, results_dir=f"{sys.argv[1]}/{precision}-{kind}", device="cpu")
"""


@pytest.mark.slow
def test_a_training_gives_the_same_prompt_in_another_process_on_two_threads(tmp_path):
    prepare_data(load_profile("smoke"))
    # Threads that wait must not keep a core from those that work.
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    for name in "ab":
        command = [sys.executable, "-c", TRAIN_ALL, str(tmp_path / name)]
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    first = {
        path.relative_to(tmp_path / "a"): path for path in tmp_path.glob("a/*/runs/*/prompt.safetensors")
    }
    assert len(first) == 6
    for where, path in first.items():
        one, other = load_file(path), load_file(tmp_path / "b" / where)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), where
