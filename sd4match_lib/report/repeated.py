"""Numbers that several tables print: where they are not the same, the report says why they may differ."""

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.report.comparison import measured_row

SAME = 5e-4
"""Differences below this vanish when rounded to a tenth of a point."""

_AT, _TUNED = "PCK@0.10", {"tuned on": "SPair-71k"}
_PLACES: dict[str, tuple[tuple[str, dict[str, object], str], ...]] = {
    "CPM on SPair-71k": (
        ("table2_spair", {"method": "SD4Match-CPM"}, "all"),
        ("table2_gains", {"prompt": "SD4Match-CPM"}, _AT),
        ("table3_generalization", {"method": "SD4Match-CPM", **_TUNED}, "SPair-71k @0.10"),
        ("figure3a_ablation", {"case": "1 pair, local (CPM)"}, _AT),
        ("figure3b_timesteps", {"method": "SD4Match-CPM", "t": "{t}"}, _AT),
        ("learned_prompts", {"prompt": "CPM"}, _AT),
    ),
    "Single on SPair-71k": (
        ("table2_spair", {"method": "SD4Match-Single"}, "all"),
        ("table2_gains", {"prompt": "SD4Match-Single"}, _AT),
        ("table3_generalization", {"method": "SD4Match-Single", **_TUNED}, "SPair-71k @0.10"),
        ("figure3b_timesteps", {"method": "SD4Match-Single", "t": "{t}"}, _AT),
        ("table4_initialization", {"prompt": "single", "start": "random"}, _AT),
        ("learned_prompts", {"prompt": "Single"}, _AT),
    ),
    "DIFT on SPair-71k": (
        ("table1_prompts", {"method": "DIFT", "prompt": "text"}, _AT),
        ("table2_spair", {"method": "DIFT"}, "all"),
        ("table3_generalization", {"method": "DIFT"}, "SPair-71k @0.10"),
        ("section7_size", {"size": "{size}"}, _AT),
    ),
}  # fmt: skip


def repeated_numbers(profile: Profile) -> pd.DataFrame:
    """Return the values of numbers that several tables print and that differ between them.

    Returns:
        One row per number and table: `number`, `table` and `value` (a fraction); empty where all agree.
    """
    height, width = profile.model.image_hw
    step, size = profile.features.timestep, f"{height} x {width}"
    words: dict[object, object] = {"{t}": step, "{size}": size}
    table = []
    for number, places in _PLACES.items():
        found = {}
        for name, cells, column in places:
            named = {key: words.get(wanted, wanted) for key, wanted in cells.items()}
            row = measured_row(profile, name, named)
            if row is not None:
                found[name] = float(row[column])
        if found and max(found.values()) - min(found.values()) > SAME:
            table += [{"number": number, "table": name, "value": value} for name, value in found.items()]
    return pd.DataFrame(table, columns=["number", "table", "value"])
