"""A method put together of prompt and models: found first, to know a finished run, and loaded when needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, TypeVar, assert_never

import torch

from sd4match_lib.backbones.base import DiffusionBackbone
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import find_diffusion, find_vision
from sd4match_lib.config.names import BACKBONES, Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.config.schema import ModelConfig, VisionConfig
from sd4match_lib.errors import NoLayerError, UserError
from sd4match_lib.features.extractors import (
    DiffusionSource,
    FeatureSource,
    FusedSource,
    LatentSource,
    PixelSource,
    VisionSource,
)
from sd4match_lib.features.loaded import diffusion_model, vision_model
from sd4match_lib.features.methods import MethodSettings, method_settings
from sd4match_lib.features.stores import LatentStore, VisionStore
from sd4match_lib.geometry import HW
from sd4match_lib.matching.points import matcher_options
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.factory import make_prompt

T = TypeVar("T")


class MethodModels:
    """A method's prompt and models, found on disk but not yet loaded.

    Attributes:
        profile: the experiment.
        settings: how the method is run.
        prompt: what its UNet is asked with, or None where there is no UNet.
    """

    def __init__(
        self, profile: Profile, settings: MethodSettings, prompt: Prompt | str | None = None
    ) -> None:
        """Find the models and make the prompt.

        Args:
            profile: the experiment.
            settings: how the method is run.
            prompt: a prompt or the name of one; None is "a photo of a {category}" for methods with a UNet.

        Raises:
            UserError: a model, the prompt's weights or a layer are missing, or the method takes no prompt, or
                not one that mixes layers of its own.
        """
        self.settings = settings
        self.prompt: Prompt | None = None
        self.profile = profile
        if settings.extractor.prompted:
            chosen = "text" if prompt is None else prompt
            self.prompt = chosen if isinstance(chosen, Prompt) else make_prompt(chosen, profile)
        elif prompt is not None:
            raise UserError(f"a prompt means nothing to the extractor {settings.extractor}; leave it out.")
        if self.prompt and self.prompt.layers:
            if settings.extractor is not Extractor.SD or settings.layers != (profile.features.layer,):
                raise UserError(
                    f"this prompt mixes {', '.join(self.prompt.layers)}: it is read by the extractor 'sd', "
                    "and without `layer`."
                )
            self.settings = replace(settings, layers=self.prompt.layers)
        self._model = self._model_config()
        self._vision = self._vision_config()
        cache = profile.cache_path
        self._found_model = find_diffusion(self._model, cache) if self._model else None
        self._found_vision = find_vision(self._vision, cache) if self._vision else None
        if self._model and self._found_model:
            backbone: type[DiffusionBackbone] = BACKBONES.load(self._model.backbone)
            with _layers_of(self._layers_named_by):
                for layer in self.settings.layers:
                    backbone.grid_hw(self._found_model.folder, image_hw=self._model.image_hw, layer=layer)

    def config(self) -> dict[str, Any]:
        """Return all settings that the matches depend on, as plain data."""
        evaluation, matcher = self.profile.evaluation, self.settings.matcher
        config: dict[str, Any] = {
            **asdict(self.settings),
            "prompt": self.prompt.fingerprint() if self.prompt else None,
            "image_hw": self.image_hw,
        }
        matching = {"temperature": evaluation.temperature, "sigma": evaluation.sigma}
        config |= {name: matching[name] for name in matcher_options(matcher)}
        if self._model:
            parts = ("backbone", "image_hw", "dtype", "fast")
            config["model"] = {name: getattr(self._model, name) for name in parts}
        if self._vision:
            sizes = ("resize", "crop", "dense_hw")
            config["vision"] = {name: getattr(self._vision, name) for name in sizes}
        if self.settings.extractor.fused:
            fused = self.profile.baselines.sd_dino
            config["fusion"] = {name: getattr(fused, name) for name in ("pca_dim", "grid_hw", "sd_weight")}
        return config

    def inputs(self) -> dict[str, str]:
        """Return the hashes of the weights that the matches depend on."""
        found = {"model": self._found_model, "vision": self._found_vision}
        return {name: model.sha256 for name, model in found.items() if model is not None}

    @property
    def image_hw(self) -> HW:
        """The frame that points are scored in: the profile's network input, for every extractor."""
        return self.profile.model.image_hw

    def matching(self, grid_w: int) -> dict[str, Any]:
        """Return the options of `points.match_points` for a target grid that is `grid_w` wide.

        The profile states sigma for the grid of its own features; elsewhere it covers the same part of the
        image.
        """
        evaluation = self.profile.evaluation
        return {
            "matcher": self.settings.matcher,
            "temperature": evaluation.temperature,
            "sigma": evaluation.sigma * grid_w / self._own_grid[1],
        }

    def load(self, device: torch.device, seed: int) -> FeatureSource:
        """Load the models and put the method together.

        Raises:
            UserError: a model is damaged or does not fit the profile.
        """
        match self.settings.extractor:
            case Extractor.SD | Extractor.DIFT:
                return self._diffusion_source(device, seed)
            case Extractor.SD_DINO | Extractor.SD_DINO_STAR as extractor:
                dino = self._load_vision(device) if extractor is Extractor.SD_DINO else None
                return FusedSource(self._diffusion_source(device, seed), self.profile.baselines.sd_dino, dino)
            case Extractor.DINOV2 | Extractor.DINO:
                return VisionSource(self._load_vision(device))
            case Extractor.RAW_LATENTS:
                return LatentSource(self._load_model(device)[1])
            case Extractor.RAW_PIXELS:
                return PixelSource(self.image_hw, self._own_grid)
            case _:
                assert_never(self.settings.extractor)

    def _model_config(self) -> ModelConfig | None:
        match self.settings.extractor:
            case Extractor.SD | Extractor.DIFT | Extractor.RAW_LATENTS:
                return self.profile.model
            case Extractor.SD_DINO | Extractor.SD_DINO_STAR:
                return self.profile.baselines.sd_dino.model
            case _:
                return None

    def _vision_config(self) -> VisionConfig | None:
        extractor, profile = self.settings.extractor, self.profile
        if extractor is Extractor.DINO:
            if profile.baselines.dino is None:
                raise UserError(f"profile {profile.name!r} names no DINO model; add [baselines.dino] to it.")
            return profile.baselines.dino
        dense = extractor in (Extractor.DINOV2, Extractor.SD_DINO)
        return profile.vision if dense or (self.prompt and self.prompt.needs_vision) else None

    @cached_property
    def _own_grid(self) -> HW:
        """The grid that the profile reads its own features on."""
        profile = self.profile
        folder = find_diffusion(profile.model, profile.cache_path).folder
        backbone: type[DiffusionBackbone] = BACKBONES.load(profile.model.backbone)
        with _layers_of("features.layer"):
            return backbone.grid_hw(folder, image_hw=profile.model.image_hw, layer=profile.features.layer)

    def _diffusion_source(self, device: torch.device, seed: int) -> DiffusionSource:
        settings, prompt = self.settings, self.prompt
        assert prompt is not None and settings.timestep is not None and settings.ensemble is not None
        model, latents = self._load_model(device)
        vision = None
        if prompt.needs_vision:
            found = _known(self._found_vision)
            vision = VisionStore(self._load_vision(device), found, self.profile.cache_path)
        return DiffusionSource(
            model,
            latents,
            prompt.to(device).eval(),
            vision,
            layers=settings.layers,
            timestep=settings.timestep,
            ensemble=settings.ensemble,
            seed=seed,
        )

    def _load_model(self, device: torch.device) -> tuple[DiffusionBackbone, LatentStore]:
        config, found = _known(self._model), _known(self._found_model)
        model = diffusion_model(found, config, self.settings.layers, device)
        return model, LatentStore(model, found, config.image_hw, self.profile.cache_path)

    def _load_vision(self, device: torch.device) -> VisionFeatures:
        return vision_model(_known(self._found_vision), _known(self._vision), device)

    @property
    def _layers_named_by(self) -> str:
        """The setting that says which layers are read, for messages."""
        profile, extractor, layers = self.profile, self.settings.extractor, self.settings.layers
        if self.prompt and self.prompt.layers:
            return "training.mixture" if layers == profile.training.mixture else "the prompt's mixture"
        if layers != method_settings(profile, extractor).layers:
            return "layer"
        if extractor.fused:
            return "baselines.sd_dino.layers"
        return "baselines.dift.layer" if extractor is Extractor.DIFT else "features.layer"


@contextmanager
def _layers_of(setting: str) -> Iterator[None]:
    """Say which setting names a layer that the model does not have."""
    try:
        yield
    except NoLayerError as error:
        raise UserError(f"{setting}: {error}") from error


def _known(value: T | None) -> T:
    assert value is not None
    return value
