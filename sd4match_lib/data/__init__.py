"""Data sets of picture pairs with corresponding points: the paper's three, and your own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sd4match_lib.config.schema import DatasetConfig, DatasetKind
from sd4match_lib.data.categories import SPAIR_CATEGORIES, VOC_CATEGORIES, VOC_INDEX, category_noun
from sd4match_lib.data.own import OwnPairs
from sd4match_lib.data.pf_pascal import PfPascalDataset
from sd4match_lib.data.pf_willow import PfWillowDataset
from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.data.types import Difficulty, ImageRecord, Pair, PairDataset, ThresholdRule
from sd4match_lib.errors import DataError

__all__ = [
    "SPAIR_CATEGORIES",
    "SPLITS",
    "VOC_CATEGORIES",
    "VOC_INDEX",
    "Difficulty",
    "ImageRecord",
    "OwnPairs",
    "Pair",
    "PairDataset",
    "PfPascalDataset",
    "PfWillowDataset",
    "SpairDataset",
    "ThresholdRule",
    "category_noun",
    "open_dataset",
]

SPLITS = ("train", "val", "test")

_READERS: dict[DatasetKind, Callable[[Path, str, int | None], PairDataset]] = {
    DatasetKind.SPAIR: SpairDataset,
    DatasetKind.PF_PASCAL: PfPascalDataset,
    DatasetKind.PF_WILLOW: PfWillowDataset,
    DatasetKind.OWN: OwnPairs,
}


def open_dataset(config: DatasetConfig, split: str, root: Path | str | None = None) -> PairDataset:
    """Open one split of a data set.

    Args:
        config: the data set's entry in the profile.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: read from here instead of the profile's folder; for pairs of your own, the file.

    Raises:
        DataError: there is no such split, or its list is missing or damaged.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; use one of {', '.join(SPLITS)}.")
    path = config.path if root is None else Path(root).expanduser()
    return _READERS[config.kind](path, split, config.max_pairs.get(split))
