"""MiniPair on disk: rendered in three layouts, vouched for by a manifest, repaired when damaged."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from sd4match_lib.data.categories import SPAIR_CATEGORIES
from sd4match_lib.data.symmetry import COLUMNS, SYMMETRY_FILE, symmetry_rows
from sd4match_lib.errors import DataError, UserError
from sd4match_lib.miniature.dataset import write_pf, write_spair
from sd4match_lib.miniature.dataset.ledger import Ledger
from sd4match_lib.miniature.dataset.write_spair import Amount
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.utils.files import sha256_file, write_json
from sd4match_lib.utils.locks import WorkLock
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.processes import WorkerPool
from sd4match_lib.utils.progress import progress
from sd4match_lib.utils.reading import read_json

logger = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
RECIPE: Final = 3
"""Counted up whenever the same seed gives other pictures or annotations, so that old ones are replaced."""

_NOTE: Final = "MINIPAIR.txt"
_NOTE_LINES: Final = [
    "MiniPair: pictures and annotations rendered by `sd4match miniature render`,",
    "in the layouts of SPair-71k, PF-Pascal and PF-Willow.",
    "manifest.json has the SHA-256 of every file. Delete the folder as you like:",
    "it can be rendered again, to the same bytes.",
]
_FOLDERS: Final = (
    write_spair.FOLDER,
    write_spair.UNSEEN_FOLDER,
    write_pf.PASCAL_FOLDER,
    write_pf.WILLOW_FOLDER,
)
_SPLITS: Final = ("train", "val", "test")

_Job = Callable[[], tuple[dict[str, str], list[str]]]


@dataclass(frozen=True)
class Sizes:
    """How much of MiniPair to render; triples are for train, val and test. By default a quarter of the test
    pictures, which a first run takes; `WHOLE` has all.

    Attributes:
        categories: which of SPair-71k's categories.
        spair: objects and pairs for each category.
        pascal_pairs: pairs for each category, of two pictures of their own.
        sub_classes: which of PF-Willow's sub-classes.
        willow_pictures: pictures for each sub-class, all of whose ordered pairs are listed.
    """

    categories: tuple[str, ...] = SPAIR_CATEGORIES
    spair: tuple[Amount, Amount, Amount] = (
        Amount(24, 64),
        Amount(6, 13),
        Amount(40, 300, every=4),
    )
    pascal_pairs: tuple[int, int, int] = (8, 3, 4)
    sub_classes: tuple[str, ...] = tuple(write_pf.SUB_CLASSES)
    willow_pictures: int = 10


WHOLE: Final = Sizes(spair=(Amount(24, 64), Amount(6, 13), Amount(40, 300)))
"""All 40 test pictures of a category, and the pairs among them: 5,200."""


def render_minipair(out: Path, seed: int = 0, sizes: Sizes | None = None) -> None:
    """Renders MiniPair into `out` with all cores; the manifest comes last.

    One process at a time renders into a folder; another one waits.

    Args:
        out: the folder that gets ``SPair-71k``, ``pf-pascal`` and ``pf-willow``; an older MiniPair in it is
            replaced.
        seed: every picture follows from it, to the byte.
        sizes: how much to render; all of it by default.

    Raises:
        UserError: the folder holds data sets that were not rendered here.
        DataError: the manifest names a file outside the folder.
        WriteError: the folder cannot be written.
    """
    _refuse_foreign(out)
    _read_manifest(out)
    with _lock(out):
        _render(out, seed, sizes or Sizes())


def _lock(out: Path) -> WorkLock:
    return WorkLock(out.absolute().parent, out.absolute().name)


def _render(out: Path, seed: int, sizes: Sizes) -> None:
    _refuse_foreign(out)
    before = _read_manifest(out).get("files", {})
    (out / MANIFEST).unlink(missing_ok=True)
    ledger = Ledger(out)
    ledger.put_text(_NOTE, _NOTE_LINES)
    jobs = _jobs(out, seed, sizes)
    lists: dict[str, list[str]] = {name: list(header) for name, header, _ in jobs}
    logger.info("rendering MiniPair into %s", out)
    with WorkerPool() as pool:
        futures = [(name, pool.submit(job)) for name, _, job in jobs]
        for name, future in progress(futures, description="rendering MiniPair", unit="batch"):
            files, rows = future.result()
            ledger.files |= files
            lists[name] += rows
    for name, lines in lists.items():
        ledger.put_text(name, lines)
    for folder, reserved in ((write_spair.FOLDER, False), (write_spair.UNSEEN_FOLDER, True)):
        ledger.put_text(f"{folder}/{SYMMETRY_FILE}", _symmetry(sizes.categories, reserved))
    for stale in sorted(set(before) - set(ledger.files)):
        _remove(out, stale)
    write_json(out / MANIFEST, _identity(seed, sizes) | {"files": ledger.files})


def ensure_minipair(root: Path, sizes: Sizes | None = None) -> None:
    """Renders MiniPair unless `root` holds it complete and unchanged; takes under a second then.

    A damaged MiniPair is rendered again with its own seed, a missing one with seed 0.

    Raises:
        UserError: the folder holds data sets that were not rendered here.
        DataError: the manifest names a file outside the folder.
    """
    sizes = sizes or Sizes()
    if _problem(root, sizes)[1]:
        with _lock(root):
            # Whoever had the lock may have rendered it.
            seed, wrong = _problem(root, sizes)
            if wrong:
                logger.info("MiniPair in %s: %s", root, wrong)
                _render(root, seed, sizes)


def _remove(out: Path, name: str) -> None:
    """Removes a file that an older MiniPair had: one of its data sets' own, and not one behind a link."""
    path = out / name
    if Path(name).parts[0] in _FOLDERS and path.resolve().is_relative_to(out.resolve()) and not path.is_dir():
        path.unlink(missing_ok=True)


def _symmetry(categories: tuple[str, ...], reserved: bool) -> list[str]:
    """The table of which keypoints are alike, from the objects' own names for them."""
    lines = [",".join(COLUMNS)]
    for category in categories:
        keypoints = CATEGORIES[category](np.random.default_rng(0)).keypoints
        names = [point.name for point in keypoints if point.reserved == reserved]
        lines += symmetry_rows(category, {str(number): name for number, name in enumerate(names)})
    return lines


def _problem(root: Path, sizes: Sizes) -> tuple[int, str]:
    """The seed that MiniPair is rendered with, and why it must be; empty when it is complete."""
    manifest = _read_manifest(root)
    seed = manifest.get("seed", 0)
    return seed, _what_is_wrong(root, manifest, _identity(seed, sizes))


def _what_is_wrong(root: Path, manifest: dict[str, Any], identity: dict[str, Any]) -> str:
    """Why MiniPair must be rendered, in words; empty when it is complete."""
    if not manifest:
        return "it is not there, or not complete"
    if any(manifest.get(key) != value for key, value in identity.items()):
        return "it is from another version of the recipe"
    for name, digest in manifest["files"].items():
        path = root / name
        if not path.is_file() or sha256_file(path) != digest:
            return f"{name} is missing or changed"
    return ""


def _identity(seed: int, sizes: Sizes) -> dict[str, Any]:
    """What the manifest says it vouches for, as JSON gives it back."""
    identity: dict[str, Any] = json.loads(
        json.dumps({"recipe": RECIPE, "seed": seed, "sizes": asdict(sizes)})
    )
    return identity


def _read_manifest(root: Path) -> dict[str, Any]:
    """The manifest, or an empty one where there is none that can be read.

    Raises:
        DataError: it names a file that does not lie below `root`; stale files are removed by these names.
    """
    try:
        manifest = read_json(root / MANIFEST)
    except DataError:
        return {}
    fine = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)
    for name in manifest["files"] if fine else ():
        inside(root, name, f"{root / MANIFEST}, field 'files'")
    return manifest if fine and isinstance(manifest.get("seed"), int) else {}


def _refuse_foreign(out: Path) -> None:
    """Keeps the real data sets from being overwritten."""
    rendered = (out / _NOTE).is_file() or (out / MANIFEST).is_file()
    for name in _FOLDERS:
        if (out / name).exists() and not rendered:
            raise UserError(
                f"{out / name} was not rendered by sd4match (there is no {_NOTE} beside it); "
                "render MiniPair into another folder with --out."
            )


def _jobs(out: Path, seed: int, sizes: Sizes) -> list[tuple[str, tuple[str, ...], _Job]]:
    """Every batch of work: the list that its rows belong to, that list's header, and what to call."""
    jobs: list[tuple[str, tuple[str, ...], _Job]] = []
    for place, (split, part) in enumerate(zip(_SPLITS, write_spair.PARTS, strict=True)):
        listed = f"{write_spair.FOLDER}/Layout/large/{part}.txt"
        for category in sizes.categories:
            job = partial(write_spair.write_category, out, seed, part, category, sizes.spair[place])
            jobs.append((listed, (), job))
        listed = f"{write_pf.PASCAL_FOLDER}/{split}_pairs.csv"
        header = write_pf.PASCAL_TEST_HEADER if split == "test" else write_pf.PASCAL_HEADER
        for category in sizes.categories:
            pascal = partial(
                write_pf.write_pascal_category, out, seed, split, category, sizes.pascal_pairs[place]
            )
            jobs.append((listed, (header,), pascal))
    for sub_class in sizes.sub_classes:
        listed = f"{write_pf.WILLOW_FOLDER}/test_pairs.csv"
        willow = partial(write_pf.write_willow_sub_class, out, seed, sub_class, sizes.willow_pictures)
        jobs.append((listed, (write_pf.WILLOW_HEADER,), willow))
    return jobs
