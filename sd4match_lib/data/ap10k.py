"""AP-10K as a benchmark of correspondence: 54 species of 23 families, 17 keypoints, pairs of GeoAware-SC.

Pairs (Zhang et al., CVPR 2024): ``PairAnnotation/<list>/<source>-<target>:<name>.json``, each with the fields
``src_json_path`` and ``trg_json_path``, of which only what follows ``ImageAnnotation/`` counts. The lists are
``trn``, ``val`` and ``test`` (within a species), and ``val`` and ``test`` with ``_cross_species`` (within a
family) and ``_cross_family`` behind.

Pictures, in either of two layouts:

- as GeoAware-SC arranges them: ``ImageAnnotation/<family>/<species>/<id>.json``, an annotation of COCO's kind
  with the picture's ``width`` and ``height``, and ``JPEGImages/<family>/<species>/<id>.jpg``;
- as AP-10K is released: COCO's ``annotations/*.json`` and ``data/<id>.jpg``; of pictures with several animals
  the first annotation counts, as there.

A keypoint is ``(x, y, v)`` and is to be seen iff ``v`` is above 0. theta is the longer side of the target's
box, which is ``[left, top, width, height]``. Whatever shows a crowd or fewer than three keypoints is in none
of the lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from sd4match_lib.data.reading import FETCH, XY, evenly_spaced
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.symmetry import Symmetry, read_symmetry
from sd4match_lib.data.types import Box, OneSided, Pair, PairDataset, ThresholdRule
from sd4match_lib.errors import DataError
from sd4match_lib.utils.paths import inside, package_path
from sd4match_lib.utils.reading import read_json

KEYPOINTS = (
    "left_eye", "right_eye", "nose", "neck", "root_of_tail", "left_shoulder", "left_elbow", "left_front_paw",
    "right_shoulder", "right_elbow", "right_front_paw", "left_hip", "left_knee", "left_back_paw", "right_hip",
    "right_knee", "right_back_paw",
)  # fmt: skip
"""The 17 keypoints of every species, in the order of the annotations."""

_SEEN = (0, 1, 2)
"""COCO's flags of a keypoint: not there, hidden, seen."""

_LISTS = {
    "train": "trn",
    "val": "val",
    "test": "test",
    "val_cross_species": "val_cross_species",
    "test_cross_species": "test_cross_species",
    "val_cross_family": "val_cross_family",
    "test_cross_family": "test_cross_family",
}


class Ap10kDataset(PairDataset):
    """The pairs of one list of AP-10K. A pair's category is its source's species."""

    splits: ClassVar[tuple[str, ...]] = tuple(_LISTS)
    threshold: ClassVar[ThresholdRule] = ThresholdRule.BOX
    how_to_get: ClassVar[str] = (
        "fetch ap-10k.zip (its page: https://github.com/AlexTheBad/AP-10K) and make the pairs with "
        "prepare_ap10k.ipynb of https://github.com/Junyi42/GeoAware-SC, so that {root}/PairAnnotation and "
        "{root}/ImageAnnotation exist"
    )
    tolerance_px = 10.0

    def __init__(self, root: Path, split: str, max_pairs: int | None = None) -> None:
        """List the pairs below ``PairAnnotation``, in the order of their files' names.

        Raises:
            DataError: there is no such list, or it is empty.
        """
        if split not in _LISTS:
            raise DataError(f"AP-10K has no {split!r} split; use one of {', '.join(_LISTS)}.")
        super().__init__("ap10k", split, root)
        folder = root / "PairAnnotation" / _LISTS[split]
        paths = [inside(folder, path.name, str(folder)) for path in sorted(folder.glob("*.json"))]
        if not paths:
            raise DataError(f"{folder}: there are no pairs; {FETCH}.")
        self._paths = evenly_spaced(paths, max_pairs)
        self._sides: dict[int, tuple[PurePosixPath, PurePosixPath]] = {}
        self._annotations: dict[PurePosixPath, _Animal] = {}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._paths)

    @property
    def symmetry(self) -> Symmetry:
        """The groups of GeoAware-SC, the same for every species."""
        return read_symmetry(package_path("data/symmetry_ap10k.csv"))

    @cached_property
    def _released(self) -> dict[str, dict[str, Any]] | None:
        """Annotation by picture's stem where the layout is the release's, else None."""
        if (self.root / "ImageAnnotation").is_dir():
            return None
        found: dict[str, dict[str, Any]] = {}
        for path in self._coco_files:
            content = read_json(path, fix=FETCH)
            if not isinstance(content, dict):
                raise DataError(f"{path}: this is not an annotation (a JSON object); {FETCH}.")
            pictures = {
                _number(picture, "id", path): picture for picture in _entries(content, "images", path)
            }
            for annotation in _entries(content, "annotations", path):
                picture = pictures.get(_number(annotation, "image_id", path))
                if picture is not None:
                    found.setdefault(Path(str(picture.get("file_name"))).stem, {**annotation, **picture})
        return found

    @cached_property
    def _coco_files(self) -> list[Path]:
        return sorted((self.root / "annotations").glob("*.json"))

    def _pair(self, place: int) -> Pair:
        path = self._paths[place]
        src, trg = (self._animal(side, path) for side in self._names(place))
        shared = [name for name in KEYPOINTS if name in src.points and name in trg.points]
        if not shared:
            raise DataError(f"{path}: {src.path} and {trg.path} share no keypoint; {FETCH}.")
        records = [
            self._record(side, animal) for side, animal in zip(self._names(place), (src, trg), strict=True)
        ]
        only_src = tuple(name for name in src.points if name not in shared)
        only_trg = tuple(name for name in trg.points if name not in shared)
        return Pair(
            path.stem,
            records[0].category,
            records[0],
            records[1],
            src.xy(shared),
            trg.xy(shared),
            tuple(shared),
            self.threshold,
            one_sided=OneSided(src.xy(only_src), only_src, trg.xy(only_trg), only_trg),
        )

    def _names(self, place: int) -> tuple[PurePosixPath, PurePosixPath]:
        """The two annotations of a pair, relative to ``ImageAnnotation``: family, species, file."""
        if place not in self._sides:
            path = self._paths[place]
            content = read_json(path, fix=FETCH)
            sides = []
            for field in ("src_json_path", "trg_json_path"):
                text = content.get(field) if isinstance(content, dict) else None
                _, found, name = str(text).replace("\\", "/").partition("ImageAnnotation/")
                if not found or len(PurePosixPath(name).parts) != 3:
                    raise DataError(
                        f"{path}, field {field!r}: {text!r} does not end in "
                        f"ImageAnnotation/<family>/<species>/<id>.json; {FETCH}."
                    )
                sides.append(PurePosixPath(name))
            self._sides[place] = sides[0], sides[1]
        return self._sides[place]

    def _animal(self, name: PurePosixPath, where: Path) -> _Animal:
        if name not in self._annotations:
            path = self._annotation_path(name, where)
            released = self._released
            fields = read_json(path, fix=FETCH) if released is None else released.get(name.stem)
            if not isinstance(fields, dict):
                raise DataError(f"{path}: there is no annotation of picture {name.stem}; {FETCH}.")
            self._annotations[name] = _Animal(path, fields)
        return self._annotations[name]

    def _record(self, name: PurePosixPath, animal: _Animal) -> ImageRecord:
        record = self._image(
            f"{name.parts[1]}/{name.stem}", name.parts[1], self._picture_path(name), box_px=animal.box
        )
        if animal.hw_px != record.hw_px:
            raise DataError(
                f"{animal.path}, fields 'height', 'width': {animal.hw_px} is not the size of {record.path}, "
                f"which is {record.hw_px}; {FETCH}."
            )
        height, width = record.hw_px
        x0, y0, x1, y1 = animal.box
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height or x1 - x0 > 2 * width or y1 - y0 > 2 * height:
            raise DataError(
                f"{animal.path}, field 'bbox': the box {list(animal.box)} is none of {record.path}, which "
                f"has {width} x {height} pixels; {FETCH}."
            )
        self._check_points(animal.xy(animal.points), record, f"{animal.path}, field 'keypoints'")
        return record

    def _annotation_path(self, name: PurePosixPath, where: Path) -> Path:
        if self._released is None:
            return inside(self.root / "ImageAnnotation", str(name), str(where))
        return self.root / "annotations"

    def _picture_path(self, name: PurePosixPath) -> Path:
        if self._released is None:
            return inside(self.root / "JPEGImages", str(name.with_suffix(".jpg")), str(self.root))
        return inside(self.root / "data", f"{name.stem}.jpg", str(self.root))

    def _image_ids(self, place: int) -> tuple[str, str]:
        src, trg = (f"{name.parts[1]}/{name.stem}" for name in self._names(place))
        return src, trg

    def _pair_keys(self) -> Iterable[str]:
        return (path.stem for path in self._paths)

    def _files(self) -> Iterable[Path]:
        yield from self._coco_files if self._released is not None else ()
        for place, path in enumerate(self._paths):
            yield path
            for name in self._names(place):
                yield self._picture_path(name)
                if self._released is None:
                    yield self._annotation_path(name, path)


class _Animal:
    """One annotation of COCO's kind: the keypoints that are to be seen, the box, the picture's size."""

    def __init__(self, path: Path, fields: dict[str, Any]) -> None:
        self.path = path
        values = self._numbers(fields, "keypoints", 3 * len(KEYPOINTS)).reshape(-1, 3)
        if not set(values[:, 2]) <= set(_SEEN):
            raise DataError(f"{path}, field 'keypoints': whether a point is seen is 0, 1 or 2; {FETCH}.")
        self.points = {
            name: (x, y) for name, (x, y, seen) in zip(KEYPOINTS, values.tolist(), strict=True) if seen > 0
        }
        left, top, width, height = self._numbers(fields, "bbox", 4).tolist()
        if width <= 0 or height <= 0:
            raise DataError(f"{path}, field 'bbox': the box {fields['bbox']} has no area; {FETCH}.")
        self.box: Box = left, top, left + width, top + height
        self.hw_px = fields.get("height"), fields.get("width")

    def xy(self, names: Iterable[str]) -> XY:
        """Some of its keypoints ``(N, 2)``."""
        return np.array([self.points[name] for name in names], np.float32).reshape(-1, 2)

    def _numbers(self, fields: dict[str, Any], field: str, count: int) -> np.ndarray:
        value = fields.get(field)
        plain = isinstance(value, list) and all(type(number) in (int, float) for number in value)
        numbers = np.array(value if plain else [], np.float64)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise DataError(f"{self.path}, field {field!r}: this is not {count} numbers; {FETCH}.")
        return numbers


def _number(entry: dict[str, Any], field: str, path: Path) -> int:
    value = entry.get(field)
    if type(value) is not int:
        raise DataError(f"{path}, field {field!r}: {value!r} is not a whole number; {FETCH}.")
    return value


def _entries(content: dict[str, Any], field: str, path: Path) -> list[dict[str, Any]]:
    value = content.get(field)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f"{path}, field {field!r}: this is not a list of objects; {FETCH}.")
    return value
