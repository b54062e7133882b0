"""The how-to page's memory table: a training step at SD2-1's true size, on tensors without content."""

import re
import weakref
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sd4match_lib.backbones.clip_text import ClipTextEncoder
from sd4match_lib.backbones.cut import cut_unet
from sd4match_lib.backbones.latents import Latents
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.stand_in import build_text_model, build_unet
from sd4match_lib.config.profile import load_profile
from sd4match_lib.matching.loss import matching_loss
from sd4match_lib.miniature.pretraining.networks import build_scheduler

PROJECT = Path(__file__).resolve().parent.parent
GIB = 2**30
ROW = re.compile(r"^\| (\d+) \| (no|yes) \| ([\d.]+) GiB \|", re.MULTILINE)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that live at a time, and their most."""

    def __init__(self):
        super().__init__()
        self.live = self.most = 0
        self.known = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage() not in self.known:
                storage, size = leaf.untyped_storage(), leaf.untyped_storage().nbytes()
                self.known[storage] = size
                self.live += size
                self.most = max(self.most, self.live)
                weakref.finalize(storage, self._free, size)
        return result

    def _free(self, size):
        self.live -= size


def step_memory(pairs, *, checkpoint_activations):
    """Weights that a step needs, and the most that lives beside them, in bytes."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            unet, text_model = build_unet(), build_text_model()
            cut_unet(unet, 1)
            vae = torch.nn.Module()
            vae.config = type("Config", (), {"scaling_factor": 0.18215})
            model = StableDiffusion(unet, vae, ClipTextEncoder(text_model, None), build_scheduler())
            weights = sum(
                w.numel() * w.element_size() for part in (unet, text_model) for w in part.parameters()
            )
            prompt = torch.zeros(
                pairs, 77, 1024, requires_grad=True
            )  # CPM's: one for both pictures of a pair
            latents = Latents(*torch.zeros(2, 2 * pairs, 4, 96, 96, dtype=torch.float32))
            points, valid = torch.zeros(pairs, 20, 2), torch.ones(pairs, 20, dtype=torch.bool)
            learning = model.learning(checkpoint_activations=checkpoint_activations)
            with learning, LiveBytes() as memory:
                context = model.text.encode_tokens(prompt).repeat(2, 1, 1)
                names = [str(index) for index in range(2 * pairs)]
                src, trg = model.features(latents, names, context, ["up_blocks.1"], timestep=261)[0].chunk(2)
                matching_loss(src, trg, points, points, valid).backward()
    finally:
        torch.set_default_dtype(torch.float32)
    return weights, memory.most


@pytest.fixture(scope="module")
def table():
    rows = ROW.findall((PROJECT / "docs/howto/paper_profile.md").read_text(encoding="utf-8"))
    return {(int(pairs), again == "yes"): float(gib) for pairs, again, gib in rows}


@pytest.mark.parametrize(("pairs", "again"), [(3, False), (9, True), (9, False)])
def test_the_memory_table_is_what_a_step_needs(table, pairs, again):
    assert table[pairs, again] == pytest.approx(
        sum(step_memory(pairs, checkpoint_activations=again)) / GIB, rel=0.03
    )


def test_the_paper_profile_trains_on_a_card_of_12_gb(table):
    training = load_profile("paper").training
    need = table[training.batch_size // training.accumulate, training.checkpoint_activations]
    # Beside the step: CUDA itself, work space, what the allocator cannot fill, DINOv2 and the VAE's encoder.
    assert need < 12e9 / GIB - 3


def test_bytes_are_counted_as_long_as_they_live():
    with LiveBytes() as memory:
        kept = torch.zeros(100, dtype=torch.float32)
        (kept + 1).add_(1)
        view = kept[:50]
    assert (memory.live, memory.most) == (400, 800) and view.shape == (50,)
