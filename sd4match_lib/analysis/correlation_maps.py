"""Where a query point is found: its similarity to every place of the target, prompt by prompt (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.config.profile import Profile
from sd4match_lib.data import Pair
from sd4match_lib.errors import UserError
from sd4match_lib.features.matcher_models import MatcherModels
from sd4match_lib.features.methods import Baseline, method_settings
from sd4match_lib.geometry import clamp_points, stretch_points, to_grid
from sd4match_lib.matching.match import correlation
from sd4match_lib.prompts import Prompt, PromptKind, make_prompt


def correlation_maps(
    profile: Profile,
    pair: Pair,
    query_px: npt.ArrayLike,
    prompts: Mapping[str, Prompt | PromptKind | str],
    *,
    timestep: int | None = None,
    ensemble: int | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Correlate points of a pair's source with its whole target (Eq. 3), once under each prompt.

    Args:
        profile: the experiment.
        pair: the pair.
        query_px: points ``(N, 2)`` in pixels of the source picture.
        prompts: a name to a prompt.
        timestep, ensemble, seed: instead of the profile's.
        device: "cpu" or "cuda"; None is a GPU where there is one.

    Returns:
        Each name's cosine similarities ``(N, h, w)``, in [-1, 1], on the grid of the features ("align
        corners": the outer cells' centres lie on the target's outer pixels).

    Raises:
        UserError: there is no point, or a model is missing.
    """
    points_px = np.asarray(query_px, np.float32).reshape(-1, 2)
    if not len(points_px):
        raise UserError("there is no query point; give at least one.")
    settings = method_settings(profile, Baseline.SD, timestep=timestep, ensemble=ensemble)
    where, hw_in = resolve_device(device), profile.model.image_hw
    points_in = clamp_points(stretch_points(points_px, hw_px=pair.src.hw_px, hw_in=hw_in), hw_in)
    assert settings.timestep is not None and settings.ensemble is not None
    models, maps = MatcherModels(profile, where), {}
    for name, wanted in prompts.items():
        source = models.source(
            wanted if isinstance(wanted, Prompt) else make_prompt(wanted, profile),
            timestep=settings.timestep,
            ensemble=settings.ensemble,
            seed=profile.seed if seed is None else seed,
        )
        with torch.no_grad():
            src_map, trg_map = source.pair_maps(*source.extract_pairs([pair]))
            src_ft = to_grid(points_in, hw_in=hw_in, hw_ft=(src_map.shape[2], src_map.shape[3]))
            scores = correlation(src_map, trg_map, torch.from_numpy(src_ft)[None].to(src_map))
        maps[name] = scores[0].float().cpu().numpy()
    return maps
