"""Pairs of your own: a CSV or JSON file that names two pictures and their points per entry.

CSV has the columns ``src,trg,src_points`` and may have ``category`` and ``trg_points``; points are
``"x,y;x,y"`` (in double quotes, because of the commas). JSON is a list of objects with the same fields, where
points may also be ``[[x, y], ...]``. Paths are relative to the file, and lie below its folder. Points are
pixels of the upright picture, counted from 0 at the centre of the top left pixel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sd4match_lib.data.categories import DEFAULT_CATEGORY, is_category
from sd4match_lib.data.listed import Listed, ListedPairs
from sd4match_lib.data.reading import XY, evenly_spaced, parse_points
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.reading import read_csv, read_json

_FIELDS = ("src", "trg", "category", "src_points", "trg_points")


@dataclass(frozen=True, eq=False)
class _Entry:
    """One pair of the file; `trg_px` is NaN where the file gives no target points."""

    category: str
    src: Path
    trg: Path
    src_px: XY
    trg_px: XY
    where: str


class OwnPairs(ListedPairs):
    """Pairs of your own. Without target points a pair can be matched and shown, not scored.

    The file is one split; whichever is asked for, its pairs stand for it.
    """

    splits = ("test",)
    threshold = ThresholdRule.IMAGE
    how_to_get = (
        'write the pairs to {root}: a .csv with columns src,trg,src_points (points as "x,y;x,y"; category '
        "and trg_points as you like), or a .json list of objects with these fields"
    )

    def __init__(self, file: Path, split: str, max_pairs: int | None = None) -> None:
        """Read a ``.csv`` or ``.json`` file.

        Raises:
            DataError: the file is missing, has no entry, or one of its fields is missing or not understood.
        """
        super().__init__("own", split, file.parent)
        entries = [self._read_entry(fields, where) for fields, where in _read_fields(file)]
        if not entries:
            raise DataError(f"{file}: there is no pair in the file; add at least one.")
        self.listed = _listed(evenly_spaced(entries, max_pairs))
        self.read_from = [file]

    def _read_entry(self, fields: dict[str, Any], where: str) -> _Entry:
        unknown = [field for field in fields if field not in _FIELDS]
        if unknown:
            raise DataError(f"{where}: the field {unknown[0]!r} is unknown; known are {', '.join(_FIELDS)}.")
        paths = []
        for field in ("src", "trg"):
            value = fields.get(field)
            if not (isinstance(value, str) and value.strip()):
                raise DataError(f"{where}, field {field!r}: this must be the path of a picture.")
            paths.append(inside(self.root, value.strip(), f"{where}, field {field!r}"))
        src_px = parse_points(fields.get("src_points"), f"{where}, field 'src_points'")
        if not len(src_px):
            raise DataError(f"{where}, field 'src_points': there is no point; give at least one as 'x,y'.")
        trg_px = parse_points(fields.get("trg_points"), f"{where}, field 'trg_points'")
        if len(trg_px) not in (0, len(src_px)):
            raise DataError(
                f"{where}, field 'trg_points': {len(trg_px)} points for {len(src_px)} source points; "
                "give as many, in the same order, or none."
            )
        known = trg_px if len(trg_px) else np.full_like(src_px, np.nan)
        category = fields.get("category")
        category = "" if category is None else category
        if not isinstance(category, str):
            raise DataError(f"{where}, field 'category': {category!r} is not a word.")
        category = category.strip() or DEFAULT_CATEGORY
        if not is_category(category):
            raise DataError(
                f"{where}, field 'category': {category!r} must be a word or two, without '/' and new lines."
            )
        return _Entry(category, paths[0], paths[1], src_px, known, where)


def _read_fields(file: Path) -> Iterable[tuple[dict[str, Any], str]]:
    """Each entry's fields, and where they stand."""
    if file.suffix.lower() == ".csv":
        for line, row in enumerate(read_csv(file, ("src", "trg", "src_points")), start=2):
            yield row, f"{file}, line {line}"
    elif file.suffix.lower() == ".json":
        content = read_json(file)
        if not isinstance(content, list) or not all(isinstance(fields, dict) for fields in content):
            raise DataError(f"{file}: this must be a JSON list of objects, one per pair.")
        for number, fields in enumerate(content, start=1):
            yield fields, f"{file}, entry {number}"
    else:
        raise DataError(f"{file}: pairs of your own come in a .csv or a .json file; rename or convert it.")


def _unique_ids(entries: Iterable[_Entry]) -> dict[tuple[str, Path], str]:
    """(category, path) -> image id; pictures of one name in several folders are numbered: ``~2``, ``~3``."""
    ids: dict[tuple[str, Path], str] = {}
    taken: set[str] = set()
    for entry in entries:
        for path in (entry.src, entry.trg):
            key = entry.category, path
            if key in ids:
                continue
            plain = f"{entry.category}/{path.stem}"
            image_id, number = plain, 2
            while image_id in taken:
                image_id, number = f"{plain}~{number}", number + 1
            taken.add(image_id)
            ids[key] = image_id
    return ids


def _listed(entries: Sequence[_Entry]) -> list[Listed]:
    names = _unique_ids(entries)
    listed = []
    for place, entry in enumerate(entries):
        ids = names[entry.category, entry.src], names[entry.category, entry.trg]
        where = f"{entry.where}, field 'src_points'", f"{entry.where}, field 'trg_points'"
        keypoints = tuple(str(number) for number in range(len(entry.src_px)))
        pair_id = f"{place:04d}:{ids[0]}-{ids[1].partition('/')[2]}"
        points_px = entry.src_px, entry.trg_px
        listed.append(
            Listed(pair_id, entry.category, ids, (entry.src, entry.trg), points_px, keypoints, where)
        )
    return listed
