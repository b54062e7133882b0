"""The feature maps of two pictures under one prompt, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from sd4match_lib.data.types import Pair, ThresholdRule
from sd4match_lib.features.cache import Tensors
from sd4match_lib.features.extractors import DiffusionSource
from sd4match_lib.features.matcher_models import MatcherModels
from sd4match_lib.matcher.denser import make_denser
from sd4match_lib.matcher.dino import with_dino
from sd4match_lib.matcher.options import MatchOptions
from sd4match_lib.matcher.picture import Picture
from sd4match_lib.prompts import Scope


class PairFeatures:
    """Feature maps for matching, kept by the pictures' content and by all else that they depend on."""

    def __init__(self, models: MatcherModels, source: DiffusionSource, identity: Any, options: MatchOptions):
        """Read `source`, whose settings `identity` says as plain data."""
        self._models = models
        self._source = source
        self._identity = identity
        self._options = options

    def maps(self, src: Picture, trg: Picture) -> tuple[Tensor, Tensor]:
        """Return source and target features, (1, C, h, w) and (1, C, h', w'), on the models' device."""
        if self._source.scope is Scope.PAIR:
            pair = self._kept([self._who(src), self._who(trg)], lambda: self._extract_pair(src, trg))
            src_map, trg_map = pair["src"], pair["trg"]
        else:
            src_map, trg_map = (self._extract(picture)["map0"] for picture in (src, trg))
        src_map, trg_map = (self._finish(maps, pic) for maps, pic in ((src_map, src), (trg_map, trg)))
        return src_map, make_denser(trg_map, self._options.denser)

    def _extract(self, picture: Picture) -> Tensors:
        return self._kept([self._who(picture)], lambda: self._source.extract([picture])[0])

    def _extract_pair(self, src: Picture, trg: Picture) -> Tensors:
        nothing = np.zeros((0, 2), np.float32)
        pair = Pair("own", src.category, src, trg, nothing, nothing, (), ThresholdRule.IMAGE)
        (of_src,), (of_trg,) = self._source.extract_pairs([pair])
        return {"src": of_src["map0"], "trg": of_trg["map0"]}

    def _finish(self, maps: Tensor, picture: Picture) -> Tensor:
        maps = maps[None].to(self._models.device).float()
        weight = self._options.dino_weight
        if weight is None:
            return maps
        key = self._models.key(dino=picture.content_key())
        found = self._models.features.get(key)
        if found is None:
            found = {"dino": self._models.vision.dense([picture.read()])[0]}
            self._models.features.put(key, found)
        return with_dino(maps, found["dino"], weight)

    def _who(self, picture: Picture) -> list[str]:
        # A prompt for everything asks nothing of a category.
        category = "" if self._source.scope is Scope.DATASET else picture.category
        return [picture.content_key(), picture.image_id, category]

    def _kept(self, pictures: list[list[str]], compute: Callable[[], Tensors]) -> Tensors:
        key = self._models.key(pictures=pictures, settings=self._identity)
        found = self._models.features.get(key)
        if found is None:
            found = {name: tensor.to(self._source.keep_dtype) for name, tensor in compute().items()}
            self._models.features.put(key, found)
        return found
