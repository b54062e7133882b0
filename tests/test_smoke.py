from pathlib import Path

import pandas as pd
import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.report.page import ITEMS
from sd4match_lib.reproduce.reproduce import reproduce

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_smoke_profile_runs_every_notebook_once_and_finds_them_done_again():
    records = reproduce("smoke")
    names = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb"))
    assert [record.name for record in records] == names
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
    for table in ("table2_spair", "table3_generalization"):
        # The paper's rows are marked in the text, so that none can be taken for a measured one.
        frame, text = (results / "tables" / f"{table}{end}" for end in (".csv", ".md"))
        published = pd.read_csv(frame)["published"]
        assert published.any() and not published.all()
        assert text.read_text(encoding="utf-8").count("†* |") == published.sum()
    again = reproduce("smoke")
    assert [record.started for record in again] == [record.started for record in records]


def test_the_report_asks_only_for_what_notebooks_leave():
    for item in ITEMS:
        exists = (PROJECT / "notebooks" / f"{item.notebook}.ipynb").is_file()
        assert exists == item.built, item.title
