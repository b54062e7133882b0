"""From correlation maps to points: the four matchers of the paper's evaluation (method, section 5).

A matcher is one function here, or anywhere, and one line in `config.names`. It is given a `Correlation` and
source keypoints ``(B, N, 2)`` in source cells, and returns positions ``(B, N, 2)`` in target cells; what it
names of ``temperature`` and ``sigma`` as keyword-only parameters, it is given too.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from sd4match_lib.config.names import MATCHERS
from sd4match_lib.errors import UserError
from sd4match_lib.matching.correlation import Correlation, best_cells, surrounding_cells

MAX_SCORES = 2**24
"""Most correlation scores held at once (64 MiB in float32); more keypoints are matched in chunks."""


def match_points(
    src_feat: Tensor,
    trg_feat: Tensor,
    src_ft: Tensor,
    *,
    matcher: str = "kernel_softargmax",
    temperature: float = 0.04,
    sigma: float = 7.0,
) -> Tensor:
    """Find the target positions that correspond to source keypoints.

    Args:
        src_feat: source features ``(B, C, h, w)``, not necessarily normalised.
        trg_feat: target features ``(B, C, h', w')``; the grid may differ from the source's.
        src_ft: source keypoints ``(B, N, 2)`` in source cells, clamped to the grid. Padding may be NaN.
        matcher: one of `MATCHERS`.
        temperature: softmax temperature (beta in the paper's Eq. 4), for the two soft matchers.
        sigma: standard deviation of the Gaussian in target cells, for ``kernel_softargmax``; the paper's 7
            belongs to a grid of 48.

    Returns:
        ``(B, N, 2)`` positions in target cells; NaN where the source keypoint is not finite.

    Raises:
        UserError: there is no such matcher, temperature or sigma is not positive, or features are not finite.
        ValueError: shapes do not fit together.
    """
    given = {"temperature": temperature, "sigma": sigma}
    for name, value in given.items():
        if not value > 0:
            raise UserError(f"The matcher's {name} is {value}; give a number above 0.")
    find: Callable[..., Tensor] = MATCHERS.load(matcher)
    options = {name: given[name] for name in matcher_options(matcher)}
    score = Correlation(src_feat, trg_feat)
    # An argmax over NaN would be the first cell, which looks like an answer.
    if not (src_feat.isfinite().all() and trg_feat.isfinite().all()):
        raise UserError(
            "The features are not finite, so there is nothing to match: are weights and prompt whole? Use "
            "the dtype float32 or bfloat16."
        )
    src_ft = src_ft.to(score.src_feat)
    with torch.autocast(src_feat.device.type, enabled=False):
        found = [find(score, part, **options) for part in src_ft.split(chunk_size(score), dim=1)]
    trg_ft = torch.cat(found, dim=1) if found else src_ft.clone()
    return trg_ft.masked_fill(~src_ft.isfinite().all(-1, keepdim=True), float("nan"))


def matcher_options(matcher: str) -> tuple[str, ...]:
    """Return which of "temperature" and "sigma" a matcher depends on.

    Raises:
        UserError: there is no such matcher.
    """
    parameters = inspect.signature(MATCHERS.load(matcher)).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def chunk_size(score: Correlation) -> int:
    """Return how many keypoints' correlation maps may be held at once (`MAX_SCORES`)."""
    height, width = score.trg_hw
    return max(1, MAX_SCORES // max(1, score.src_feat.shape[0] * height * width))


def nearest_neighbour(score: Correlation, src_ft: Tensor) -> Tensor:
    """The best scoring target cell."""
    return best_cells(score(src_ft))


def bilinear(score: Correlation, src_ft: Tensor) -> Tensor:
    """The best cells of the four source cells around the keypoint, averaged with its bilinear weights."""
    width = score.src_hw[1]
    index, weight = surrounding_cells(src_ft, score.src_hw)
    cells_ft = torch.stack([index % width, index // width], -1).to(src_ft)
    best = torch.stack([best_cells(score(cells_ft[:, :, corner])) for corner in range(4)], 2)
    return (best * weight[..., None]).sum(2)


def softargmax(score: Correlation, src_ft: Tensor, *, temperature: float) -> Tensor:
    """The expected position under the softmax of all scores."""
    return expected_position(score(src_ft), temperature)


def kernel_softargmax(score: Correlation, src_ft: Tensor, *, temperature: float, sigma: float) -> Tensor:
    """The soft-argmax after the scores have been multiplied by a Gaussian centred on their maximum.

    Lee et al., SFNet; the choice of the paper, Sec. 3.2.
    """
    scores = score(src_ft)
    return expected_position(scores * _gaussian_at(best_cells(scores), scores, sigma), temperature)


def expected_position(scores: Tensor, temperature: float) -> Tensor:
    """Return the mean position under the softmax of ``(..., h, w)`` scores, as ``(..., 2)`` cells."""
    probability = (scores.flatten(-2) / temperature).softmax(-1).view_as(scores)
    columns, rows = cell_axes(scores)
    return torch.stack([(probability.sum(-2) * columns).sum(-1), (probability.sum(-1) * rows).sum(-1)], -1)


def cell_axes(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return column and row numbers of a map's cells, in the map's type and on its device."""
    height, width = scores.shape[-2:]
    columns, rows = (torch.arange(side, dtype=scores.dtype, device=scores.device) for side in (width, height))
    return columns, rows


def _gaussian_at(centre_ft: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """``exp(-d^2 / (2 sigma^2))`` around one cell per map, ``(B, N, h, w)``."""
    columns, rows = cell_axes(scores)
    along_x = torch.exp(-((columns - centre_ft[..., :1]) ** 2) / (2 * sigma**2))
    along_y = torch.exp(-((rows - centre_ft[..., 1:]) ** 2) / (2 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :]
