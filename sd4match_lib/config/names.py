"""The names that profiles and the command line use, and where the things behind them lie.

Without PyTorch, so that `--help` and reading a profile stay quick. A new dataset, prompt, backbone or
matcher is one file and one line here.
"""

from enum import StrEnum
from typing import Final

from sd4match_lib.utils.registry import Registry

DATASETS: Final = Registry(
    "dataset layout",
    {
        "spair": "sd4match_lib.data.spair:SpairDataset",
        "pf_pascal": "sd4match_lib.data.pf_pascal:PfPascalDataset",
        "pf_willow": "sd4match_lib.data.pf_willow:PfWillowDataset",
        "spair_u": "sd4match_lib.data.spair_u:SpairUDataset",
        "ap10k": "sd4match_lib.data.ap10k:Ap10kDataset",
        "own": "sd4match_lib.data.own:OwnPairs",
    },
)
"""Layouts on disk: subclasses of `data.types.PairDataset`."""

PROMPTS: Final = Registry(
    "prompt",
    {
        "empty": "sd4match_lib.prompts.text:EmptyPrompt",
        "text": "sd4match_lib.prompts.text:TextPrompt",
        "captioner": "sd4match_lib.prompts.captioner:ImplicitCaptioner",
    },
)
"""Prompts that need no training here: subclasses of `prompts.base.Prompt`."""

LEARNED_PROMPTS: Final = Registry(
    "prompt to train",
    {
        "single": "sd4match_lib.prompts.single:SinglePrompt",
        "class": "sd4match_lib.prompts.per_class:ClassPrompt",
        "cpm": "sd4match_lib.prompts.cpm:ConditionalPrompt",
    },
)
"""Prompts that are learned: subclasses of `prompts.learned.LearnedPrompt`."""

BACKBONES: Final = Registry(
    "backbone",
    {
        "stable_diffusion": "sd4match_lib.backbones.stable_diffusion:StableDiffusion",
        "sdxl": "sd4match_lib.backbones.sdxl:StableDiffusionXL",
        "cleandift": "sd4match_lib.backbones.cleandift:CleanDift",
        "pixart": "sd4match_lib.backbones.pixart:PixArt",
    },
)
"""Families of diffusion models: subclasses of `backbones.base.DiffusionBackbone`."""

MATCHERS: Final = Registry(
    "matcher",
    {
        "nn": "sd4match_lib.matching.points:nearest_neighbour",
        "bilinear": "sd4match_lib.matching.points:bilinear",
        "softargmax": "sd4match_lib.matching.points:softargmax",
        "kernel_softargmax": "sd4match_lib.matching.points:kernel_softargmax",
    },
)
"""How a point is read out of its correlation map (method, section 5)."""


class Extractor(StrEnum):
    """The feature extractors (method, section 7), by the names that the command line uses."""

    SD = "sd"
    """The profile's own features, under any prompt: SD4Match."""
    DIFT = "dift"
    SD_DINO = "sd_dino"
    SD_DINO_STAR = "sd_dino_star"
    DINOV2 = "dinov2"
    DINO = "dino"
    RAW_LATENTS = "raw_latents"
    """Clean VAE latents, without any UNet."""
    RAW_PIXELS = "raw_pixels"

    @property
    def prompted(self) -> bool:
        """Whether a diffusion model runs, so that prompt, timestep and ensemble mean something."""
        return self in (Extractor.SD, Extractor.DIFT, Extractor.SD_DINO, Extractor.SD_DINO_STAR)

    @property
    def fused(self) -> bool:
        """Whether several layers are fused per pair (SD+DINO, SD+DINO*)."""
        return self in (Extractor.SD_DINO, Extractor.SD_DINO_STAR)
