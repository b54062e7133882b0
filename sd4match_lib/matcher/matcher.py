"""Match your own pictures: points in one, found in another, in the pictures' own pixels.

>>> from sd4match_lib import Matcher
>>> matcher = Matcher.from_profile("mini", prompt="empty")  # doctest: +SKIP
>>> found = matcher.match("cat.jpg", "other_cat.png", [(120, 80), (240, 96)])  # doctest: +SKIP
>>> found.trg_px, found.confidence  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.config.profile import Profile, load_profile
from sd4match_lib.data.reading import as_points, count_outside
from sd4match_lib.errors import UserError
from sd4match_lib.features.matcher_models import MatcherModels
from sd4match_lib.geometry import (
    clamp_points,
    flip_points,
    from_grid,
    stretch_points,
    to_grid,
    unstretch_points,
)
from sd4match_lib.matcher.features import PairFeatures
from sd4match_lib.matcher.flip import agreement
from sd4match_lib.matcher.options import MatchOptions
from sd4match_lib.matcher.picture import Picture, PictureLike, open_picture
from sd4match_lib.matcher.result import Match
from sd4match_lib.matcher.scores import Found, locate, map_extent
from sd4match_lib.matcher.settings import MatcherSettings, PromptLike, changed_settings, first_settings
from sd4match_lib.matching.match import Method
from sd4match_lib.matching.mutual import found_back

__all__ = ["Match", "Matcher", "MatcherSettings"]


class Matcher:
    """Finds points of one picture in another, under one prompt.

    A picture's features are computed once and reused for the next click and the next partner. Prompts that
    are made for a pair (CPM) share latents and vision tokens between pairs, and features between clicks on
    one pair. Matchers made by `with_settings` share models and all of this.

    Attributes:
        models: the loaded models.
        settings: how they are asked.
    """

    def __init__(self, models: MatcherModels, settings: MatcherSettings) -> None:
        """Match with loaded models; `from_profile` loads them."""
        self.models = models
        self.settings = settings
        numbers = {"timestep": settings.timestep, "ensemble": settings.ensemble, "seed": settings.seed}
        source = models.source(settings.prompt, **numbers)
        identity = {"prompt": settings.prompt.fingerprint(), **numbers}
        self._features = PairFeatures(models, source, identity, settings.options)

    @classmethod
    def from_profile(
        cls,
        profile: Profile | str | Path = "mini",
        *,
        prompt: PromptLike | None = None,
        category: str | None = None,
        matcher: Method | str | None = None,
        timestep: int | None = None,
        up_block: int | None = None,
        ensemble: int | None = None,
        seed: int | None = None,
        options: MatchOptions | None = None,
        device: str | None = None,
    ) -> Self:
        """Load a profile's models. None means the profile's value where nothing else is said.

        Args:
            profile: a profile, its name, or the path of its TOML file.
            prompt: "empty", "text", "captioner", a learned prompt's file, or a prompt; None is "text" where a
                category is given and "empty" elsewhere.
            category: what the pictures show, such as "cat"; prompts that name or know categories use it.
            matcher: "nn", "bilinear", "softargmax" or "kernel_softargmax".
            timestep: diffusion step.
            up_block: index of the up block that is read.
            ensemble: number of noises averaged.
            seed: what the noises start from.
            options: what to do beside the paper's protocol; None is nothing.
            device: "cpu" or "cuda"; None is a GPU where there is one.

        Raises:
            UserError: a model, prompt or setting that is not there.
        """
        found = profile if isinstance(profile, Profile) else load_profile(profile)
        numbers = {"timestep": timestep, "up_block": up_block, "ensemble": ensemble}
        settings = first_settings(found, prompt, category, matcher, seed, options, **numbers)
        return cls(MatcherModels(found, resolve_device(device), up_block), settings)

    @property
    def profile(self) -> Profile:
        """The experiment whose models these are."""
        return self.models.profile

    def with_settings(
        self,
        *,
        prompt: PromptLike | None = None,
        category: str | None = None,
        matcher: Method | str | None = None,
        timestep: int | None = None,
        options: MatchOptions | None = None,
    ) -> Matcher:
        """Return a matcher that differs in some settings and shares the models and what they computed.

        Args:
            prompt: as in `from_profile`; None keeps this matcher's, as for all settings.
            category: what pictures show.
            matcher: how points are read out.
            timestep: diffusion step.
            options: all options anew.

        Raises:
            UserError: there is no such prompt, matcher or timestep.
        """
        settings = changed_settings(self.profile, self.settings, prompt, category, matcher, timestep, options)
        return Matcher(self.models, settings)

    def picture(self, picture: PictureLike, what: str = "picture") -> Picture:
        """Read a picture once, to match it again and again; see `open_picture`."""
        return open_picture(picture, self.settings.category, what=what)

    def match(
        self, src: PictureLike, trg: PictureLike, points: npt.ArrayLike, *, maps: bool = False
    ) -> Match:
        """Find points of `src` in `trg`.

        Args:
            src: the source: a path, a PIL picture, an array (H, W, 3), a tensor (3, H, W) or a data set's
                record; any size and shape (`open_picture`).
            trg: the target, likewise.
            points: (N, 2), x and y in pixels of the source, the centre of its top left pixel being (0, 0).
            maps: whether the answer carries the correlation maps.

        Returns:
            The points in pixels of the target, and more; see `Match`.

        Raises:
            DataError: a picture cannot be read, or a point is no pair of numbers or outside the source.
            UserError: the prompt does not know the category.
        """
        source, target = self.picture(src, "src"), self.picture(trg, "trg")
        src_px = as_points(points, "points")
        count_outside(src_px, source.hw_px, tolerance_px=1.0, where="points")
        options = self.settings.options
        with torch.no_grad():
            src_map, trg_map = self._features.maps(source, target)
            start_px, flipped = src_px, False
            if options.flip:
                twin_map, twin_trg = self._features.maps(source.mirrored(), target)
                if agreement(twin_map, twin_trg) > agreement(src_map, trg_map):
                    src_map, trg_map, flipped = twin_map, twin_trg, True
                    start_px = flip_points(src_px, source.hw_px)
            src_ft = self._to_grid(start_px, source, src_map)
            found = self._locate(src_map, trg_map, src_ft, keep=maps)
            mutual = found_back(src_map, trg_map, src_ft).cpu().numpy() if options.mutual else None
        hw_in, grid = self.profile.model.image_hw, (trg_map.shape[2], trg_map.shape[3])
        trg_px = unstretch_points(from_grid(found.trg_ft, hw_in=hw_in, hw_ft=grid), target.hw_px, hw_in)
        if not trg_px.isfinite().all():
            raise UserError("the features are not finite: set the model's dtype to float32 or bfloat16.")
        return Match(
            source,
            target,
            src_px,
            trg_px.numpy(),
            found.confidence.numpy(),
            found.similarity.numpy(),
            mutual,
            flipped,
            found.maps.numpy() if found.maps is not None else None,
            map_extent(target.hw_px, hw_in, grid) if maps else None,
        )

    def _to_grid(self, src_px: npt.NDArray[np.float32], source: Picture, src_map: Tensor) -> Tensor:
        hw_in = self.profile.model.image_hw
        src_in = clamp_points(stretch_points(src_px, source.hw_px, hw_in), hw_in)
        src_ft = to_grid(src_in, hw_in=hw_in, hw_ft=(src_map.shape[2], src_map.shape[3]))
        return torch.from_numpy(src_ft)[None].to(src_map)

    def _locate(self, src_map: Tensor, trg_map: Tensor, src_ft: Tensor, keep: bool) -> Found:
        settings, options = self.settings, self.settings.options
        window = options.window and (options.window - 1) * options.denser + 1
        return locate(
            src_map,
            trg_map,
            src_ft,
            method=settings.method,
            temperature=self.profile.evaluation.temperature,
            sigma=self.models.sigma(trg_map.shape[3]),
            window=window,
            keep_maps=keep,
        )
