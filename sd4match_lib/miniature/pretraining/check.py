"""What the miniature must show on held-out data before it can stand in for SD2-1, measured."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from scipy.stats import binomtest
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from sd4match_lib.analysis.prompts import load_text_encoder, untrained_prompt
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.stores import VisionStore
from sd4match_lib.matcher.drawing import save_picture
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.pck import bootstrap_interval
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining.caption import plain_caption
from sd4match_lib.miniature.pretraining.diffusion import DiffusionProbe, Teachers
from sd4match_lib.miniature.pretraining.judge import held_out_accuracy, trained_judge
from sd4match_lib.miniature.pretraining.samples import sample_pictures
from sd4match_lib.training.train import train

_ALPHA, _DATASET = 0.1, "spair"
_PROMPTS, _SEEDS = ("single", "class", "cpm"), (0, 1, 2)
_PAINTINGS = 20
"""Of each category."""


@dataclass(frozen=True)
class Finding:
    """One measured property.

    Attributes:
        name: what was measured.
        value: the measurement, with an interval where there is one.
        bar: what it is held against; 0 for measurements that are reported as found.
    """

    name: str
    value: float | Interval
    bar: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the value reaches the bar."""
        return (self.value.value if isinstance(self.value, Interval) else self.value) >= self.bar


def check_miniature(profile: Profile, folder: Path, *, steps: int) -> list[Finding]:
    """Measures paintings, fixed prompts, the vision model, learned prompts and free tuning; PCK@0.1 by
    nearest neighbour on the test split.

    Args:
        profile: a profile on the miniature.
        folder: the recipe's working folder, for the judge and the renders it learns from.
        steps: how long the hidden context is tuned freely.

    Raises:
        UserError: weights or data are missing.
    """
    return [
        *check_paintings(profile, folder, _PAINTINGS),
        *_fixed_prompts(profile),
        *_vision(profile),
        *_learned_prompts(profile),
        _free_tuning(profile, steps),
    ]


def check_paintings(profile: Profile, folder: Path, each: int) -> list[Finding]:
    """Has the judge name `each` paintings of every category, and measures how they differ.

    Writes `folder/paintings.jpg`: a row for each category, in half size.
    """
    judge = trained_judge(folder)
    model = find_diffusion(profile.model, profile.cache_path).folder
    named, nearest, tints, rows = [], [], [], []
    for category in CATEGORIES:
        pictures = sample_pictures(model, [plain_caption(category)] * each)
        images = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        named.append(sum(name == category for name in judge.names(pictures)))
        rows.append(np.hstack(list(images[:, ::2, ::2].numpy())))
        flat = images.float().flatten(1) / 255
        apart = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
        nearest.append(float(apart.fill_diagonal_(torch.inf).min()))
        tints.append(float(images.float().mean(dim=(1, 2)).std(dim=0).mean()))
    save_picture(Image.fromarray(np.vstack(rows)), folder / "paintings.jpg")
    return [
        Finding("held-out renders named right by the judge", held_out_accuracy(judge), 0.97),
        Finding(f"paintings named right, {each} a category", _share(sum(named), each * len(named)), 0.75),
        Finding("the same, the category that is worst", _share(min(named), each)),
        Finding("closest two paintings of a category, RMS of [0, 1]", min(nearest)),
        Finding("deviation of a category's mean colours, of 255", fmean(tints)),
    ]


def _fixed_prompts(profile: Profile) -> list[Finding]:
    """Latents, empty and text prompt on the test split, the full caption on the probe."""
    latents = _score(profile, extractor="raw_latents")
    found = [Finding("PCK, latents", latents)]
    for timestep in (50, 261):
        for prompt in ("empty", "text"):
            score = _score(profile, prompt=prompt, timestep=timestep)
            found.append(Finding(f"PCK, {prompt} prompt, t = {timestep}", score))
            if prompt == "text" and timestep == 50:
                ratio = score.value / latents.value
                found.append(Finding("text prompt over latents, t = 50", ratio, 3.0))
    folder = find_diffusion(profile.model, profile.cache_path).folder
    teachers = Teachers(
        AutoencoderKL.from_pretrained(folder, subfolder="vae").float(),
        CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").float(),
        CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
    )
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").float().eval()
    probe = DiffusionProbe(teachers, unet, torch.device("cpu"))()
    shown = ("pck_latents", "pck_text_50", "pck_full_50", "pck_text_261", "pck_full_261", "influence")
    return [*found, *(Finding(f"probe: {name.replace('_', ' ')}", probe[name]) for name in shown)]


def _vision(profile: Profile) -> list[Finding]:
    """The vision model's patches and pixels on the test split, and its accuracy by category."""
    pixels, patches = _score(profile, extractor="raw_pixels"), _score(profile, extractor="dinov2")
    return [
        Finding("PCK, pixels", pixels),
        Finding("PCK, vision model", patches),
        Finding("vision model over pixels", patches.value / pixels.value, 2.0),
        Finding("nearest-neighbour category accuracy of the vision model", _category_accuracy(profile)),
    ]


def _learned_prompts(profile: Profile) -> list[Finding]:
    """Each learned prompt beside what its trainings started from."""
    found = []
    for kind in _PROMPTS:
        for seed in _SEEDS:
            start = untrained_prompt(profile, kind, dataset=_DATASET, seed=seed)
            found.append(Finding(f"PCK, {kind}, seed {seed}, untrained", _score(profile, prompt=start)))
            learned = train(profile, kind, dataset=_DATASET, seed=seed).prompt
            found.append(Finding(f"PCK, {kind}, seed {seed}, trained", _score(profile, prompt=learned)))
    return found


def _free_tuning(profile: Profile, steps: int) -> Finding:
    """All that the UNet takes from the text model, learned freely: no prompt of the paper's, its ceiling."""
    options = {"space": "hidden", "length": load_text_encoder(profile).length, "init": "empty"}
    tuned = train(profile, "single", dataset=_DATASET, options=options, steps=steps).prompt
    return Finding(f"PCK, hidden context tuned freely for {steps} steps", _score(profile, prompt=tuned))


def format_findings(findings: list[Finding]) -> str:
    """One line a finding: value, bar and whether it is met (findings without a bar are for reference)."""
    lines = []
    for finding in findings:
        value = finding.value
        shown = (
            f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"
            if isinstance(value, Interval)
            else f"{value:.3f}"
        )
        verdict = (
            "" if finding.bar == 0 else f"  bar {finding.bar:.2f}: {'met' if finding.met else 'NOT met'}"
        )
        lines.append(f"{finding.name:62s} {shown}{verdict}")
    return "\n".join(lines) + "\n"


def with_weights(profile: Profile, weights: Path) -> Profile:
    """The profile on another miniature's weights: a folder with `diffusion/` and `vision/`."""
    model = replace(profile.model, sources=(str((weights / "diffusion").absolute()),))
    vision = replace(profile.vision, sources=(str((weights / "vision").absolute()),))
    return replace(profile, model=model, vision=vision, results_dir=str((weights / "check").absolute()))


def _score(profile: Profile, **what: object) -> Interval:
    """PCK@0.1 of one run, per image, nearest neighbour."""
    result = evaluate(profile, dataset=_DATASET, matcher="nn", **what)  # type: ignore[arg-type]
    return bootstrap_interval(result.keypoints, _ALPHA, seed=profile.seed)


def _share(hits: int, tries: int) -> Interval:
    """A share with Wilson's 95 % interval."""
    found = binomtest(hits, tries).proportion_ci(method="wilson")
    return Interval(hits / tries, found.low, found.high)


def _category_accuracy(profile: Profile) -> Interval:
    """How often a test picture's nearest training picture, by CLS descriptor, has its category."""
    found = find_vision(profile.vision, profile.cache_path)
    store = VisionStore(VisionFeatures.from_folder(found.folder, profile.vision), found, profile.cache_path)
    names, descriptors = [], []
    for split in ("train", "test"):
        records = list(open_dataset(profile.dataset(_DATASET), split).images().values())
        names.append([record.category for record in records])
        descriptors.append(normalize(torch.cat([store.get([record]).cls for record in records]), dim=1))
    nearest = (descriptors[1] @ descriptors[0].T).argmax(dim=1).tolist()
    hits = [names[0][i] == category for i, category in zip(nearest, names[1], strict=True)]
    return _share(sum(hits), len(hits))
