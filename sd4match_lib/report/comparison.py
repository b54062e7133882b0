"""Measured numbers set beside the paper's: the difference, its interval, and whether it is small enough."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.items import Compared, Cost, Item
from sd4match_lib.report.published import lookup
from sd4match_lib.report.tables import PUBLISHED, read_table

TOLERANCE = 0.015
"""How far a measured PCK may be from the published one to count as reproduced, as a fraction.

Another seed, noise or resampler moves PCK on SPair-71k's 12,234 pairs by some tenths of a point; and the
released code mixes two resamplers (method, section 1).
"""

_ALPHA = 0.1

PASS_TFLOP = 1.13
"""Counted: TFLOP of one 768 x 768 picture through SD2-1 (method, section 2)."""

_TRAINING_PAIRS = 30_000 * 9
_PAIR_RUN_PASSES = 12_234 * 2 * 8
_IMAGE_RUN_PASSES = 2_000 * 8  # the pictures of SPair-71k's test split, rounded up


def compare_item(item: Item, profile: Profile) -> pd.DataFrame:
    """Set what an item measured beside what the paper prints.

    A difference is only given where the whole published test split was used: everything else is another
    experiment.

    Returns:
        Columns `what`, `measured` (`Interval`), `paper` and, where every row is comparable, `difference`
        (`Interval`) and `verdict`; no rows where the item has nothing to compare.
    """
    table = []
    for entry in item.compared:
        measured = _read(entry, profile)
        paper = lookup(*entry.paper, "all", _ALPHA, dataset=entry.dataset)
        if measured is None or paper is None:
            continue
        cells: dict[str, object] = {"what": entry.name, "measured": measured, "paper": paper}
        if is_comparable(profile, entry.dataset):
            difference = Interval(*(bound - paper for bound in measured))
            inside = "inside" if abs(difference.value) <= TOLERANCE else "OUTSIDE"
            cells |= {"difference": difference, "verdict": f"{inside} ±{100 * TOLERANCE:g}"}
        table.append(cells)
    return pd.DataFrame(table)


def is_comparable(profile: Profile, dataset: str) -> bool:
    """Say whether a profile tests on the whole published split of a data set."""
    config = profile.datasets.get(dataset)
    return config is not None and "test" in config.published_counts and "test" not in config.max_pairs


@dataclass(frozen=True)
class Rate:
    """How fast a device is under a profile.

    Attributes:
        pass_s: seconds that one picture takes through the UNet.
        pair_s: seconds that one pair takes in training: both pictures through the UNet, and back to the
            prompt.
    """

    pass_s: float
    pair_s: float


ASSUMED = Rate(PASS_TFLOP / 100, 2 * 2.5 * PASS_TFLOP / 100)
"""100 TFLOP/s; the way back to the prompt is 1.5 times the way there, as no weight has a gradient."""


def gpu_hours(cost: Cost, rate: Rate = ASSUMED) -> float:
    """Estimate the hours that an item takes under the `paper` profile on one GPU.

    Counted passes at a rate, by default that of an assumed data-centre GPU; reading and encoding pictures is
    not in it.
    """
    passes = cost.pair_runs * _PAIR_RUN_PASSES + cost.image_runs * _IMAGE_RUN_PASSES
    return (cost.trainings * _TRAINING_PAIRS * rate.pair_s + passes * rate.pass_s) / 3600


def measured_row(profile: Profile, name: str, cells: Mapping[str, object]) -> pd.Series | None:
    """Return the first measured row of a profile's table that has these cells; None where there is none."""
    path = profile.results_path / "tables" / f"{name}.csv"
    if not path.is_file():
        return None
    table = read_table(path)
    if PUBLISHED in table:
        table = table[~table[PUBLISHED]]
    for column, wanted in cells.items():
        if column not in table:
            return None
        table = table[table[column] == wanted]
    return None if table.empty else table.iloc[0]


def _read(entry: Compared, profile: Profile) -> Interval | None:
    row = measured_row(profile, entry.table, dict(entry.row))
    if row is None:
        return None
    return Interval(*(float(row[f"{entry.column}{end}"]) for end in ("", "_low", "_high")))
