"""Match your own pictures: points in one, found in another, in the pictures' own pixels.

>>> from sd4match_lib import Matcher
>>> matcher = Matcher.from_profile("mini", prompt="empty")  # doctest: +SKIP
>>> found = matcher.match("cat.jpg", "other_cat.png", [(120, 80), (240, 96)])  # doctest: +SKIP
>>> found.trg_px, found.confidence  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt
import torch
from torch import Tensor

from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.backbones.weights import find_vision
from sd4match_lib.config.names import MATCHERS, Extractor
from sd4match_lib.config.profile import Profile, load_profile
from sd4match_lib.data.reading import as_points, count_outside
from sd4match_lib.errors import UserError
from sd4match_lib.features.build import MethodModels
from sd4match_lib.geometry import flip_points, from_grid, map_extent, points_to_grid, unstretch_points
from sd4match_lib.matcher.features import PairFeatures, SharedFeatures
from sd4match_lib.matcher.flip import agreement
from sd4match_lib.matcher.options import MatchOptions
from sd4match_lib.matcher.picture import Picture, PictureLike, open_picture
from sd4match_lib.matcher.result import Match, share_around
from sd4match_lib.matcher.settings import MatcherSettings, PromptLike, changed_settings, first_settings
from sd4match_lib.matching.correlation import Correlation
from sd4match_lib.matching.mutual import found_back
from sd4match_lib.matching.points import chunk_size, matcher_options
from sd4match_lib.matching.windowed import windowed_softargmax


class Matcher:
    """Finds points of one picture in another, under one method and prompt.

    A picture's features are computed once and reused for the next click and the next partner. Prompts that
    are made for a pair (CPM) share latents and vision tokens between pairs, and features between clicks on
    one pair. Matchers made by `with_settings` share models and all of this. Models are found at once, and
    loaded when something is matched.

    Attributes:
        profile: the experiment whose models these are.
        settings: how they are asked.
        models: the method that they make.
        shared: what matchers made from one another share.
    """

    def __init__(
        self,
        profile: Profile,
        settings: MatcherSettings,
        device: torch.device,
        shared: SharedFeatures | None = None,
    ) -> None:
        """Find the models; `from_profile` fills in the settings."""
        self.profile = profile
        self.settings = settings
        self.shared = shared or SharedFeatures()
        self.models = MethodModels(profile, settings.method, settings.prompt)
        self._device = device
        self._features = PairFeatures(self.models, settings, device, self.shared)

    @classmethod
    def from_profile(
        cls,
        profile: Profile | str | Path = "mini",
        *,
        extractor: Extractor | str = Extractor.SD,
        prompt: PromptLike | None = None,
        category: str | None = None,
        matcher: str | None = None,
        timestep: int | None = None,
        layer: str | None = None,
        ensemble: int | None = None,
        seed: int | None = None,
        options: MatchOptions | None = None,
        device: str | None = None,
    ) -> Self:
        """Find a profile's models. None means the profile's value where nothing else is said.

        Args:
            profile: a profile, its name, or the path of its TOML file.
            extractor: "sd" (SD4Match's features), "dift", "sd_dino", "sd_dino_star", "dinov2", "dino",
                "raw_latents" or "raw_pixels".
            prompt: "empty", "text", "captioner", a shipped one ("mini/class"), a learned prompt's file, or a
                prompt; None is "text" where a category is given and "empty" elsewhere. Extractors without a
                diffusion model take none.
            category: what the pictures show, such as "cat"; prompts that name or know categories use it.
            matcher: "nn", "bilinear", "softargmax" or "kernel_softargmax".
            timestep: diffusion step.
            layer: name of the diffusion model's layer that is read, such as "up_blocks.1".
            ensemble: number of noises averaged.
            seed: what the noises start from.
            options: what to do beside the paper's protocol; None is nothing.
            device: "cpu" or "cuda"; None is a GPU where there is one.

        Raises:
            UserError: a model, prompt or setting that is not there.
        """
        found = profile if isinstance(profile, Profile) else load_profile(profile)
        method: dict[str, Any] = {
            "matcher": matcher,
            "timestep": timestep,
            "layer": layer,
            "ensemble": ensemble,
        }
        settings = first_settings(found, extractor, prompt, category, seed, options, **method)
        return cls(found, settings, resolve_device(device))

    def with_settings(
        self,
        *,
        extractor: Extractor | str | None = None,
        prompt: PromptLike | None = None,
        category: str | None = None,
        matcher: str | None = None,
        timestep: int | None = None,
        options: MatchOptions | None = None,
    ) -> Matcher:
        """Return a matcher that differs in some settings and shares the models and what they computed.

        None keeps this matcher's setting; see `from_profile`. Another extractor begins with the profile's
        values for it.

        Raises:
            UserError: there is no such extractor, prompt, matcher or timestep.
        """
        settings = changed_settings(
            self.profile,
            self.settings,
            extractor=extractor,
            prompt=prompt,
            category=category,
            options=options,
            matcher=matcher,
            timestep=timestep,
        )
        return Matcher(self.profile, settings, self._device, self.shared)

    def weights(self) -> dict[str, str]:
        """Return the hashes of all weights that decide where points are found."""
        found = self.models.inputs()
        if self.settings.options.dino_weight is not None:
            found["vision"] = find_vision(self.profile.vision, self.profile.cache_path).sha256
        return found

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
            UserError: the prompt does not know the category, or a model is damaged.
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
            hw_in, score = self.models.image_hw, Correlation(src_map, trg_map)
            src_ft = points_to_grid(start_px, hw_px=source.hw_px, hw_in=hw_in, hw_ft=score.src_hw)
            asked_ft = torch.from_numpy(src_ft)[None].to(src_map)
            trg_ft, confidence, similarity, scores = self._locate(score, asked_ft, keep=maps)
            mutual = found_back(src_map, trg_map, asked_ft).cpu().numpy() if options.mutual else None
        trg_in = from_grid(trg_ft, hw_in=hw_in, hw_ft=score.trg_hw)
        trg_px = unstretch_points(trg_in, target.hw_px, hw_in)
        if not (trg_px.isfinite().all() and similarity.isfinite().all()):
            raise UserError("the features are not finite: set the model's dtype to float32 or bfloat16.")
        return Match(
            source,
            target,
            src_px,
            trg_px.numpy(),
            confidence.numpy(),
            similarity.numpy(),
            mutual,
            flipped,
            scores.numpy() if maps else None,
            map_extent(hw_px=target.hw_px, hw_in=hw_in, hw_ft=score.trg_hw) if maps else None,
        )

    def _locate(
        self, score: Correlation, src_ft: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of points (1, N, 2): places (N, 2) in target cells, confidence (N,), best cosine (N,), and the maps
        (N, h, w), empty ones unless they are to be kept; on the CPU.
        """
        options = self.settings.options
        matching = self.models.matching(score.trg_hw[1])
        temperature, matcher = matching["temperature"], self.settings.method.matcher
        find: Callable[..., Tensor] = MATCHERS.load(matcher)
        named = {name: matching[name] for name in matcher_options(matcher)}
        parts = []
        for part in src_ft.split(chunk_size(score), dim=1):
            scores = score(part)
            if options.window is None:
                trg_ft = find(score, part, **named)
            else:
                window = (options.window - 1) * options.denser + 1
                trg_ft = windowed_softargmax(scores, window, temperature)
            best = scores[0].flatten(1).amax(1) if scores.numel() else scores.new_zeros(0)
            kept = scores[0] if keep else scores[0, :, :0, :0]
            parts.append((trg_ft[0], share_around(trg_ft[0], scores[0], temperature), best, kept))
        found, confidence, similarity, maps = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
        return found, confidence, similarity, maps
