"""Opening a split of a data set by its layout's name."""

from pathlib import Path
from typing import Any

from sd4match_lib.config.names import DATASETS
from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.data.types import PairDataset
from sd4match_lib.errors import DataError
from sd4match_lib.utils.paths import user_path

SPLITS = ("train", "val", "test")


def layout_of(config: DatasetConfig, split: str) -> Any:
    """Return the class of a data set's layout, known to have a split; the data itself is not looked at.

    Raises:
        UserError: there is no such layout.
        DataError: there is no such split.
    """
    layout: Any = DATASETS.load(config.kind)
    known = dict.fromkeys((*SPLITS, *layout.splits))
    if split not in known:
        raise DataError(f"there is no split {split!r}; use one of {', '.join(known)}.")
    return layout


def open_dataset(config: DatasetConfig, split: str, root: Path | str | None = None) -> PairDataset:
    """Open one split of a data set, from `root` (of one's own pairs, the file) or the profile's folder.

    Raises:
        UserError: there is no such layout.
        DataError: there is no such split, or its list is missing or damaged.
    """
    layout = layout_of(config, split)
    path = config.path if root is None else user_path(root)
    dataset: PairDataset = layout(path, split, config.max_pairs.get(split))
    return dataset
