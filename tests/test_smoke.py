from pathlib import Path

import pandas as pd
import pytest

from sd4match_lib.cli import main as cli
from sd4match_lib.config.profile import load_profile
from sd4match_lib.report.items import ITEMS
from sd4match_lib.reproduce.reproduce import reproduce
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import notebook_record_path

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_smoke_profile_runs_every_notebook_once_and_finds_them_done_again(capsys):
    records = reproduce("smoke")
    names = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb"))
    names.remove("13_report")  # over all the others, so it comes last
    assert [record.name for record in records] == [*names, "13_report"]
    assert all(record.status == "complete" for record in records)
    results = load_profile("smoke").results_path
    table = pd.read_csv(results / "tables" / "table1_prompts.csv")
    assert len(table) == 6 and set(table["pairs"]) == {12}
    assert table["PCK@0.10"].between(0, 1).all()
    report = (results / "REPORT.md").read_text(encoding="utf-8")
    assert "not measured yet" not in report and "is missing" not in report and "claims, here" in report
    page = (results / "report.html").read_text(encoding="utf-8")
    figures = sum(len(item.figures) for item in ITEMS)
    assert page.count("data:image/") == figures and len(page) < 12_000_000
    assert "**Cannot be told here**" in report and "| control: " in report
    # The paper's rows stand in a block of their own, so that none can be taken for a measured one.
    published = pd.read_csv(results / "tables" / "table2_spair.csv")["published"]
    here, printed = (results / "tables" / "table2_spair.md").read_text(encoding="utf-8").split("\n† ")
    assert published.any() and not published.all()
    assert printed.count("†* |") == published.sum() and "†" not in here
    blank = (results / "tables" / "table3_generalization.md").read_text(encoding="utf-8")
    assert "†" not in blank and "published.csv" in blank
    assert len(list((results / "rows").glob("*.parquet"))) >= 4
    assert cli.main(["reproduce", "--profile", "smoke"]) == 0
    # What the README prints under `make reproduce`.
    said = f"{len(names) + 1} notebooks are complete; tables and figures are in "
    assert said in capsys.readouterr().out and said in (PROJECT / "README.md").read_text(encoding="utf-8")
    again = [RunRecord.read(notebook_record_path(results, record.name)) for record in records]
    assert [record.started for record in again] == [record.started for record in records]


def test_the_report_asks_only_for_what_notebooks_leave():
    for item in ITEMS:
        exists = (PROJECT / "notebooks" / f"{item.notebook}.ipynb").is_file()
        assert exists == item.built, item.title
