"""What a CPM listens to in a picture once the place in the picture, which needs no picture, is taken out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from sd4match_lib.analysis.prompts import pair_batch, patch_saliency
from sd4match_lib.backbones.vision import seen_box
from sd4match_lib.config.profile import Profile
from sd4match_lib.config.schema import VisionConfig
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair
from sd4match_lib.prompts.cpm import ConditionalPrompt


class Saliency(NamedTuple):
    """What a CPM listens to in some pairs.

    Attributes:
        src: (B, M) of the sources' patches, as a multiple of the mean of their place.
        trg: those of the targets.
        by_place: the share of how the gradient's norm varies that the place alone explains, whatever stands
            there: 1 means that the picture does not matter.
    """

    src: Tensor
    trg: Tensor
    by_place: float


def relative_saliency(profile: Profile, prompt: ConditionalPrompt, pairs: Sequence[Pair]) -> Saliency:
    """Say how strongly a CPM listens to each patch, as a multiple of the mean of that place.

    `g_n` has weights of its own for every place, so that some places are loud in every picture. Only what is
    left when each is divided by its mean over the pairs has to do with what stands there. These are of
    several categories, or the mean of a place is that of one object.
    """
    src, trg = patch_saliency(prompt, pair_batch(profile, pairs))
    both = torch.cat([src, trg], dim=1)
    between = both.mean(dim=0).var(correction=0) / both.var(correction=0)
    return Saliency(src / src.mean(dim=0), trg / trg.mean(dim=0), float(between))


def object_lead(pairs: Sequence[Pair], saliency: Saliency, vision: VisionConfig) -> pd.DataFrame:
    """Say how much more a CPM listens to patches on the object than to those beside it.

    Returns:
        A row per pair whose pictures both have a mask and patches on both sides of it, as
        `estimates.value_sums` takes them: pair_id, category, keypoint, src_image, trg_image, and `value`: the
        mean on the object minus the mean beside it.
    """
    rows = []
    for number, pair in enumerate(pairs):
        leads = [
            _lead(record, shares[number].numpy(), vision)
            for record, shares in zip((pair.src, pair.trg), saliency[:2], strict=True)
        ]
        if None not in leads:
            names = {"src_image": pair.src.image_id, "trg_image": pair.trg.image_id}
            cells = {"pair_id": pair.pair_id, "category": pair.category, "keypoint": ""}
            rows.append({**cells, **names, "value": float(np.mean(np.asarray(leads, float)))})
    return pd.DataFrame(rows)


def _lead(record: ImageRecord, shares: npt.NDArray[np.float32], vision: VisionConfig) -> float | None:
    mask = record.read_mask()
    if mask is None:
        return None
    side = round(len(shares) ** 0.5)
    left, right, top, bottom = seen_box(record.read(), vision)
    drawn = Image.fromarray(mask.astype(np.uint8) * 255)
    box = (left + 0.5, top + 0.5, right + 0.5, bottom + 0.5)
    cells = drawn.resize((side, side), Image.Resampling.BOX, box=box)
    on = np.asarray(cells, float).ravel() > 127
    if on.all() or not on.any():
        return None
    return float(shares[on].mean() - shares[~on].mean())
