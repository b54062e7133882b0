"""How much hangs on the prompt: how far it moves what the UNet reads, and how far that moves the features."""

from collections.abc import Sequence

import pandas as pd
import torch

from sd4match_lib.analysis.prompts import load_text_encoder, pair_batch
from sd4match_lib.backbones.device import resolve_device
from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.types import Pair
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.methods import method_settings
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.factory import make_prompt


def distance_to_empty(
    profile: Profile, prompt: Prompt | str, pairs: Sequence[Pair], *, seed: int | None = None
) -> pd.DataFrame:
    """Measure how far a prompt moves context and features from where the empty prompt has them.

    Features are those of the test: the profile's layer, timestep and ensemble.

    Args:
        profile: the experiment.
        prompt: the prompt, or the name of one.
        pairs: whose pictures are looked at.
        seed: what this prompt's noises start from; the empty prompt's start from the profile's seed. The
            empty prompt under another seed is the control: what the noise alone moves.

    Returns:
        A row per pair, as `estimates.estimate` takes them: pair_id, category, keypoint, src_image, trg_image,
        and ``context`` and ``features``: the norm of the difference as a share of the empty prompt's norm.
    """
    encoder, batch = load_text_encoder(profile), pair_batch(profile, pairs)
    found = []
    for asked, start in ((prompt, seed), ("empty", None)):
        made = asked if isinstance(asked, Prompt) else make_prompt(asked, profile)
        models = MethodModels(profile, method_settings(profile, Extractor.SD), made)
        with torch.no_grad():
            context = made.to("cpu").context(batch, encoder).float()
            source = models.load(resolve_device(None), profile.seed if start is None else start)
            sides = [torch.stack([item["map0"] for item in side]) for side in source.extract_pairs(pairs)]
        found.append((context.flatten(1), torch.cat(sides, dim=1).float().flatten(1)))
    (context, features), (empty_context, empty_features) = found
    shares = {
        "context": (context - empty_context).norm(dim=1) / empty_context.norm(dim=1),
        "features": (features - empty_features).norm(dim=1) / empty_features.norm(dim=1),
    }
    return pd.DataFrame(
        {
            "pair_id": [pair.pair_id for pair in pairs],
            "category": [pair.category for pair in pairs],
            "keypoint": "",
            "src_image": [pair.src.image_id for pair in pairs],
            "trg_image": [pair.trg.image_id for pair in pairs],
            **{name: share.tolist() for name, share in shares.items()},
        }
    )
