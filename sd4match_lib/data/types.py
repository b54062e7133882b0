"""What every data set is made of: pictures, pairs of them, and the rule that scores a pair."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sd4match_lib.errors import DataError
from sd4match_lib.files import sha256_file
from sd4match_lib.geometry import HW
from sd4match_lib.images import read_image

XY = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the original picture."""


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
        viewpoint: change of viewpoint: 0 easy, 1 medium, 2 hard.
        scale: change of scale: 0 easy, 1 medium, 2 hard.
        truncation: 0 neither, 1 source, 2 target, 3 both are cut by the frame.
        occlusion: 0 neither, 1 source, 2 target, 3 both are hidden in part.
    """

    viewpoint: int
    scale: int
    truncation: int
    occlusion: int


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One picture of a data set, not yet read.

    Attributes:
        image_id: ``"<category>/<stem>"``, with ``"#flip"`` at the end for the mirrored twin.
        category: the object's category in the data set's own words.
        path: the file.
        hw_px: upright size (H, W), from the file's header.
        box_px: the object's box in this record's (flipped, where it is) picture, or None where there is none.
        mask_path: a PNG of class indices, or None.
        flip: whether the picture is mirrored left to right after reading.
        mask_value: the class index of the object in the mask, or None.
    """

    image_id: str
    category: str
    path: Path
    hw_px: HW
    box_px: Box | None = None
    mask_path: Path | None = None
    flip: bool = False
    mask_value: int | None = None

    def read(self) -> Image.Image:
        """Read the picture: RGB, upright, mirrored when `flip` says so.

        Raises:
            DataError: the file cannot be read.
        """
        image = read_image(self.path)
        return ImageOps.mirror(image) if self.flip else image

    def read_mask(self) -> npt.NDArray[np.bool_] | None:
        """Read the object's mask ``(H, W)``, mirrored with the picture; None where there is none.

        Raises:
            DataError: the file cannot be read, or does not hold one class index per pixel of the picture.
        """
        if self.mask_path is None:
            return None
        try:
            with Image.open(self.mask_path) as image:
                classes = np.asarray(image)
        except Exception as error:  # Pillow's readers raise nearly anything on damaged files
            raise DataError(
                f"{self.mask_path}: the mask cannot be read ({error}); fetch it again."
            ) from error
        if classes.shape != self.hw_px:
            raise DataError(
                f"{self.mask_path}: the mask's shape is {classes.shape}, its picture's {self.hw_px}; "
                "fetch both again."
            )
        mask = classes == self.mask_value
        return mask[:, ::-1] if self.flip else mask


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

    @property
    def has_truth(self) -> bool:
        """Whether every target point is known, so that the pair can be scored and trained on."""
        return bool(np.isfinite(self.trg_px).all())


class PairDataset(Sequence[Pair]):
    """The pairs of one split, in the list's order; a pair's annotation is read when it is asked for.

    Attributes:
        name: the layout's name, e.g. ``"spair"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: the data set's folder.
        categories: the categories of the split, sorted.
    """

    name: str
    split: str
    root: Path
    categories: tuple[str, ...]

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

    @abstractmethod
    def images(self) -> dict[str, ImageRecord]:
        """Return every picture of the split by its id, in the order of first appearance."""

    def fingerprint(self) -> str:
        """Return the sha256 of everything that a result on this split depends on.

        That is the pairs in their order, the bytes of the lists and annotations, and the bytes of the pictures;
        not where the data set lies.

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
    def _pair_keys(self) -> Iterable[str]:
        """One text per pair, that says which pair it is."""

    @abstractmethod
    def _files(self) -> Iterable[Path]:
        """Every file that the split's pairs are read from, pictures included."""
