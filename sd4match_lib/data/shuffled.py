"""A negative control: a data set whose correspondences are wrong, and everything else as it was."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair, PairDataset
from sd4match_lib.utils.files import sha256_text


class ShuffledPairs(PairDataset):
    """The same pairs, pictures and points, but each source point belongs to another one's target point.

    What is learned from it cannot come from correspondences: pictures, places of points, steps and order are
    those of the pairs themselves. A pair of one point is left as it is.
    """

    def __init__(self, pairs: PairDataset, seed: int) -> None:
        """Shuffle; the seed decides, with a pair's id, whose point each gets."""
        super().__init__(pairs.name, pairs.split, pairs.root)
        self._pairs, self._seed = pairs, seed

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs)

    def images(self) -> dict[str, ImageRecord]:
        """Return every picture of the split by its id; see `PairDataset.images`."""
        return self._pairs.images()

    def _pair(self, place: int) -> Pair:
        pair = self._pairs[place]
        rng = np.random.default_rng(int(sha256_text(f"{self._seed} {pair.pair_id}")[:16], 16))
        # One ring through all points, so that none keeps its own.
        ring = rng.permutation(len(pair.trg_px))
        trg_px = pair.trg_px.copy()
        trg_px[ring] = pair.trg_px[np.roll(ring, 1)]
        return dataclasses.replace(pair, trg_px=trg_px)

    def _image_ids(self, place: int) -> tuple[str, str]:
        return self._pairs._image_ids(place)

    def _pair_keys(self) -> Iterable[str]:
        return [f"shuffled by {self._seed}", *self._pairs._pair_keys()]

    def _files(self) -> Iterable[Path]:
        return self._pairs._files()
