"""The feature maps of two pictures under one method, computed once and kept."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import find_vision
from sd4match_lib.data.types import Pair, ThresholdRule
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.cache import MemoryCache, Tensors
from sd4match_lib.features.extractors import FeatureSource
from sd4match_lib.features.fusion import join_halves
from sd4match_lib.features.loaded import vision_model
from sd4match_lib.matcher.picture import Picture
from sd4match_lib.matcher.settings import MatcherSettings
from sd4match_lib.prompts.base import Scope

FEATURE_BYTES = 2**30
"""Feature maps kept in memory by matchers that share them: 182 pictures at the paper's size."""

_READ_OUT = ("matcher", "temperature", "sigma")
"""Settings that decide what is done with features, not what they are."""


@dataclass(eq=False)
class SharedFeatures:
    """What matchers made from one another share: features and methods, by all that they depend on."""

    maps: MemoryCache = field(default_factory=lambda: MemoryCache(FEATURE_BYTES, None))
    sources: dict[str, FeatureSource] = field(default_factory=dict)

    @property
    def encoded(self) -> int:
        """How many pictures have gone through a VAE."""
        return sum(source.encoded for source in self.sources.values())

    @property
    def passes(self) -> int:
        """How many pictures have gone through a denoiser, counting each member of an ensemble."""
        return sum(source.passes for source in self.sources.values())


class PairFeatures:
    """Feature maps for matching, kept by the pictures' content and by all else that they depend on."""

    def __init__(
        self, models: MethodModels, settings: MatcherSettings, device: torch.device, shared: SharedFeatures
    ) -> None:
        """Compute with `models`; they are loaded when the first features are asked for."""
        self._models = models
        self._options = settings.options
        self._device = device
        self._seed = settings.seed
        self._shared = shared
        config = {name: value for name, value in models.config().items() if name not in _READ_OUT}
        self._identity = _key({**config, **models.inputs(), "seed": settings.seed})

    @property
    def _source(self) -> FeatureSource:
        """The method put together, by whoever needed it first."""
        sources = self._shared.sources
        if self._identity not in sources:
            sources[self._identity] = self._models.load(self._device, self._seed)
        return sources[self._identity]

    def maps(self, src: Picture, trg: Picture) -> tuple[Tensor, Tensor]:
        """Return source and target features, (1, C, h, w) and (1, C, h', w'), on the models' device.

        Raises:
            UserError: a model is damaged or does not fit the profile.
        """
        if self._models.settings.extractor.fused:
            # What is fused per pair takes longer than a click should.
            who = [self._who(src), self._who(trg), "fused"]
            pair = self._kept(who, lambda: self._pair_maps(src, trg), torch.float32)
        else:
            pair = self._pair_maps(src, trg)
        src_map, trg_map = (
            self._with_dino(pair[side].to(self._device).float(), picture)
            for side, picture in (("src", src), ("trg", trg))
        )
        return src_map, make_denser(trg_map, self._options.denser)

    def _pair_maps(self, src: Picture, trg: Picture) -> Tensors:
        if self._source.scope is Scope.PAIR:
            pair = self._kept([self._who(src), self._who(trg)], lambda: self._extract_pair(src, trg))
            items = [
                {name.removeprefix(side): tensor for name, tensor in pair.items() if name.startswith(side)}
                for side in ("src.", "trg.")
            ]
        else:
            items = [
                self._kept([self._who(picture)], lambda picture=picture: self._source.extract([picture])[0])  # type: ignore[misc]
                for picture in (src, trg)
            ]
        src_item, trg_item = (
            {name: tensor.to(self._device).float() for name, tensor in item.items()} for item in items
        )
        src_map, trg_map = self._source.pair_maps([src_item], [trg_item])
        return {"src": src_map, "trg": trg_map}

    def _extract_pair(self, src: Picture, trg: Picture) -> Tensors:
        nothing = np.zeros((0, 2), np.float32)
        pair = Pair("own", src.category, src, trg, nothing, nothing, (), ThresholdRule.IMAGE)
        (of_src,), (of_trg,) = self._source.extract_pairs([pair])
        sides = (("src.", of_src), ("trg.", of_trg))
        return {side + name: tensor for side, item in sides for name, tensor in item.items()}

    def _with_dino(self, maps: Tensor, picture: Picture) -> Tensor:
        """(1, C, h, w) joined with DINOv2's features of the picture, both of unit length.

        Zhang et al., "A Tale of Two Features", NeurIPS 2023 (SD+DINO), fuse DINOv2 with three scales of an
        unprompted Stable Diffusion; here its partner is the one feature map that the prompt was learned for.
        """
        weight = self._options.dino_weight
        if weight is None:
            return maps
        key = _key({"dino": picture.content_key()})
        found = self._shared.maps.get(key)
        if found is None:
            found = {"dino": self._vision.dense([picture.read()])[0]}
            self._shared.maps.put(key, found)
        return join_halves(maps[0], found["dino"].to(maps), sd_weight=1 - weight)[None]

    @cached_property
    def _vision(self) -> VisionFeatures:
        profile = self._models.profile
        return vision_model(find_vision(profile.vision, profile.cache_path), profile.vision, self._device)

    def _who(self, picture: Picture) -> list[str]:
        # A prompt for everything asks nothing of a category.
        category = "" if self._source.scope is Scope.DATASET else picture.category
        return [picture.content_key(), picture.image_id, category]

    def _kept(
        self, who: Sequence[object], compute: Callable[[], Tensors], dtype: torch.dtype | None = None
    ) -> Tensors:
        key = _key({"method": self._identity, "who": who})
        found = self._shared.maps.get(key)
        if found is None:
            kept = dtype or self._source.keep_dtype
            found = {name: tensor.to(kept) for name, tensor in compute().items()}
            self._shared.maps.put(key, found)
        return found


def make_denser(maps: Tensor, factor: int) -> Tensor:
    """Interpolate features bilinearly between cells.

    Tang et al., "Emergent Correspondence from Image Diffusion" (DIFT), NeurIPS 2023, upsample their feature
    map to the picture's size before the nearest neighbour. Here by a whole factor; the first and the last
    cell stay where they are (align corners), so every old cell is a new one too.

    Args:
        maps: (B, C, h, w).
        factor: new cells per old one; 1 returns the maps as they are.

    Returns:
        (B, C, factor * (h - 1) + 1, factor * (w - 1) + 1).
    """
    if factor == 1:
        return maps
    height, width = (factor * (side - 1) + 1 for side in maps.shape[2:])
    return interpolate(maps, size=(height, width), mode="bilinear", align_corners=True)


def _key(settings: object) -> str:
    return json.dumps(settings, sort_keys=True, default=str)
