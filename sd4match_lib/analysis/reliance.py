"""How much hangs on the prompt: how far it moves what the UNet reads, and how far that moves the features."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from sd4match_lib.analysis.prompts import load_text_encoder, pair_batch
from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.types import Pair
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.methods import method_settings
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.factory import make_prompt

OTHER_NOISE = "empty, other noise"


def distances_to_empty(
    profile: Profile, prompts: Mapping[str, Prompt | str], pairs: Sequence[Pair]
) -> dict[str, pd.DataFrame]:
    """Measure how far prompts move context and features from where the empty prompt has them.

    Features are those of the test: the profile's layer, timestep and ensemble.

    Args:
        profile: the experiment.
        prompts: by name, a prompt or the name of one.
        pairs: whose pictures are looked at.

    Returns:
        By name, and last under `OTHER_NOISE` the control, the empty prompt again under the next seed: what
        noise alone moves. A row per pair, as `estimates.estimate` takes them: pair_id, category, keypoint,
        src_image, trg_image, and ``context`` and ``features``: the norm of the difference as a share of the
        empty prompt's norm.
    """
    encoder, batch = load_text_encoder(profile), pair_batch(profile, pairs)

    def seen(asked: Prompt | str, seed: int) -> tuple[Tensor, Tensor]:
        prompt = asked if isinstance(asked, Prompt) else make_prompt(asked, profile)
        models = MethodModels(profile, method_settings(profile, Extractor.SD), prompt)
        with torch.no_grad():
            context = prompt.to("cpu").context(batch, encoder).float()
            source = models.load(resolve_device(None), seed)
            sides = [torch.stack([item["map0"] for item in side]) for side in source.extract_pairs(pairs)]
        return context.flatten(1), torch.cat(sides, dim=1).float().flatten(1)

    seed, empty = profile.seed, seen("empty", profile.seed)
    asked = {name: (prompt, seed) for name, prompt in prompts.items()} | {OTHER_NOISE: ("empty", seed + 1)}
    rows = pd.DataFrame(
        {
            "pair_id": [pair.pair_id for pair in pairs],
            "category": [pair.category for pair in pairs],
            "keypoint": "",
            "src_image": [pair.src.image_id for pair in pairs],
            "trg_image": [pair.trg.image_id for pair in pairs],
        }
    )
    found = {}
    for name, request in asked.items():
        parts = zip(("context", "features"), seen(*request), empty, strict=True)
        shares = {part: (here - start).norm(dim=1) / start.norm(dim=1) for part, here, start in parts}
        found[name] = rows.assign(**{part: share.tolist() for part, share in shares.items()})
    return found
