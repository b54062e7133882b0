"""What the miniature must show on held-out MiniPair before it can stand in for SD2-1, measured."""

from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.stores import LatentStore, VisionStore
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.pck import bootstrap_interval
from sd4match_lib.miniature.pretraining.caption import plain_caption
from sd4match_lib.training.train import train

_ALPHA, _DATASET = 0.1, "spair"


@dataclass(frozen=True)
class Finding:
    """One measured property.

    Attributes:
        name: what was measured.
        value: the measurement, with an interval where there is one.
        bar: what it is held against; 0 for measurements that only give context.
    """

    name: str
    value: float | Interval
    bar: float

    @property
    def met(self) -> bool:
        """Whether the value reaches the bar."""
        return (self.value.value if isinstance(self.value, Interval) else self.value) >= self.bar


def check_miniature(profile: Profile, *, steps: int = 400) -> list[Finding]:
    """Measures PCK@0.1 (nearest neighbour, test split), text influence, steerability and the vision model.

    Args:
        profile: a profile on the miniature.
        steps: how long the cross-attention input is tuned for steerability.

    Raises:
        UserError: weights or data are missing.
    """
    found = find_diffusion(profile.model, profile.cache_path)
    model = StableDiffusion.from_folder(found.folder, layers=(profile.features.layer,))
    latents = LatentStore(model, found, profile.model.image_hw, profile.cache_path)
    # All that the UNet takes from the text model, learned freely: not the paper's prompt, but its ceiling.
    free = {"space": "hidden", "length": model.text.length, "init": "empty"}
    tuned = train(profile, "single", dataset=_DATASET, options=free, steps=steps).prompt
    score = {
        "empty": _score(profile, prompt="empty"),
        "text": _score(profile, prompt="text"),
        "steered": _score(profile, prompt=tuned),
        "latents": _score(profile, extractor="raw_latents"),
        "pixels": _score(profile, extractor="raw_pixels"),
        "vision": _score(profile, extractor="dinov2"),
    }
    ratio = {name: score[name].value for name in score}
    return [
        Finding("PCK@0.1, empty prompt", score["empty"], 0.0),
        Finding("PCK@0.1, text prompt", score["text"], 0.20),
        Finding("PCK@0.1, raw latents", score["latents"], 0.0),
        Finding("text prompt over raw latents", ratio["text"] / ratio["latents"], 3.0),
        Finding(
            "influence of the text at the training timestep",
            _influence(profile, model, latents),
            0.10,
        ),
        Finding(f"PCK@0.1, cross-attention input tuned for {steps} steps", score["steered"], 0.0),
        Finding("steered over text prompt", ratio["steered"] / ratio["text"], 4 / 3),
        Finding("PCK@0.1, raw pixels", score["pixels"], 0.0),
        Finding("PCK@0.1, vision model", score["vision"], 0.0),
        Finding("vision model over raw pixels", ratio["vision"] / ratio["pixels"], 2.0),
        Finding("nearest-neighbour category accuracy of the vision model", _category_accuracy(profile), 0.90),
    ]


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


def _score(profile: Profile, **what: object) -> Interval:
    """PCK@0.1 of one run, per image, nearest neighbour."""
    result = evaluate(profile, dataset=_DATASET, matcher="nn", **what)  # type: ignore[arg-type]
    return bootstrap_interval(result.keypoints, _ALPHA, seed=profile.seed)


@torch.no_grad()
def _influence(profile: Profile, model: StableDiffusion, store: LatentStore) -> float:
    """Relative change of the normalised features from the empty to the text prompt, over the test images."""
    images = list(open_dataset(profile.dataset(_DATASET), "test").images().values())
    changes = []
    for record in images:
        contexts = [model.text.encode_prompt([text]) for text in ("", plain_caption(record.category))]
        both = [
            model.features(
                store.get([record]),
                [record.image_id],
                c,
                (profile.features.layer,),
                timestep=profile.features.train_timestep,
                seed=profile.seed,
            )[0]
            for c in contexts
        ]
        empty, text = (normalize(feature, dim=1) for feature in both)
        changes.append((text - empty).norm(dim=1).mean())
    return float(torch.stack(changes).mean())


def _category_accuracy(profile: Profile) -> float:
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
    return sum(hits) / len(hits)
