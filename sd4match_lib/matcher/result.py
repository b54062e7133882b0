"""What `Matcher` answers: points in the target's own pixels, and how sure the model is of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sd4match_lib.matcher.picture import Picture
from sd4match_lib.matching.points import cell_axes

Floats = npt.NDArray[np.float32]
Extent = tuple[float, float, float, float]

CONFIDENCE_REACH = 0.1
"""Of the target grid's longer side: the circle whose share of the distribution is the confidence."""


@dataclass(frozen=True, eq=False)
class Match:
    """Points of a source picture, found in a target picture.

    **What confidence is:** the softmax of a point's cosine similarities, at the profile's temperature, is
    read as a distribution over the target; confidence is its share within a tenth of the picture around the
    found place. Near 1, the target has one place like this; as small as the circle's share of the picture
    (about 0.03), everywhere looks alike. **What it is not:** the chance that the match is right. It was
    calibrated on nothing; it cannot know that the right place is hidden; and the wrong one of two wheels,
    taken for sure, has a high one. `similarity`, the best cell's cosine, is comparable within one model and
    timestep only.

    Attributes:
        src: the source picture.
        trg: the target picture.
        src_px: the points asked for, ``(N, 2)`` in pixels of the source.
        trg_px: where they were found, ``(N, 2)`` in pixels of the target.
        confidence: ``(N,)`` in 0..1.
        similarity: ``(N,)`` in -1..1.
        mutual: ``(N,)``, whether the way back leads to the point; None where `MatchOptions.mutual` is off.
        flipped: whether the mirrored source was kept (`MatchOptions.flip`).
        maps: cosine similarities ``(N, h, w)`` with every cell of the target, or None where not asked for.
        maps_extent_px: (left, right, top, bottom) of the maps' outer edges in pixels of the target, whose
            top left pixel has its centre at (0, 0). None without maps.
    """

    src: Picture
    trg: Picture
    src_px: Floats
    trg_px: Floats
    confidence: Floats
    similarity: Floats
    mutual: npt.NDArray[np.bool_] | None = None
    flipped: bool = False
    maps: Floats | None = None
    maps_extent_px: Extent | None = None

    def __len__(self) -> int:
        """How many points."""
        return len(self.src_px)

    def rows(self, *, only_mutual: bool = False) -> list[dict[str, Any]]:
        """Return plain data: one dictionary a point, with its number (from 1), places and confidence.

        Args:
            only_mutual: leave out points that were looked for on the way back and not found.
        """
        rows: list[dict[str, Any]] = []
        for index in range(len(self)):
            if only_mutual and self.mutual is not None and not self.mutual[index]:
                continue
            row: dict[str, Any] = {
                "point": index + 1,
                "src": _rounded(self.src_px[index]),
                "trg": _rounded(self.trg_px[index]),
                "confidence": round(float(self.confidence[index]), 4),
                "similarity": round(float(self.similarity[index]), 4),
            }
            if self.mutual is not None:
                row["mutual"] = bool(self.mutual[index])
            rows.append(row)
        return rows


def share_around(trg_ft: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Return the confidence of found places; see `Match`.

    Args:
        trg_ft: places (N, 2) in target cells.
        scores: cosine similarities (N, h, w) with every cell of the target.
        temperature: of the softmax that makes them a distribution.

    Returns:
        (N,), the share of the distribution within `CONFIDENCE_REACH` of each place.
    """
    height, width = scores.shape[1:]
    columns, rows = cell_axes(scores)
    square = (columns - trg_ft[:, :1])[:, None, :] ** 2 + (rows - trg_ft[:, 1:])[:, :, None] ** 2
    probability = (scores.flatten(1) / temperature).softmax(1).view_as(scores)
    inside = square <= (CONFIDENCE_REACH * max(height, width)) ** 2
    return (probability * inside).sum((1, 2))


def _rounded(xy: Floats) -> list[float]:
    return [round(float(value), 2) for value in xy]
