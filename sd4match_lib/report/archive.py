"""The rows behind a profile's numbers, small enough to be committed with them.

`results/<profile>/rows/` holds one parquet file per data set and split: a row per keypoint, with a column per
run that says how far its prediction lay from the truth, in ten-thousandths of the threshold's base (theta),
rounded up. That is enough to take any PCK, difference or interval again, at any alpha of four decimals:
rename a run's column to `distance_in`, divide it by 10,000, and let `theta_in` be 1.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.evaluation.evaluate import KEYPOINTS_FILE
from sd4match_lib.metrics.keypoints import read_keypoints
from sd4match_lib.runs.store import find_runs
from sd4match_lib.utils.files import atomic_write_bytes

FOLDER = "rows"
_KEY = ["pair_id", "keypoint"]
_PARTS = 10_000
_SHARED = [*_KEY, "category", "src_image", "trg_image"]


def write_archive(profile: Profile) -> list[Path]:
    """Gather the rows of all complete evaluations of a profile; returns the files, one per split."""
    gathered: dict[str, dict[str, pd.Series]] = {}
    shared: dict[str, list[pd.DataFrame]] = {}
    for folder, record in find_runs(profile.results_path):
        if record.kind not in ("evaluate", "score"):
            continue
        rows = read_keypoints(folder / KEYPOINTS_FILE)
        rows = rows[rows["distance_in"].notna()]
        name = f"{record.setting('dataset')}-{record.setting('split')}"
        relative = pd.Series(_rounded_up(rows["distance_in"] / rows["theta_in"]), dtype="UInt16")
        relative.index = pd.MultiIndex.from_frame(rows[_KEY])
        gathered.setdefault(name, {})[record.run_id] = relative
        shared.setdefault(name, []).append(rows[_SHARED])
    return [_write(profile, name, shared[name], runs) for name, runs in sorted(gathered.items())]


def _rounded_up(relative: pd.Series) -> npt.NDArray[np.uint16]:
    """Ten-thousandths, rounded up but for rounding errors, so that a border hit stays one."""
    parts = np.ceil(relative.to_numpy(float) * _PARTS - 1e-7)
    return parts.clip(0, np.iinfo(np.uint16).max).astype(np.uint16)


def _write(profile: Profile, name: str, shared: list[pd.DataFrame], runs: dict[str, pd.Series]) -> Path:
    keys = pd.concat(shared, ignore_index=True).drop_duplicates(_KEY).sort_values(_KEY, ignore_index=True)
    index = pd.MultiIndex.from_frame(keys[_KEY])
    columns = {run: values.reindex(index).array for run, values in sorted(runs.items())}
    frame = pd.concat([keys, pd.DataFrame(columns, keys.index)], axis=1)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd", compression_level=19)
    path = profile.results_path / FOLDER / f"{name}.parquet"
    atomic_write_bytes(path, buffer.getvalue())
    return path
