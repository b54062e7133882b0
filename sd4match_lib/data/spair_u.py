"""SPair-U (Mariotti et al., Jamais Vu, NeurIPS 2025): SPair-71k's test pictures with other keypoints.

Layout, as released: ``PairAnnotation/test/<name>.json`` and ``ImageAnnotation/<category>/<stem>.json``, as in
SPair-71k. It brings neither pictures nor a list: ``JPEGImages`` is looked for in its own folder and then in
``SPair-71k`` beside it, and its pairs are its annotations, in the order of their names. What holds for every
pair of SPair-71k holds here; the numbers of its keypoints mean other points.
"""

from pathlib import Path
from typing import ClassVar

from sd4match_lib.data.reading import FETCH
from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.data.symmetry import SYMMETRY_FILE, Symmetry, read_symmetry
from sd4match_lib.errors import DataError, NoSplitError
from sd4match_lib.utils.paths import inside

_ORIGINAL = "SPair-71k"


class SpairUDataset(SpairDataset):
    """The test pairs of SPair-U."""

    layout = "spair_u"
    splits: ClassVar[tuple[str, ...]] = ("test",)
    how_to_get: ClassVar[str] = (
        "fetch https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip, unpack it so that "
        "{root}/PairAnnotation/test exists, and put SPair-71k, whose pictures it uses, beside it"
    )

    def __init__(self, root: Path, split: str = "test", max_pairs: int | None = None) -> None:
        """List the annotations.

        Raises:
            DataError: another split is asked for, or there are no annotations.
        """
        if split != "test":
            raise NoSplitError(f"SPair-U has no {split!r} split; use 'test'.")
        super().__init__(root, split, max_pairs)

    @property
    def symmetry(self) -> Symmetry | None:
        """Its own table where the folder holds one; nobody has published one."""
        path = self.root / SYMMETRY_FILE
        return read_symmetry(path) if path.is_file() else None

    def _list_path(self) -> Path:
        return self.root / "PairAnnotation" / self._part

    def _read_list(self) -> list[str]:
        found = (inside(self._list, path.name, str(self._list)) for path in self._list.glob("*.json"))
        names = sorted(path.stem for path in found)
        if not names:
            raise DataError(f"{self._list}: there are no annotations; {FETCH}.")
        # Windows has no colons in file names, and its unpackers write an underscore.
        return [name if ":" in name else ":".join(name.rsplit("_", 1)) for name in names]

    def _pictures(self) -> Path:
        own = self.root / "JPEGImages"
        return own if own.is_dir() else self.root.parent / _ORIGINAL / "JPEGImages"
