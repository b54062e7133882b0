"""PF-Pascal: the 20 categories of PASCAL VOC, pairs of similar views.

Layout, as released: ``{train,val,test}_pairs.csv`` beside ``PF-dataset-PASCAL/JPEGImages/<stem>.jpg`` and
``PF-dataset-PASCAL/Annotations/<category>/<stem>.mat``. The lists of training and validation name the
pictures, the class (PASCAL VOC's index) and whether both pictures are mirrored; their points are the rows of
the annotations' ``kps`` that are NaN in neither picture. The test list brings its points along.

Coordinates are used as they are written, as the paper's code and its predecessors do.
"""

import logging
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from sd4match_lib.data.categories import VOC_CATEGORIES
from sd4match_lib.data.listed import Listed, ListedPairs, shown_in_both
from sd4match_lib.data.reading import FETCH, XY, as_numbers, as_points, evenly_spaced, read_mat
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.reading import read_csv

_log = logging.getLogger(__name__)
_INLINE = ("XA", "YA", "XB", "YB")


class PfPascalDataset(ListedPairs):
    """The pairs of one split of PF-Pascal.

    The public training list has 2,940 rows, 1,470 of them mirrored twins of the others, and repeats some
    pairs; all are kept, with ``#2``, ``#3`` at the end of a repeated pair's id. A pair without a shared
    keypoint is skipped, as the data set's users do; `skipped` counts them.
    """

    threshold = ThresholdRule.IMAGE
    how_to_get = (
        "fetch PF-dataset-PASCAL.zip from https://www.di.ens.fr/willow/research/proposalflow/, unpack it to "
        "{root}/PF-dataset-PASCAL, and put the lists train_pairs.csv, val_pairs.csv and test_pairs.csv, "
        "e.g. ncnet's, beside it"
    )
    known_counts: ClassVar = {("train", 2940): "the public list has these 2,940 rows"}
    tolerance_px = 10.0

    def __init__(self, root: Path, split: str, max_pairs: int | None = None) -> None:
        """Read the split's list and the annotations that it names.

        Raises:
            DataError: the list or an annotation is missing or damaged.
        """
        super().__init__("pf_pascal", split, root)
        self._list = root / f"{split}_pairs.csv"
        self._annotations: dict[Path, XY] = {}
        inline = split == "test"
        columns = ("source_image", "target_image", "class", *(_INLINE if inline else ("flip",)))
        seen: Counter[str] = Counter()
        rows = []
        for line, cells in enumerate(read_csv(self._list, columns, fix=FETCH), start=2):
            rows.append(self._read_row(cells, f"{self._list}, line {line}", seen, inline))
        usable = [row for row in rows if len(row.keypoint_ids)]
        self.skipped = len(rows) - len(usable)
        if self.skipped:
            _log.warning("%s: skipped %d pairs without a shared keypoint", self._list, self.skipped)
        self.listed = evenly_spaced(usable, max_pairs)
        self.read_from = [self._list, *self._annotations]

    def _read_row(self, cells: dict[str, str], where: str, seen: Counter[str], inline: bool) -> Listed:
        src, trg = cells["source_image"], cells["target_image"]
        for picture in (src, trg):
            inside(self.root, picture, where)
        category = _category(cells["class"], where)
        flip = not inline and _flag(cells["flip"], where)
        if inline:
            points_px = _inline_points(cells, where)
            keypoints = tuple(str(place) for place in range(len(points_px[0])))
        else:
            all_src, all_trg = self._keypoints(category, src), self._keypoints(category, trg)
            if len(all_src) != len(all_trg):
                raise DataError(
                    f"{where}: the annotations of {src} and {trg} have {len(all_src)} and {len(all_trg)} "
                    "rows of 'kps'; fetch the annotations again."
                )
            points_px, keypoints = shown_in_both(all_src, all_trg)
        mark = "#flip" if flip else ""
        pair_id = f"{category}/{Path(src).stem}-{Path(trg).stem}{mark}"
        seen[pair_id] += 1
        if seen[pair_id] > 1:
            pair_id = f"{pair_id}#{seen[pair_id]}"
        ids = f"{category}/{Path(src).stem}{mark}", f"{category}/{Path(trg).stem}{mark}"
        paths = self.root / src, self.root / trg
        spots = f"{where}, points of {src}", f"{where}, points of {trg}"
        return Listed(pair_id, category, ids, paths, points_px, keypoints, spots, flip)

    def _annotation_path(self, category: str, picture: str) -> Path:
        return self.root / "PF-dataset-PASCAL" / "Annotations" / category / f"{Path(picture).stem}.mat"

    def _keypoints(self, category: str, picture: str) -> XY:
        """All rows of a picture's annotation, ``(K, 2)``, NaN where a keypoint is not seen."""
        path = self._annotation_path(category, picture)
        if path not in self._annotations:
            kps = read_mat(path, "kps").astype(np.float32)
            if kps.ndim != 2 or kps.shape[1] != 2:
                raise DataError(f"{path}, field 'kps': the shape is {kps.shape}, not (N, 2); fetch it again.")
            self._annotations[path] = kps
        return self._annotations[path]


def _category(text: str, where: str) -> str:
    """The category of a PASCAL VOC class index, 1 to 20."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 and 1 <= int(text) <= len(VOC_CATEGORIES)):
        raise DataError(f"{where}, column 'class': {text!r} is not 1 to 20; fetch the list again.")
    return VOC_CATEGORIES[int(text) - 1]


def _flag(text: str, where: str) -> bool:
    if text not in ("0", "1"):
        raise DataError(f"{where}, column 'flip': {text!r} is neither 0 nor 1; fetch the list again.")
    return text == "1"


def _inline_points(cells: dict[str, str], where: str) -> tuple[XY, XY]:
    """The points of both pictures out of the cells XA, YA, XB and YB."""
    numbers = [as_numbers(cells[column], f"{where}, column {column!r}") for column in _INLINE]
    if len({len(column) for column in numbers}) != 1:
        lengths = ", ".join(str(len(column)) for column in numbers)
        raise DataError(f"{where}: 'XA', 'YA', 'XB', 'YB' hold {lengths} numbers; fetch the list again.")
    xa, ya, xb, yb = numbers
    return (
        as_points(np.stack([xa, ya], axis=1), f"{where}, columns 'XA', 'YA'"),
        as_points(np.stack([xb, yb], axis=1), f"{where}, columns 'XB', 'YB'"),
    )
