"""PF-Willow: four kinds of objects in ten sub-classes, ten keypoints each; a test split only.

Layout, as released: ``PF-dataset/<sub-class>/<stem>.png`` with ``<stem>.mat`` (``pts_coord``, 2 x K) beside
it, and the list ``test_pairs.csv``. Without the list, the pairs are generated: all ordered pairs of each
sub-class, in the order of the names, which is the published list exactly.

The annotations count pixels from one, and the published list repeats them as they are (equal to 5e-7 on all
100 pictures): it does not subtract 1. Neither does this reader, with or without the list.
"""

import re
from itertools import permutations
from pathlib import Path

import numpy as np

from sd4match_lib.data.listed import Listed, ListedPairs, shown_in_both
from sd4match_lib.data.reading import FETCH, XY, as_numbers, check_unique, evenly_spaced, read_mat
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError, NoSplitError
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.reading import read_csv

_COORDINATE_COLUMN = re.compile(r"(XA|YA|XB|YB)(\d{1,4})")


class PfWillowDataset(ListedPairs):
    """The pairs of PF-Willow: from the list where there is one, else generated from the annotations."""

    splits = ("test",)
    threshold = ThresholdRule.KEYPOINTS
    how_to_get = (
        "fetch PF-dataset.zip from https://www.di.ens.fr/willow/research/proposalflow/ and unpack it to "
        "{root}/PF-dataset; the list test_pairs.csv is optional"
    )

    def __init__(self, root: Path, split: str = "test", max_pairs: int | None = None) -> None:
        """Read the list ``test_pairs.csv`` where there is one, else the annotations.

        Raises:
            DataError: another split is asked for, or the data is missing or damaged.
        """
        if split != "test":
            raise NoSplitError(f"PF-Willow has no {split!r} split; use 'test'.")
        super().__init__("pf_willow", split, root)
        self._list = root / "test_pairs.csv"
        self._annotations: list[Path] = []
        rows = self._listed() if self._list.exists() else self._generated()
        self.listed = evenly_spaced(rows, max_pairs)
        self.read_from = self._annotations or [self._list]

    def _listed(self) -> list[Listed]:
        rows = []
        columns = ("imageA", "imageB", "XA1", "YA1", "XB1", "YB1")
        for line, cells in enumerate(read_csv(self._list, columns, fix=FETCH), 2):
            where = f"{self._list}, line {line}"
            for picture in (cells["imageA"], cells["imageB"]):
                inside(self.root, picture, where)
            src_px = _points(cells, "XA", "YA", where)
            trg_px = _points(cells, "XB", "YB", where)
            rows.append(self._row(Path(cells["imageA"]), Path(cells["imageB"]), src_px, trg_px, where))
        check_unique((row.pair_id for row in rows), self._list)
        return rows

    def _generated(self) -> list[Listed]:
        folder = self.root / "PF-dataset"
        sub_classes = sorted(path for path in folder.glob("*") if path.is_dir())
        if not sub_classes:
            raise DataError(
                f"{folder}: there are no sub-classes, and no {self._list.name} beside it; "
                "`sd4match doctor` says what belongs there."
            )
        rows = []
        for sub_class in sub_classes:
            points = {picture: self._annotation(picture) for picture in sorted(sub_class.glob("*.png"))}
            for src, trg in permutations(points, 2):
                where = f"{src.with_suffix('.mat')} or {trg.with_suffix('.mat')}, field 'pts_coord'"
                relative = src.relative_to(self.root), trg.relative_to(self.root)
                rows.append(self._row(*relative, points[src], points[trg], where))
        return rows

    def _annotation(self, picture: Path) -> XY:
        """All K keypoints of a picture, ``(K, 2)``, NaN where one is not there."""
        path = picture.with_suffix(".mat")
        points = read_mat(path, "pts_coord").astype(np.float32)
        if points.ndim != 2 or points.shape[0] != 2:
            raise DataError(
                f"{path}, field 'pts_coord': the shape is {points.shape}, not (2, N); fetch it again."
            )
        self._annotations.append(path)
        return points.T.copy()

    def _row(self, src: Path, trg: Path, src_px: XY, trg_px: XY, where: str) -> Listed:
        """A pair, its pictures relative to the root, with the keypoints that both have."""
        if len(src_px) != len(trg_px):
            raise DataError(
                f"{where}: {len(src_px)} and {len(trg_px)} keypoints cannot be paired; fetch them again."
            )
        points_px, keypoints = shown_in_both(src_px, trg_px)
        if not keypoints:
            raise DataError(f"{where}: {src} and {trg} share no keypoint; fetch the data set again.")
        ids = f"{src.parent.name}/{src.stem}", f"{trg.parent.name}/{trg.stem}"
        paths = self.root / src, self.root / trg
        spots = f"{where}, points of {src}", f"{where}, points of {trg}"
        return Listed(f"{ids[0]}-{trg.stem}", src.parent.name, ids, paths, points_px, keypoints, spots)


def _points(cells: dict[str, str], x_name: str, y_name: str, where: str) -> XY:
    """The points ``(K, 2)`` of the columns XA1, XA2, ... and YA1, YA2, ...; NaN where a cell is empty."""
    axes = []
    for name in (x_name, y_name):
        numbered = (match for match in map(_COORDINATE_COLUMN.fullmatch, cells) if match and match[1] == name)
        columns = [match[0] for match in sorted(numbered, key=lambda match: int(match[2]))]
        axes.append(as_numbers(";".join(cells[column] for column in columns), f"{where}, columns {name!r}"))
    if len(axes[0]) != len(axes[1]):
        raise DataError(
            f"{where}: there are not as many columns {x_name!r} as {y_name!r}; fetch the list again."
        )
    return np.stack(axes, axis=1)
