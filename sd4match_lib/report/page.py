"""The report: what the paper says, item by item, beside what this profile measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sd4match_lib.files import atomic_write_text
from sd4match_lib.profile import Profile
from sd4match_lib.report.record import notebook_record_path
from sd4match_lib.report.run_record import RunRecord


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper.

    Attributes:
        title: what it is called.
        says: what the paper says by it.
        notebook: the stem of the notebook that measures it.
        tables: the tables that the notebook leaves.
        figures: the figures that it leaves.
    """

    title: str
    says: str
    notebook: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


ITEMS: Final = (
    Item(
        "Table 1: existing prompts",
        "SD keeps most of its matching ability with an empty prompt; the category's name or an implicit "
        "captioner gains about 2 points of PCK@0.1 on SPair-71k, for DIFT and for SD+DINO without DINO "
        "(Sec. 3.2). DIFT with the text prompt: 52.9.",
        "01_prompt_baselines",
        ("table1_prompts", "table1_baselines"),
        ("table1_prompts",),
    ),
    Item(
        "Table 2: SPair-71k by category",
        "Learned prompts: Single 72.6, Class 75.4, CPM 75.5 PCK@0.1.",
        "05_spair_per_category",
    ),
    Item(
        "Table 3: generalisation", "Prompts tuned on one dataset, tested on the others.", "06_generalization"
    ),
    Item(
        "Figure 3(a): CPM ablation",
        "Pair over single image, local over global conditioning.",
        "07_cpm_ablation",
    ),
    Item("Figure 3(b): timesteps", "PCK over the diffusion step.", "08_timestep_sweep"),
    Item("Table 4: initialisation", "Where the learning of a prompt starts.", "09_initialization_and_size"),
    Item("Figures 4, 5, 7, 8: prompts as pictures", "What learned prompts paint.", "10_prompt_to_image"),
    Item(
        "Figures 6, 9: correlation maps",
        "Where a query point is found under each prompt.",
        "11_correlation_maps",
    ),
)


def write_report(profile: Profile) -> Path:
    """Writes `REPORT.md` into the profile's results, from the tables and records there; returns its path."""
    root = profile.results_path
    lines = [
        f"# Report of profile `{profile.name}`",
        "",
        f"Every measured number below comes from profile `{profile.name}`. Numbers of the paper are marked "
        "as such; where the two stand side by side, they are only comparable for the `paper` profile.",
        "",
    ]
    for item in ITEMS:
        lines += [
            f"## {item.title}",
            "",
            f"**The paper:** {item.says}",
            "",
            *_measured(item, profile, root),
            "",
        ]
    path = root / "REPORT.md"
    atomic_write_text(path, "\n".join(lines))
    return path


def _measured(item: Item, profile: Profile, root: Path) -> list[str]:
    """What was measured for one item, or that and why nothing was."""
    record_path = notebook_record_path(root, item.notebook)
    if not item.tables:
        return ["**Measured:** not yet; this version has no notebook for it."]
    record = RunRecord.read(record_path) if record_path.is_file() else None
    if record is None or record.status != "complete":
        number = item.notebook.split("_")[0]
        return [f"**Measured:** not yet; run `sd4match reproduce --profile {profile.name} --only {number}`."]
    lines = [f"**Measured** ({record.started[:10]}, {record.wall_s:.0f} s, {record.device}):", ""]
    for name in item.tables:
        lines += [(root / "tables" / f"{name}.md").read_text(encoding="utf-8").strip(), ""]
    lines += [f"![{item.title}](figures/{name}.png)" for name in item.figures]
    return lines
