"""Data sets whose pairs are read, points and all, when they are opened; pictures when a pair is asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sd4match_lib.data.reading import XY
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair, PairDataset
from sd4match_lib.geometry import flip_points


@dataclass(frozen=True, eq=False)
class Listed:
    """One pair: its id, category, pictures with their ids, and points as in `Pair`, before any flip.

    Attributes:
        where: where the source's and the target's points are written, for messages.
        flip: whether both pictures are mirrored.
    """

    pair_id: str
    category: str
    ids: tuple[str, str]
    paths: tuple[Path, Path]
    points_px: tuple[XY, XY]
    keypoint_ids: tuple[str, ...]
    where: tuple[str, str]
    flip: bool = False


class ListedPairs(PairDataset):
    """Pairs that were read, from the files `read_from`, before anything is asked of them."""

    listed: list[Listed]
    read_from: Sequence[Path]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.listed)

    def _image_ids(self, place: int) -> tuple[str, str]:
        return self.listed[place].ids

    def _pair(self, place: int) -> Pair:
        row = self.listed[place]
        (src, src_px), (trg, trg_px) = (self._side(row, side) for side in (0, 1))
        return Pair(row.pair_id, row.category, src, trg, src_px, trg_px, row.keypoint_ids, self.threshold)

    def _side(self, row: Listed, side: int) -> tuple[ImageRecord, XY]:
        record = self._image(row.ids[side], row.category, row.paths[side], flip=row.flip)
        xy_px = row.points_px[side]
        self._check_points(xy_px, record, row.where[side])
        return record, flip_points(xy_px, record.hw_px) if row.flip else xy_px

    def _pair_keys(self) -> Iterable[str]:
        return (row.pair_id for row in self.listed)

    def _files(self) -> Iterable[Path]:
        yield from self.read_from
        for row in self.listed:
            yield from row.paths


def shown_in_both(src_px: XY, trg_px: XY) -> tuple[tuple[XY, XY], tuple[str, ...]]:
    """Return the points that are NaN in neither picture, and their places among all as ids."""
    shared = np.flatnonzero(np.isfinite(src_px).all(axis=1) & np.isfinite(trg_px).all(axis=1))
    return (src_px[shared], trg_px[shared]), tuple(str(place) for place in shared)
