"""The parts of a profile: which models, which data, at which sizes.

Frozen dataclasses whose fields' metadata carry the accepted ranges ("min", "max" inclusive, "above"
exclusive) or names ("choices").
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sd4match_lib.config.names import BACKBONES, DATASETS, MATCHERS
from sd4match_lib.utils.paths import resolve_path

LARGEST_SIDE = 4096
"""Pixels: the paper's largest is 840, and memory grows with the fourth power."""

NAME = {
    "pattern": r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "words": "up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
}
"""What names of profiles and data sets are: they become parts of paths and of reports."""


@dataclass(frozen=True)
class ModelConfig:
    """A diffusion model and how it is fed.

    Attributes:
        sources: tried in order: a local folder, "package:<path>", or a hub id.
        image_hw: network input size (H, W) in pixels; images are stretched to it.
        dtype: what the model computes in.
        backbone: its family.
        revision: the hub revision to load, or None for the newest.
        sha256: what the loaded UNet's weights must hash to, or None for anything.
        fast: whether the UNet is compiled; features then differ by rounding.
    """

    sources: tuple[str, ...] = field(metadata={"items": 1})
    image_hw: tuple[int, int] = field(metadata={"min": 8, "max": LARGEST_SIDE, "multiple": 8})
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    backbone: str = field(default="stable_diffusion", metadata={"choices": BACKBONES})
    revision: str | None = None
    sha256: str | None = None
    fast: bool = False


@dataclass(frozen=True)
class VisionConfig:
    """A vision transformer (DINOv2, DINO) and how it is fed.

    Attributes:
        sources: as in `ModelConfig`.
        resize: the shorter side in pixels before the crop, for prompts.
        crop: the side of the centre crop in pixels, for prompts.
        dense_hw: (H, W) in pixels that images are stretched to when its features are a baseline themselves.
        revision: as in `ModelConfig`.
        sha256: what the loaded weights must hash to, or None for anything.
    """

    sources: tuple[str, ...] = field(metadata={"items": 1})
    resize: int = field(metadata={"min": 14, "max": LARGEST_SIDE})
    crop: int = field(metadata={"min": 14, "max": LARGEST_SIDE})
    dense_hw: tuple[int, int] = field(metadata={"min": 14, "max": LARGEST_SIDE})
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class FeatureConfig:
    """Where features are read (paper Sec. 3; the released configuration).

    Attributes:
        layer: the part of the diffusion model whose output is the feature, such as "up_blocks.1".
        timestep: the diffusion step at test.
        train_timestep: the diffusion step in training.
        ensemble: how many noises are averaged at test.
    """

    layer: str
    timestep: int = field(metadata={"min": 0, "max": 999})
    train_timestep: int = field(metadata={"min": 0, "max": 999})
    ensemble: int = field(metadata={"min": 1, "max": 1000})


@dataclass(frozen=True)
class DatasetConfig:
    """One dataset on disk.

    Attributes:
        kind: its layout.
        root: its folder; relative to the project's root, below SD4MATCH_DATA when it starts with "data/".
        published_counts: split -> number of pairs that the dataset's authors state.
        max_pairs: split -> an evenly spaced subset of so many pairs; a split that is not named is used whole.
        optional: whether the paper's own tables do without it, so that a profile is ready when it is missing.
    """

    kind: str = field(metadata={"choices": DATASETS})
    root: str
    published_counts: dict[str, int] = field(default_factory=dict, metadata={"min": 0})
    max_pairs: dict[str, int] = field(default_factory=dict, metadata={"min": 1})
    optional: bool = False

    @property
    def path(self) -> Path:
        """The dataset's folder as an absolute path."""
        return resolve_path(self.root)


@dataclass(frozen=True)
class EvaluationConfig:
    """How matches are made and scored.

    Attributes:
        batch_size: pairs per step.
        matcher: the matching method.
        temperature: beta of the soft-argmax.
        sigma: width of the kernel soft-argmax in cells of this profile's grid (7 of 48 cells in the paper).
        alphas: the PCK thresholds as fractions; the paper has no 0.01, which the field has since added.
    """

    batch_size: int = field(metadata={"min": 1, "max": 4096})
    matcher: str = field(default="kernel_softargmax", metadata={"choices": MATCHERS})
    temperature: float = field(default=0.04, metadata={"above": 0.0, "max": 1e6})
    sigma: float = field(default=7.0, metadata={"above": 0.0, "max": 1e6})
    alphas: tuple[float, ...] = field(default=(0.01, 0.05, 0.10, 0.15), metadata={"above": 0.0, "max": 1.0})


@dataclass(frozen=True)
class TrainingConfig:
    """How prompts are learned (paper Sec. 4.1; method, section 4).

    Attributes:
        steps: optimizer steps.
        batch_size: pairs per step, over all processes.
        learning_rate: Adam's learning rate.
        linear_learning_rate: that of CPM's linear layers.
        temperature: beta of the loss.
        kernel_size: side of the loss's window in cells (7 of 48 in the paper).
        validate_every: steps between two validations.
        validation_pairs: how many pairs of the validation split are matched each time; None is all.
        accumulate: parts that a batch is computed in, one after the other, to save memory.
        checkpoint_activations: whether activations are computed twice to save memory.
        precision: what the frozen models compute in while a prompt is learned: their own `dtype`
            (`"model"`), or in mixed precision. What is learned, the loss and validation are untouched by it.
        distance_weight: of the distance between the kernel soft-argmax and the truth, beside the paper's
            cross-entropy; not in the paper.
        both_directions: whether a pair's features are also matched from target to source; not in the paper.
        mixture: layers whose weights are learned together with the prompt (`LayerMixture`), the first of them
            the one to start from; none reads the profile's layer alone, as the paper does.
    """

    steps: int = field(default=30_000, metadata={"min": 1, "max": 10**9})
    batch_size: int = field(default=9, metadata={"min": 1, "max": 4096})
    learning_rate: float = field(default=1e-2, metadata={"above": 0.0, "max": 1e6})
    linear_learning_rate: float = field(default=1e-3, metadata={"above": 0.0, "max": 1e6})
    temperature: float = field(default=0.04, metadata={"above": 0.0, "max": 1e6})
    kernel_size: int = field(default=7, metadata={"min": 3, "max": 999, "odd": True})
    validate_every: int = field(default=1000, metadata={"min": 1, "max": 10**9})
    validation_pairs: int | None = field(default=None, metadata={"min": 1})
    accumulate: int = field(default=1, metadata={"min": 1, "max": 4096})
    checkpoint_activations: bool = False
    precision: Literal["model", "bfloat16", "float16"] = "model"
    distance_weight: float = field(default=0.0, metadata={"min": 0.0})
    both_directions: bool = False
    mixture: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiftConfig:
    """The DIFT baseline, on the profile's own diffusion model (text prompt); see `FeatureConfig`."""

    layer: str
    timestep: int = field(metadata={"min": 0, "max": 999})
    ensemble: int = field(metadata={"min": 1, "max": 1000})
    matcher: str = field(default="nn", metadata={"choices": MATCHERS})


@dataclass(frozen=True)
class SdDinoConfig:
    """The SD+DINO baseline; SD+DINO* is its Stable Diffusion half alone.

    Attributes:
        model: the Stable Diffusion half's model.
        timestep: its diffusion step.
        ensemble: how many noises are averaged.
        layers: the three that give s5, s4, s3, coarse to fine.
        pca_dim: what each scale is reduced to, per pair.
        grid_hw: the (h, w) of the fused map; the DINO half comes from `VisionConfig.dense_hw`.
        sd_weight: weight of the normalised Stable Diffusion half; the DINO half has the rest.
        matcher: the matching method.
    """

    model: ModelConfig
    timestep: int = field(metadata={"min": 0, "max": 999})
    ensemble: int = field(metadata={"min": 1, "max": 1000})
    layers: tuple[str, str, str]
    pca_dim: int = field(metadata={"min": 1, "max": 65_536})
    grid_hw: tuple[int, int] = field(metadata={"min": 2, "max": 512})
    sd_weight: float = field(default=0.5, metadata={"min": 0.0, "max": 1.0})
    matcher: str = field(default="nn", metadata={"choices": MATCHERS})


@dataclass(frozen=True)
class BaselinesConfig:
    """The settings of the methods that the paper compares with.

    Attributes:
        dift: DIFT.
        sd_dino: SD+DINO and SD+DINO*.
        dino: the DINO (v1) model, or None where the profile has none.
    """

    dift: DiftConfig
    sd_dino: SdDinoConfig
    dino: VisionConfig | None = None


@dataclass(frozen=True)
class NotebooksConfig:
    """How `sd4match reproduce` runs the notebooks.

    Attributes:
        timeout_s: the longest that one cell may take, in seconds.
        offline: whether hubs are out of reach (HF_HUB_OFFLINE=1).
        parameters: notebook stem -> parameters that differ from the notebook's own.
    """

    timeout_s: int = field(default=600, metadata={"min": 1, "max": 10**7})
    offline: bool = False
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
