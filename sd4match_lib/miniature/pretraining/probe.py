"""A quick look at what a half-trained model can match: the curve that pretraining logs beside its loss."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd4match_lib.images import stretch_image
from sd4match_lib.matching.points import match_points
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining.caption import full_caption
from sd4match_lib.miniature.pretraining.renders import INPUT_SIZE, facts_of
from sd4match_lib.miniature.render.scene import Render, take_picture

_SEED = 77_003
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class ProbePair:
    """Two pictures (indices into the probe's images) and their shared keypoints, `(N, 2)` each, as shares of
    the picture's width and height (pixel centres; 0 and 1 are the first and the last).

    `per_reach` `(2,)` turns an error in such shares into units of the target box's longer side, measured in
    the original frame.
    """

    src: int
    trg: int
    src_xy: Tensor
    trg_xy: Tensor
    per_reach: Tensor


@dataclass(frozen=True)
class Probe:
    """Pictures `(M, S, S, 3)` uint8 of objects that neither pretraining nor MiniPair holds, their categories,
    captions that name all there is to name, and pairs of them.
    """

    images: Tensor
    categories: list[str]
    captions: list[str]
    pairs: list[ProbePair]

    def pck(self, features: Tensor, alpha: float = 0.1) -> float:
        """Nearest-neighbour PCK, per image, of `(M, C, h, w)` features."""
        last = features.shape[-1] - 1
        hits = []
        for pair in self.pairs:
            src, trg = features[pair.src : pair.src + 1], features[pair.trg : pair.trg + 1]
            found = match_points(src, trg, pair.src_xy[None] * last, matcher="nn")[0] / last
            hits.append((((found - pair.trg_xy) * pair.per_reach).norm(dim=1) <= alpha).float().mean())
        return float(torch.stack(hits).mean())


def build_probe(pairs_each: int = 8) -> Probe:
    """Renders `pairs_each` pairs for each category, over all azimuths, that share three keypoints or more."""
    renders: list[Render] = []
    pairs: list[ProbePair] = []
    for number, make in enumerate(CATEGORIES.values()):
        found = draw = 0
        while found < pairs_each:
            rngs = [np.random.default_rng([_SEED, number, draw, i]) for i in range(4)]
            src, trg = take_picture(make, rngs[0], rngs[1]), take_picture(make, rngs[2], rngs[3])
            draw += 1
            shared = [name for name in src.keypoints if name in trg.keypoints]
            if len(shared) < _FEWEST_POINTS:
                continue
            last = [torch.tensor(render.size, dtype=torch.float32) - 1 for render in (src, trg)]
            points = [
                torch.tensor([r.keypoints[n] for n in shared]) / s
                for r, s in zip((src, trg), last, strict=True)
            ]
            reach = max(trg.box[2] - trg.box[0], trg.box[3] - trg.box[1])
            pairs.append(ProbePair(len(renders), len(renders) + 1, points[0], points[1], last[1] / reach))
            renders += [src, trg]
            found += 1
    images = [stretch_image(Image.fromarray(r.rgb), (INPUT_SIZE, INPUT_SIZE)) for r in renders]
    facts = [facts_of(render, render.model.category) for render in renders]
    return Probe(
        torch.from_numpy(np.stack(images)),
        [f.category for f in facts],
        [full_caption(f) for f in facts],
        pairs,
    )
