"""SPair-71k: 18 categories, boxes, masks, and flags that say how hard a pair is.

Layout, as released: ``Layout/large/{trn,val,test}.txt`` with a pair's name per line,
``PairAnnotation/<split>/<name>.json``, ``JPEGImages/<category>/<stem>.jpg``,
``ImageAnnotation/<category>/<stem>.json`` (all keypoints that a picture shows; optional),
``Segmentation/<category>/<stem>.png`` (PASCAL VOC's class indices). A pair's name is
``<number>-<source stem>-<target stem>:<category>``.

``keypoint_symmetry.csv`` beside ``Layout`` says which keypoints are alike (`symmetry.read_symmetry`); without
it, as in the release, the table of SPair-71k that comes with this package counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sd4match_lib.data.categories import VOC_INDEX
from sd4match_lib.data.reading import FETCH, XY, as_points, check_unique, evenly_spaced
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.symmetry import SYMMETRY_FILE, Symmetry, read_symmetry
from sd4match_lib.data.types import Box, Difficulty, OneSided, Pair, PairDataset, ThresholdRule
from sd4match_lib.errors import DataError
from sd4match_lib.utils.paths import inside, package_path
from sd4match_lib.utils.reading import read_json, read_text

_SPLIT_FILES = {"train": "trn", "val": "val", "test": "test"}


class SpairDataset(PairDataset):
    """The pairs of one split of SPair-71k. Opening it reads the list only, so 53,340 pairs cost no time."""

    threshold = ThresholdRule.BOX
    how_to_get = (
        "fetch SPair-71k.tar.gz from https://cvlab.postech.ac.kr/research/SPair-71k/ and unpack it so that "
        "{root}/Layout exists"
    )
    layout = "spair"
    tolerance_px = 10.0

    def __init__(self, root: Path, split: str, max_pairs: int | None = None) -> None:
        """Read the split's list.

        Raises:
            DataError: the list is missing or one of its lines is not a pair's name.
        """
        super().__init__(self.layout, split, root)
        self._part = _SPLIT_FILES[split]
        self._list = self._list_path()
        self._names = evenly_spaced(self._read_list(), max_pairs)
        self._parts = [self._split_name(name) for name in self._names]
        self._has_image_annotations = (root / "ImageAnnotation").is_dir()
        self._keypoints: dict[str, dict[str, tuple[float, float]]] = {}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._names)

    @property
    def symmetry(self) -> Symmetry | None:
        """The data set's own table where it brings one, else SPair-71k's."""
        own = self.root / SYMMETRY_FILE
        return read_symmetry(own if own.is_file() else package_path("data/symmetry_spair.csv"))

    def _list_path(self) -> Path:
        """What names the pairs."""
        return self.root / "Layout" / "large" / f"{self._part}.txt"

    def _read_list(self) -> list[str]:
        """The names of the split's pairs."""
        lines = [line.strip() for line in read_text(self._list, fix=FETCH).splitlines() if line.strip()]
        check_unique(lines, self._list)
        return lines

    def _pictures(self) -> Path:
        """The folder of the pictures."""
        return self.root / "JPEGImages"

    def _split_name(self, name: str) -> tuple[str, str, str]:
        """Source stem, target stem and category of a pair's name."""
        stems, _, category = name.rpartition(":")
        parts = stems.split("-")
        if len(parts) != 3 or category not in VOC_INDEX:
            raise DataError(
                f"{self._list}: the line {name!r} is not '<number>-<source>-<target>:<category>'; "
                "fetch the list again."
            )
        return parts[1], parts[2], category

    def _image_ids(self, place: int) -> tuple[str, str]:
        src, trg, category = self._parts[place]
        return f"{category}/{src}", f"{category}/{trg}"

    def _annotation_path(self, name: str) -> Path:
        folder = self.root / "PairAnnotation" / self._part
        path = inside(folder, f"{name}.json", str(self._list))
        # Windows has no colons in file names, and its unpackers write an underscore.
        plain = folder / f"{name.replace(':', '_')}.json"
        return plain if not path.exists() and plain.exists() else path

    def _picture_path(self, image_id: str) -> Path:
        return inside(self._pictures(), f"{image_id}.jpg", str(self._list))

    def _pair(self, place: int) -> Pair:
        name, category = self._names[place], self._parts[place][2]
        path = self._annotation_path(name)
        annotation = _Annotation(path)
        src_id, trg_id = self._image_ids(place)
        annotation.check_pair(*self._parts[place])
        src, trg = self._picture(annotation, "src", src_id), self._picture(annotation, "trg", trg_id)
        points = {}
        for side, record in (("src", src), ("trg", trg)):
            field = f"{side}_kps"
            points[side] = as_points(annotation[field], f"{path}, field '{field}'")
            self._check_points(points[side], record, f"{path}, field '{field}'")
        ids = annotation.keypoint_ids()
        if not len(points["src"]) == len(points["trg"]) == len(ids) > 0:
            raise DataError(
                f"{path}: 'src_kps', 'trg_kps' and 'kps_ids' hold {len(points['src'])}, {len(points['trg'])} "
                f"and {len(ids)} entries instead of one number above 0; fetch the annotation again."
            )
        difficulty = Difficulty(
            viewpoint=annotation.whole("viewpoint_variation", 2),
            scale=annotation.whole("scale_variation", 2),
            truncation=annotation.whole("truncation", 3),
            occlusion=annotation.whole("occlusion", 3),
        )
        return Pair(
            name,
            category,
            src,
            trg,
            points["src"],
            points["trg"],
            ids,
            self.threshold,
            difficulty,
            self._one_sided(src, trg, ids),
        )

    def _image_annotation_path(self, image_id: str) -> Path:
        return inside(self.root / "ImageAnnotation", f"{image_id}.json", str(self._list))

    def _one_sided(self, src: ImageRecord, trg: ImageRecord, shared: tuple[str, ...]) -> OneSided | None:
        """The keypoints that only one of two pictures shows, from their own annotations."""
        if not self._has_image_annotations:
            return None
        only_src, only_trg = (
            {name: xy for name, xy in self._shown(record).items() if name not in shared}
            for record in (src, trg)
        )
        return OneSided(_points(only_src), tuple(only_src), _points(only_trg), tuple(only_trg))

    def _shown(self, record: ImageRecord) -> dict[str, tuple[float, float]]:
        """All keypoints that a picture shows, by name."""
        if record.image_id not in self._keypoints:
            path = self._image_annotation_path(record.image_id)
            where = f"{path}, field 'kps'"
            kps = _Annotation(path)["kps"]
            if not isinstance(kps, dict):
                raise DataError(f"{where}: {kps!r} is not names with points; fetch the annotation again.")
            shown = {str(name): xy for name, xy in kps.items() if xy is not None}
            points: XY = as_points(list(shown.values()), where)
            self._check_points(points, record, where)
            self._keypoints[record.image_id] = dict(zip(shown, map(tuple, points.tolist()), strict=True))
        return self._keypoints[record.image_id]

    def _picture(self, annotation: _Annotation, side: str, image_id: str) -> ImageRecord:
        category = image_id.partition("/")[0]
        mask = self.root / "Segmentation" / f"{image_id}.png"
        record = self._image(
            image_id,
            category,
            self._picture_path(image_id),
            box_px=annotation.box(f"{side}_bndbox"),
            mask_path=mask,
            mask_value=VOC_INDEX[category],
        )
        height, width = record.hw_px
        x0, y0, x1, y1 = annotation.box(f"{side}_bndbox")
        loose = self.tolerance_px
        if min(x0, y0) < -loose or x1 > width + loose or y1 > height + loose:
            raise DataError(
                f"{annotation.path}, field '{side}_bndbox': the box {[x0, y0, x1, y1]} leaves "
                f"{record.path} of {width} x {height} pixels; fetch both again."
            )
        stated = annotation.list_of(f"{side}_imsize")[:2]
        if stated != [record.hw_px[1], record.hw_px[0]]:
            raise DataError(
                f"{annotation.path}, field '{side}_imsize': {stated} is not the size (width, height) of "
                f"{record.path}, which is {[record.hw_px[1], record.hw_px[0]]}; fetch both again."
            )
        return record

    def _pair_keys(self) -> Iterable[str]:
        return self._names

    def _files(self) -> Iterable[Path]:
        for place, name in enumerate(self._names):
            yield self._annotation_path(name)
            yield from (self._picture_path(image_id) for image_id in self._image_ids(place))
            if self._has_image_annotations:
                yield from (self._image_annotation_path(image_id) for image_id in self._image_ids(place))


def _points(named: dict[str, tuple[float, float]]) -> XY:
    return np.array(list(named.values()), np.float32).reshape(-1, 2)


class _Annotation:
    """One JSON annotation whose fields say what is wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fields = read_json(path, fix=FETCH)
        if not isinstance(self._fields, dict):
            raise DataError(f"{path}: this is not an annotation (a JSON object); fetch it again.")

    def __getitem__(self, field: str) -> Any:
        if field not in self._fields:
            raise DataError(f"{self.path}: the field {field!r} is missing; fetch the annotation again.")
        return self._fields[field]

    def _wrong(self, field: str, what: str) -> DataError:
        return DataError(f"{self.path}, field {field!r}: {what}; fetch the annotation again.")

    def check_pair(self, src: str, trg: str, category: str) -> None:
        """Make sure that what the annotation says of its pair, if anything, is what the name says."""
        named = {"src_imname": f"{src}.jpg", "trg_imname": f"{trg}.jpg", "category": category}
        for field, wanted in named.items():
            found = self._fields.get(field, wanted)
            if found != wanted:
                raise self._wrong(field, f"{found!r} is not {wanted!r}, which the pair's name says")
        if "mirror" in self._fields:
            self.whole("mirror", 1)

    def list_of(self, field: str) -> list[Any]:
        """A field that must be a list."""
        value = self[field]
        if not isinstance(value, list):
            raise self._wrong(field, f"{value!r} is not a list")
        return value

    def keypoint_ids(self) -> tuple[str, ...]:
        """The names of the keypoints, all different."""
        value = self.list_of("kps_ids")
        ids = tuple(str(item) for item in value)
        if len(set(ids)) < len(ids) or not all(type(item) in (str, int) for item in value):
            raise self._wrong("kps_ids", f"{value!r} are not different names of keypoints")
        return ids

    def whole(self, field: str, most: int) -> int:
        """A field that must be a whole number from 0 to `most`."""
        value = self[field]
        if type(value) is not int or not 0 <= value <= most:
            raise self._wrong(field, f"{value!r} is not a whole number from 0 to {most}")
        return value

    def box(self, field: str) -> Box:
        """A field that must be a box (x0, y0, x1, y1) with an area, in pixels."""
        value = self.list_of(field)
        if len(value) != 4 or not all(type(side) in (int, float) for side in value):
            raise DataError(
                f"{self.path}, field {field!r}: {value!r} is not [x0, y0, x1, y1]; fetch it again."
            )
        x0, y0, x1, y1 = (float(side) for side in value)
        if not (x0 < x1 and y0 < y1):
            raise DataError(f"{self.path}, field {field!r}: the box {value!r} has no area; fetch it again.")
        return x0, y0, x1, y1
