"""A quick look at what a half-trained model can match: the curve that pretraining logs beside its loss."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sd4match_lib.matching.points import match_points
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining.caption import full_caption
from sd4match_lib.miniature.render.scene import IMAGE_SIZE, Picture, take_picture

_SEED = 77_003
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class ProbePair:
    """Two pictures (indices into the probe's images) and their shared keypoints in pixels, `(N, 2)` each;
    `reach` is the target box's longer side.
    """

    src: int
    trg: int
    src_px: Tensor
    trg_px: Tensor
    reach: float


@dataclass(frozen=True)
class Probe:
    """Pictures `(M, S, S, 3)` uint8 of objects that neither the bank nor MiniPair holds, their categories,
    captions that name all there is to name, and pairs of them.
    """

    images: Tensor
    categories: list[str]
    captions: list[str]
    pairs: list[ProbePair]

    def pck(self, features: Tensor, alpha: float = 0.1) -> float:
        """Nearest-neighbour PCK, per image, of `(M, C, h, w)` features."""
        grid = features.shape[-1]
        scale = (grid - 1) / (IMAGE_SIZE - 1)
        hits = []
        for pair in self.pairs:
            src, trg = features[pair.src : pair.src + 1], features[pair.trg : pair.trg + 1]
            found = match_points(src, trg, pair.src_px[None] * scale, matcher="nn")[0] / scale
            hits.append(((found - pair.trg_px).norm(dim=1) <= alpha * pair.reach).float().mean())
        return float(torch.stack(hits).mean())


def build_probe(pairs_each: int = 8) -> Probe:
    """Renders `pairs_each` pairs for each category, over all azimuths, that share three keypoints or more."""
    pictures: list[Picture] = []
    pairs: list[ProbePair] = []
    categories: list[str] = []
    for number, (category, make) in enumerate(CATEGORIES.items()):
        found = draw = 0
        while found < pairs_each:
            rngs = [np.random.default_rng([_SEED, number, draw, i]) for i in range(4)]
            src, trg = take_picture(make, rngs[0], rngs[1]), take_picture(make, rngs[2], rngs[3])
            draw += 1
            shared = [name for name in src.keypoints if name in trg.keypoints]
            if len(shared) < _FEWEST_POINTS:
                continue
            reach = max(trg.box[2] - trg.box[0], trg.box[3] - trg.box[1])
            points = [torch.tensor([p.keypoints[name] for name in shared]) for p in (src, trg)]
            pairs.append(ProbePair(len(pictures), len(pictures) + 1, points[0], points[1], float(reach)))
            pictures += [src, trg]
            categories += [category] * 2
            found += 1
    captions = [full_caption(c, p.model.colours) for c, p in zip(categories, pictures, strict=True)]
    return Probe(torch.from_numpy(np.stack([p.rgb for p in pictures])), categories, captions, pairs)
