"""Which keypoints of a category are alike: what geometry-aware metrics need to know of a data set.

A table (CSV) has one row per keypoint that has a like: ``category`` (``*`` for all of them), ``keypoint``,
``group`` (keypoints with the same group can be taken for one another: the four paws) and ``twin`` (the same
point on the other side, left for right). Either of the last two may be empty; other columns are ignored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sd4match_lib.errors import DataError
from sd4match_lib.utils.reading import read_csv

SYMMETRY_FILE = "keypoint_symmetry.csv"
"""What a data set calls its own table, in its folder."""

COLUMNS = ("category", "keypoint", "group", "twin")
_ANY = "*"
_SIDES = ("left", "right", "front", "back")
_OTHER = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Symmetry:
    """The groups and twins of a data set's keypoints, by (category, keypoint)."""

    groups: Mapping[tuple[str, str], str]
    twins: Mapping[tuple[str, str], str]

    def group(self, category: str, keypoint: str) -> str | None:
        """Return what a keypoint and its likes are called together, or None where it has none."""
        return self.groups.get((category, keypoint)) or self.groups.get((_ANY, keypoint))

    def twin(self, category: str, keypoint: str) -> str | None:
        """Return the same point on the other side, or None where it has none."""
        return self.twins.get((category, keypoint)) or self.twins.get((_ANY, keypoint))


def read_symmetry(path: Path) -> Symmetry:
    """Read a table.

    Raises:
        DataError: the file is missing or damaged, a keypoint is there twice, or a twin's twin is another one.
    """
    groups: dict[tuple[str, str], str] = {}
    twins: dict[tuple[str, str], str] = {}
    seen = set()
    for line, row in enumerate(read_csv(path, COLUMNS), start=2):
        key = row["category"], row["keypoint"]
        if key in seen:
            raise DataError(
                f"{path}, line {line}: keypoint {key[1]!r} of {key[0]} is there twice; remove one."
            )
        seen.add(key)
        groups |= {key: row["group"]} if row["group"] else {}
        twins |= {key: row["twin"]} if row["twin"] else {}
    for (category, keypoint), twin in twins.items():
        if twins.get((category, twin)) != keypoint:
            raise DataError(
                f"{path}: keypoint {keypoint!r} of {category} has the twin {twin!r}, whose twin is another "
                "one; name both the same way."
            )
    return Symmetry(groups, twins)


def symmetry_rows(category: str, names: Mapping[str, str]) -> Iterable[str]:
    """Return a table's lines (without a header) that the names in words of a category's keypoints imply.

    Names that differ in "left", "right", "front" and "back" alone are of one group; with the other of "left"
    and "right" in the same place they are twins.
    """
    by_name = {name: keypoint for keypoint, name in names.items()}
    bases = {name: " ".join(word for word in name.split() if word not in _SIDES) for name in by_name}
    for name, keypoint in by_name.items():
        alike = [other for other, base in bases.items() if base == bases[name]]
        twin = by_name.get(" ".join(_OTHER.get(word, word) for word in name.split()), "")
        if len(alike) > 1:
            yield f"{category},{keypoint},{bases[name]},{twin if twin != keypoint else ''}"
