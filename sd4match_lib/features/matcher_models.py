"""The models behind `Matcher`: loaded once, asked under any prompt and timestep, their answers kept."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import torch

from sd4match_lib.backbones.device import resolve_dtype
from sd4match_lib.backbones.grid import feature_grid
from sd4match_lib.backbones.stable_diffusion import StableDiffusionFeatures
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.profile import Profile
from sd4match_lib.features.cache import MemoryCache
from sd4match_lib.features.extractors import DiffusionSource
from sd4match_lib.features.stores import LatentStore, VisionStore
from sd4match_lib.geometry import HW
from sd4match_lib.prompts import Prompt

FEATURE_BYTES = 2**30
"""Feature maps kept in memory by all matchers that share models: 182 pictures at the paper's size."""


class MatcherModels:
    """A profile's diffusion model on one device, and its vision model once something needs it.

    Attributes:
        profile: the experiment.
        device: where the models lie.
        up_block: the up block that is read.
        features: feature maps by everything that they depend on.
    """

    def __init__(self, profile: Profile, device: torch.device, up_block: int | None = None) -> None:
        """Find and load the diffusion model.

        Args:
            profile: says which.
            device: where it goes.
            up_block: the up block to read; None is the profile's.

        Raises:
            UserError: it is missing or damaged, or has no such up block.
        """
        self.profile = profile
        self.device = device
        self.up_block = profile.features.up_block if up_block is None else up_block
        self.features = MemoryCache(FEATURE_BYTES, None)
        self._found = find_diffusion(profile.model, profile.cache_path)
        self._model = StableDiffusionFeatures.from_folder(
            self._found.folder,
            up_block=self.up_block,
            dtype=resolve_dtype(profile.model.dtype),
            device=device,
        )
        self._latents = LatentStore(self._model, self._found, profile.model.image_hw, profile.cache_path)

    @property
    def encoded(self) -> int:
        """How many pictures have gone through the VAE."""
        return self._latents.encoded

    @property
    def passes(self) -> int:
        """How many pictures have gone through the UNet, counting each member of an ensemble."""
        return self._model.passes

    @cached_property
    def vision(self) -> VisionFeatures:
        """The vision model.

        Raises:
            UserError: it is missing or damaged.
        """
        return VisionFeatures.from_folder(self._found_vision.folder, self.profile.vision, device=self.device)

    def source(self, prompt: Prompt, *, timestep: int, ensemble: int, seed: int) -> DiffusionSource:
        """Return the features under a prompt.

        Args:
            prompt: what the model is asked with.
            timestep: diffusion step.
            ensemble: number of noises.
            seed: what they start from.

        Raises:
            UserError: the prompt needs the vision model, which is missing or damaged.
        """
        return DiffusionSource(
            self._model,
            self._latents,
            prompt.to(self.device).eval(),
            self._tokens if prompt.needs_vision else None,
            up_blocks=(self.up_block,),
            timestep=timestep,
            ensemble=ensemble,
            seed=seed,
        )

    def inputs(self, *, vision: bool) -> dict[str, str]:
        """Return the hashes of the weights, with those of the vision model where it is used."""
        found = {"model": self._found.sha256}
        return found | {"vision": self._found_vision.sha256} if vision else found

    def key(self, **settings: Any) -> str:
        """Return a cache key of plain settings."""
        return json.dumps(settings, sort_keys=True, default=str)

    def sigma(self, grid_w: int) -> float:
        """Return the kernel soft-argmax's sigma for a target grid so wide; see `MethodModels.matching`."""
        return self.profile.evaluation.sigma * grid_w / self._profile_grid[1]

    @cached_property
    def _profile_grid(self) -> HW:
        up_block = self.profile.features.up_block
        return feature_grid(self._found.folder, image_hw=self.profile.model.image_hw, up_block=up_block)

    @cached_property
    def _found_vision(self) -> Any:
        return find_vision(self.profile.vision, self.profile.cache_path)

    @cached_property
    def _tokens(self) -> VisionStore:
        return VisionStore(self.vision, self._found_vision, self.profile.cache_path)
