"""What every data set is made of: pictures, pairs of them, and the rule that scores a pair."""

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import ClassVar, overload

import numpy as np

from sd4match_lib.data.reading import XY, count_outside
from sd4match_lib.data.record import Box, ImageRecord
from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.errors import DataError
from sd4match_lib.images import image_hw
from sd4match_lib.utils.files import sha256_file

_log = logging.getLogger(__name__)


class ThresholdRule(StrEnum):
    """What PCK's alpha is a fraction of, in the target picture (method, section 6)."""

    BOX = "box"
    """The longer side of the object's box: SPair-71k."""
    IMAGE = "image"
    """The longer side of the picture: PF-Pascal, and pairs of your own."""
    KEYPOINTS = "keypoints"
    """The larger extent of the keypoints: PF-Willow."""


@dataclass(frozen=True)
class Difficulty:
    """SPair-71k's numbers on how hard a pair is; 0 is easy.

    Attributes:
        viewpoint, scale: change of it: 0 easy, 1 medium, 2 hard.
        truncation, occlusion: 0 neither, 1 source, 2 target, 3 both are cut by the frame, or hidden in part.
    """

    viewpoint: int
    scale: int
    truncation: int
    occlusion: int


@dataclass(frozen=True, eq=False)
class OneSided:
    """Keypoints that only one of a pair's two pictures shows; they are neither matched nor learned from.

    Attributes:
        src_px, trg_px: points ``(S, 2)`` and ``(T, 2)`` float32, each in the picture that shows them.
        src_ids, trg_ids: what the data set calls them.
    """

    src_px: XY
    src_ids: tuple[str, ...]
    trg_px: XY
    trg_ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures of one category and the points that correspond.

    Attributes:
        pair_id: unique in the data set and split.
        category: in the data set's own words.
        src: the source picture, where the points are given.
        trg: the target picture, where they are looked for.
        src_px: points ``(N, 2)`` float32 (x, y) in the source picture.
        trg_px: the same points in the target picture; NaN where the truth is not known.
        keypoint_ids: what the data set calls each of the N points.
        threshold: what alpha is a fraction of.
        difficulty: SPair-71k's flags, or None.
        one_sided: the keypoints that only one picture shows, or None where the data set does not know them.
    """

    pair_id: str
    category: str
    src: ImageRecord
    trg: ImageRecord
    src_px: XY
    trg_px: XY
    keypoint_ids: tuple[str, ...]
    threshold: ThresholdRule
    difficulty: Difficulty | None = None
    one_sided: OneSided | None = None

    @property
    def has_truth(self) -> bool:
        """Whether every target point is known, so that the pair can be scored and trained on."""
        return bool(np.isfinite(self.trg_px).all())


class PairDataset(Sequence[Pair]):
    """The pairs of one split, in the list's order; a pair's annotation is read when it is asked for.

    A subclass is registered in `config.names.DATASETS` and made with (root, split, max_pairs): its folder, or
    for pairs of your own their file; one of its splits; and how many pairs to use, evenly spaced over the
    list, or None for all.

    Attributes:
        splits: the splits that the data set has.
        threshold: how its pairs are scored.
        how_to_get: what to do where it is missing, in one line; "{root}" stands for its folder.
        known_counts: (split, number of pairs) -> why the number differs from the published one.
        name: the layout's name, e.g. ``"spair"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: the data set's folder.
        tolerance_px: how far outside its picture a keypoint may lie. Within it, points are kept as they are
            and counted. One pixel covers annotations that count pixels from one.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    threshold: ClassVar[ThresholdRule]
    how_to_get: ClassVar[str]
    known_counts: ClassVar[dict[tuple[str, int], str]] = {}
    tolerance_px: float = 1.0

    def __init__(self, name: str, split: str, root: Path) -> None:
        """Say what the data set is; its reader then reads the list."""
        self.name = name
        self.split = split
        self.root = root
        self._records: dict[str, ImageRecord] = {}
        self._outside: dict[str, int] = {}

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        """Read one pair, or a slice of them.

        Raises:
            IndexError: there is no such pair.
            DataError: its annotation or one of its pictures is missing or damaged.
        """
        places = range(len(self))[index]
        return self._pair(places) if isinstance(places, int) else [self._pair(place) for place in places]

    @property
    def symmetry(self) -> Symmetry | None:
        """Which keypoints are alike and which are left and right; None where nobody says."""
        return None

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The categories of the split, sorted."""
        firsts = (self._image_ids(place)[0] for place in range(len(self)))
        return tuple(sorted({image_id.partition("/")[0] for image_id in firsts}))

    def images(self) -> dict[str, ImageRecord]:
        """Return every picture of the split by its id, in the order of first appearance.

        Raises:
            DataError: an annotation or a picture is missing or damaged.
        """
        found: dict[str, ImageRecord] = {}
        for place in range(len(self)):
            ids = self._image_ids(place)
            if any(image_id not in self._records for image_id in ids):
                self._pair(place)
            found.update((image_id, self._records[image_id]) for image_id in ids)
        return found

    def fingerprint(self) -> str:
        """Return the sha256 of everything that a result on this split depends on.

        That is the pairs in their order, and the bytes of the lists, annotations and pictures; not the folder
        that they lie in.

        Raises:
            DataError: one of the files is missing.
        """
        digest = hashlib.sha256(f"{self.name} {self.split}\n".encode())
        for line in self._pair_keys():
            digest.update(f"{line}\n".encode())
        for path in sorted(set(self._files())):
            name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
            try:
                digest.update(f"{name} {sha256_file(path)}\n".encode())
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error}); fetch the data set again.") from error
        return digest.hexdigest()

    @abstractmethod
    def _pair(self, place: int) -> Pair:
        """Read the pair at a place that is known to exist."""

    @abstractmethod
    def _image_ids(self, place: int) -> tuple[str, str]:
        """The ids of a pair's two pictures, without reading anything."""

    @abstractmethod
    def _pair_keys(self) -> Iterable[str]:
        """One text per pair, that says which pair it is."""

    @abstractmethod
    def _files(self) -> Iterable[Path]:
        """Every file that the split's pairs are read from, pictures included."""

    def _image(
        self,
        image_id: str,
        category: str,
        path: Path,
        *,
        flip: bool = False,
        box_px: Box | None = None,
        mask_path: Path | None = None,
        mask_value: int | None = None,
    ) -> ImageRecord:
        """The record of a picture, made on first use, so that each header is read once."""
        if image_id not in self._records:
            mask_path = mask_path if mask_path is not None and mask_path.is_file() else None
            self._records[image_id] = ImageRecord(
                image_id, category, path, image_hw(path), box_px, mask_path, flip, mask_value
            )
        return self._records[image_id]

    def _check_points(self, xy_px: XY, record: ImageRecord, where: str) -> None:
        """Refuse points far outside their picture; count and log those just outside."""
        outside = count_outside(xy_px, record.hw_px, tolerance_px=self.tolerance_px, where=where)
        if outside and record.image_id not in self._outside:
            self._outside[record.image_id] = outside
            pictures = len(self._outside)
            # The first of a kind, then only every power of ten: real data sets have hundreds.
            if str(pictures).strip("0") == "1":
                _log.info(
                    "%s %s: %d pictures so far have points just outside the frame (kept); the latest is %s",
                    self.name, self.split, pictures, record.path,
                )  # fmt: skip
