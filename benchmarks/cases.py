"""What is timed: each case prepares its models and data, and returns the work to be repeated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sd4match_lib.analysis.prompts import untrained_prompt
from sd4match_lib.config.names import MATCHERS
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.data.types import PairDataset
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.extractors import DiffusionSource
from sd4match_lib.features.loaded import forget_models
from sd4match_lib.features.methods import method_settings
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matching.points import match_points
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.training.objective import pair_loss
from sd4match_lib.utils.files import scratch_folder

PAIRS = 54
"""Pairs of a timed evaluation."""
MATCHED = 100
"""Pairs of a timed matching, ten at a time."""


@dataclass(frozen=True)
class Setting:
    """Where cases run.

    Attributes:
        profile: the experiment; its first dataset's pictures are read.
        device: where.
        batch: pairs at a time.
    """

    profile: Profile
    device: torch.device
    batch: int

    def pairs(self, split: str = "test") -> PairDataset:
        """Return the pairs of a split of SPair-71k's layout."""
        return open_dataset(self.profile.dataset("spair"), split)

    def source(self, prompt: Prompt | str, *, training: bool = False) -> DiffusionSource:
        """Return the diffusion model's features under a prompt, at the test or the training timestep."""
        numbers = {"timestep": self.profile.features.train_timestep, "ensemble": 1} if training else {}
        models = MethodModels(self.profile, method_settings(self.profile, "sd", **numbers), prompt)
        source = models.load(self.device, 0)
        assert isinstance(source, DiffusionSource)
        return source


@dataclass(frozen=True)
class Work:
    """What is repeated, and how many things one repetition does.

    Attributes:
        run: the work.
        things: how many of `unit` one repetition does.
        unit: "picture", "pair", "step", "evaluation" or "click".
    """

    run: Callable[[], object]
    things: int
    unit: str


def features_of_pictures(setting: Setting) -> Work:
    """UNet features under the text prompt; latents are ready."""
    records = list(setting.pairs().images().values())[: setting.batch]
    source = setting.source("text")
    source.prepare(records)
    return Work(_without_gradients(lambda: source.extract(records)), len(records), "picture")


def cpm_pairs(setting: Setting) -> Work:
    """UNet features of pairs under CPM prompts; latents and vision tokens are ready."""
    pairs = setting.pairs()[: setting.batch]
    source = setting.source(untrained_prompt(setting.profile, "cpm"))
    for pair in pairs:
        source.prepare([pair.src, pair.trg])
    return Work(_without_gradients(lambda: source.extract_pairs(pairs)), len(pairs), "pair")


def encode_pictures(setting: Setting) -> Work:
    """The VAE's encoder."""
    source = setting.source("text")
    images = torch.zeros(setting.batch, 3, *setting.profile.model.image_hw)
    return Work(lambda: source.model.encode(images), len(images), "picture")


def training_step(kind: str) -> Callable[[Setting], Work]:
    """A step's forward and backward pass for one kind of prompt."""

    def prepare(setting: Setting) -> Work:
        config = setting.profile.training
        pairs = setting.pairs("train")[: setting.batch]
        prompt = untrained_prompt(setting.profile, kind).requires_grad_(True)
        source = setting.source(prompt, training=True)
        for pair in pairs:
            source.prepare([pair.src, pair.trg])

        def step() -> None:
            prompt.zero_grad()
            with source.model.learning(checkpoint_activations=config.checkpoint_activations):
                hw_in = setting.profile.model.image_hw
                pair_loss(source, pairs, config, hw_in=hw_in, seed=0).backward()

        return Work(step, len(pairs), "pair")

    return prepare


def matching(setting: Setting) -> Work:
    """All four matchers on `MATCHED` pairs of 12 keypoints: 640 channels on a 48 x 48 grid."""
    generator = torch.Generator().manual_seed(0)
    src, trg = torch.randn(2, 10, 640, 48, 48, generator=generator).to(setting.device)
    points = 47 * torch.rand(10, 12, 2, generator=generator).to(setting.device)

    def run() -> None:
        for matcher in MATCHERS:
            for _ in range(MATCHED // 10):
                match_points(src, trg, points, matcher=matcher)

    return Work(_without_gradients(run), MATCHED, "pair")


def evaluation(prompt: str, *, cold: bool) -> Callable[[Setting], Work]:
    """A whole evaluation: cold without models in memory and latents on disk, warm with both."""

    def prepare(setting: Setting) -> Work:
        profile, device = setting.profile, str(setting.device)
        asked = untrained_prompt(profile, prompt) if prompt == "cpm" else prompt

        def run() -> None:
            with scratch_folder() as scratch:
                at = dataclasses.replace(profile, cache_dir=f"{scratch}/cache") if cold else profile
                if cold:
                    forget_models()
                evaluate(
                    at, dataset="spair", prompt=asked, max_pairs=PAIRS, device=device, results_dir=scratch
                )

        return Work(run, 1, "evaluation")

    return prepare


def click(setting: Setting) -> Work:
    """A further point in a pair that has been matched before."""
    pair = setting.pairs()[0]
    matcher = Matcher.from_profile(setting.profile, prompt="empty", device=str(setting.device))
    return Work(lambda: matcher.match(pair.src, pair.trg, [pair.src_px[0]], maps=True), 1, "click")


CASES: dict[str, Callable[[Setting], Work]] = {
    "encode": encode_pictures,
    "features, text": features_of_pictures,
    "features, CPM": cpm_pairs,
    "training, Single": training_step("single"),
    "training, Class": training_step("class"),
    "training, CPM": training_step("cpm"),
    "matching": matching,
    "evaluate, text, cold": evaluation("text", cold=True),
    "evaluate, text, warm": evaluation("text", cold=False),
    "evaluate, CPM, warm": evaluation("cpm", cold=False),
    "click, warm": click,
}


def _without_gradients(work: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            work()

    return run
