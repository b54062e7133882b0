"""The report: what the paper says, item by item, beside what this profile measured."""

from pathlib import Path

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.report.claims import (
    LEVEL,
    MARGIN,
    MIN_TRAININGS,
    Verdict,
    explain_undecided,
    read_claims,
)
from sd4match_lib.report.comparison import TOLERANCE, compare_item, gpu_hours
from sd4match_lib.report.html import html_page
from sd4match_lib.report.items import ITEMS, Item
from sd4match_lib.report.repeated import repeated_numbers
from sd4match_lib.report.tables import markdown_table
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import RECORD_FILE, notebook_record_path
from sd4match_lib.utils.files import atomic_write_text
from sd4match_lib.utils.markdown import escape_markdown
from sd4match_lib.utils.paths import inside
from sd4match_lib.utils.progress import format_duration
from sd4match_lib.utils.reading import read_text

_NAMED = 12
"""Claims that the first words name; the table has all."""


def write_report(profile: Profile) -> tuple[Path, Path]:
    """Write the report from the tables and records in the profile's results.

    Returns:
        The paths of `REPORT.md` and of `report.html`, which holds its figures in itself.
    """
    root = profile.results_path
    text = "\n".join(_lines(profile))
    markdown, html = root / "REPORT.md", root / "report.html"
    atomic_write_text(markdown, text)
    atomic_write_text(html, html_page(text, f"SD4Match, profile {profile.name}", root))
    return markdown, html


def report_summary(profile: Profile) -> str:
    """Return in Markdown which claims hold, counted by where the paper makes them, and what was measured."""
    claims = read_claims(profile.results_path / "tables")
    lines = _first_words(profile, claims)
    if not claims.empty:
        own = claims[~claims["control"]]
        counts = pd.crosstab(own["source"], own["verdict"]).rename_axis(columns=None).reset_index()
        caption = f"Claims by where they are made, and what profile `{profile.name}` says of them."
        lines += [markdown_table(counts, caption), ""]
        lines += [explain_undecided(claims), ""]
    # Among the notebooks, where this is shown, a notebook lies beside the page and not below it.
    overview = (line.replace("](notebooks/", "](") for line in _overview(profile))
    return "\n".join([*lines, *overview])


def _lines(profile: Profile) -> list[str]:
    name = profile.name
    claims = read_claims(profile.results_path / "tables")
    lines = [
        f"# SD4Match: report of profile `{name}`",
        "",
        *_first_words(profile, claims),
        f"Every measured number below comes from profile `{name}`; intervals are 95 %, from resampling "
        "pictures and, where prompts were trained several times, trainings. Numbers of the paper "
        "(arXiv:2310.17569v2) stand apart. They are comparable with measured ones on the paper's own test "
        f"splits only: there a difference of at most {100 * TOLERANCE:g} points counts as reproduced.",
        "",
        *_overview(profile),
        *_claims(profile, claims),
        *_repeated(profile),
    ]
    for item in ITEMS:
        said = [f"## {item.title}", "", f"**The paper:** {item.says}", ""]
        lines += [*said, *_measured(item, profile), ""]
    return lines


def _first_words(profile: Profile, claims: pd.DataFrame) -> list[str]:
    """What holds, what does not and what cannot be told, and which world this is."""
    lines = [*([f"**This world.** {profile.world}", ""] if profile.world else [])]
    if claims.empty:
        return lines
    own = claims[~claims["control"]]
    kinds = {
        "Holds here": (Verdict.AGREES,),
        "Does not hold here": (Verdict.CONTRADICTS, Verdict.EXCLUDED),
        "Cannot be told here": (Verdict.UNDECIDED, Verdict.FEW),
    }
    for words, verdicts in kinds.items():
        found = own[own["verdict"].isin(verdicts)]["claim"].tolist()
        more = f"; and {len(found) - _NAMED} more, in the report's table" if len(found) > _NAMED else ""
        named = "; ".join(found[:_NAMED]) or "none"
        lines += [f"**{words}** ({len(found)} of {len(own)} claims): {named}{more}.", ""]
    if profile.decided_by and own["verdict"].isin(kinds["Cannot be told here"]).any():
        lines += [f"Run `make reproduce PROFILE={profile.decided_by}` to decide more of them.", ""]
    controls = claims[claims["control"]]
    loud = controls[controls["verdict"] == Verdict.SOMETHING]["claim"].tolist()
    if loud:
        lines += [f"**The instrument finds something where there is nothing:** {'; '.join(loud)}.", ""]
    elif len(controls):
        lines += [f"Negative controls that come out as nothing, as they must: all {len(controls)}.", ""]
    return lines


def _overview(profile: Profile) -> list[str]:
    lines = ["| of the paper | here | its runs took | where |", "| :--- | :--- | ---: | :--- |"]
    for item in ITEMS:
        record = _record(item, profile)
        if record:
            stem = item.notebook
            link = f"[{stem}](notebooks/{stem}.ipynb)"
            lines.append(
                f"| {item.title} | measured | {format_duration(_runs_s(record, profile))} | {link} |"
            )
        else:
            lines.append(f"| {item.title} | not measured yet | - | - |")
    return [*lines, ""]


def _runs_s(record: RunRecord, profile: Profile) -> float:
    """How long a notebook's runs took, each when it was made; those that notebooks share count in each."""
    folder = profile.results_path / "runs"
    names, where = record.config.get("runs"), f"the record of {record.name}"
    listed = names if isinstance(names, list) else []
    paths = [inside(folder, f"{name}/{RECORD_FILE}", where) for name in listed]
    return sum(RunRecord.read(path).wall_s for path in paths if path.is_file())


def _claims(profile: Profile, claims: pd.DataFrame) -> list[str]:
    if claims.empty:
        return []
    caption = (
        "Each line is a difference of PCK@0.10 in points on the same pairs (of maps, in hundredths); of a "
        "claim about several, the one that holds least. `paper` is the paper's own difference. "
        f"Verdicts are corrected for the number of lines (Holm, {100 * LEVEL:g} % over the table). Where "
        f'prompts were trained, fewer than {MIN_TRAININGS} trainings decide nothing. "No worse" allows '
        f"{100 * MARGIN:g} points, fixed beforehand."
    )
    order = ["claim", "verdict", "here", "paper", "trainings", "source"]
    table = markdown_table(claims[order], caption, percent=["paper"])
    return ["## The paper's claims, here", "", table.strip(), "", explain_undecided(claims), ""]


def _repeated(profile: Profile) -> list[str]:
    numbers = repeated_numbers(profile)
    if numbers.empty:
        return []
    caption = (
        "The same quantity in several tables, where it is not the same: their captions say which trainings, "
        "pairs and matchers each used."
    )
    wide = numbers.pivot(index="number", columns="table", values="value").reset_index()
    table = markdown_table(wide, caption, percent=list(wide.columns[1:]))
    return ["## One number, several values", "", table.strip(), ""]


def _measured(item: Item, profile: Profile) -> list[str]:
    """What was measured for one item, or that nothing was, with what it would take."""
    record, root = _record(item, profile), profile.results_path
    if record is None:
        return _missing(item, profile)
    lines = [f"**Measured** ({record.started[:10]}, {escape_markdown(record.device)}):", ""]
    compared = compare_item(item, profile)
    if not compared.empty:
        caption = f"PCK@0.10 in percent, here and in the paper. Profile `{profile.name}`."
        table = markdown_table(compared, caption, percent=["paper"])
        lines += [table.strip(), ""]
    wanted = [root / "tables" / f"{name}.md" for name in item.tables]
    wanted += [root / "figures" / f"{name}.png" for name in item.figures]
    for path in wanted:
        if not path.is_file():
            lines += [f"*`{path.name}` is missing; run `{_command(item, profile)}` again.*", ""]
        elif path.suffix == ".md":
            lines += [read_text(path).strip(), ""]
        else:
            lines += [f"![{item.title}](figures/{path.name})", ""]
    return lines


def _missing(item: Item, profile: Profile) -> list[str]:
    if not item.built:
        return ["**Measured:** not yet; this version has no notebook for it."]
    hours = gpu_hours(item.cost)
    cost = f"{hours:.0f} hours" if hours >= 1.5 else f"{max(5, round(60 * hours, -1)):.0f} minutes"
    return [
        f"**Measured:** not yet; run `{_command(item, profile)}`. "
        f"Under the `paper` profile it takes an estimated {cost} on one GPU (operations counted, 100 TFLOP/s "
        "assumed; prompts of earlier notebooks are reused)."
    ]


def _command(item: Item, profile: Profile) -> str:
    return f"sd4match reproduce --profile {profile.name} --only {item.notebook.split('_')[0]}"


def _record(item: Item, profile: Profile) -> RunRecord | None:
    path = notebook_record_path(profile.results_path, item.notebook)
    record = RunRecord.read(path) if item.built and path.is_file() else None
    return record if record is not None and record.status == "complete" else None
