"""A training step never waits for the device: shown on the device "meta", whose tensors have no content.

Whatever would read a number back from it raises, and what is copied to it is seen by `Copies`.
"""

import contextlib
import dataclasses

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.loaded import forget_models
from sd4match_lib.features.methods import method_settings
from sd4match_lib.prompts.factory import new_prompt
from sd4match_lib.reproduce.prepare import prepare_data
from sd4match_lib.runs.distributed import ProcessGroup
from sd4match_lib.training import loop

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes the operations that carry a tensor from the CPU to the device while the program waits."""

    def __init__(self):
        super().__init__()
        self.sent, self.waited = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = [leaf for leaf in args if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu"]
        there = isinstance(result, torch.Tensor) and result.device == META
        # A number as a tensor of the CPU is an argument of the kernel, not a copy.
        if there and any(leaf.ndim for leaf in given):
            self.sent += 1
            if not kwargs.get("non_blocking"):
                self.waited.append(str(func))
        return result


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    smoke = load_profile("smoke")
    prepare_data(smoke)
    profile = load_profile(tiny.write_profile(tmp_path_factory.mktemp("tiny")))
    training = dataclasses.replace(smoke.training, accumulate=2, distance_weight=1.0)
    return dataclasses.replace(profile, datasets=smoke.datasets, training=training)


def task_of(profile, kind, folder):
    pairs = open_dataset(profile.dataset("spair"), "train")
    prompt = new_prompt(kind, profile, pairs.categories, {})
    forget_models()  # what one test sends to "meta" is lost to the next
    settings = method_settings(profile, "sd", timestep=261, ensemble=1, matcher="nn")
    source = MethodModels(profile, settings, prompt).load(torch.device("cpu"), 0)
    prompt.requires_grad_(True).initialise(source.model.text, 0)
    for pair in pairs[:3]:
        source.prepare([pair.src, pair.trg])
    config = dataclasses.replace(profile.training, steps=1)
    return loop.Task(prompt, source, pairs, config, profile.model.image_hw, 0, folder)


@pytest.mark.parametrize("kind", ["single", "class", "cpm"])
def test_a_step_reads_nothing_back_and_sends_without_waiting(profile, kind, tmp_path, monkeypatch, request):
    task = task_of(profile, kind, tmp_path)
    request.addfinalizer(forget_models)
    model = task.source.model
    assert isinstance(model, StableDiffusion)
    for module in (model.denoiser, model.text.model, task.prompt):
        module.to(META)
    # Only a GPU has pinned memory, and mixed precision is not for "meta".
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch, "autocast", lambda *_args, **_settings: contextlib.nullcontext())
    monkeypatch.setattr(
        "sd4match_lib.data.record.sha256_file", lambda path: pytest.fail(f"{path} is read in a step")
    )
    optimizer = torch.optim.Adam(task.prompt.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with Copies() as copies:
        loss = loop._step(task, ProcessGroup(), [0, 1, 2], optimizer, scaler, 0, 2)
    assert loss.device == META and loss.shape == ()
    assert all(parameter.grad.device == META for parameter in task.prompt.parameters())
    # Noised latents and three tensors of points for each of two parts, and for CPM the patches of two sides.
    assert copies.waited == [] and copies.sent == (12 if kind == "cpm" else 8)


def test_copies_that_wait_are_seen():
    with Copies() as copies:
        torch.arange(3).to(META)
        torch.zeros(3).to(META, non_blocking=True)
    assert copies.sent == 2 and copies.waited == ["aten._to_copy.default"]
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros((), device=META).item()
