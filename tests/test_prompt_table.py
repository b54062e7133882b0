import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.report.dots import Dots, plot_dots
from sd4match_lib.report.page import write_report
from sd4match_lib.report.prompt_table import prompt_table
from sd4match_lib.report.style import save_figure
from sd4match_lib.runs.store import finish_notebook


def result(distances):
    """An evaluation of one keypoint a pair, with thresholds of 10 px at alpha 1."""
    count = len(distances)
    rows = pd.DataFrame(
        {
            "pair_id": [str(i) for i in range(count)],
            "category": "cat",
            "keypoint": "nose",
            "distance_in": [float(d) for d in distances],
            "theta_in": 10.0,
            "distance_px": 0.0,
            "theta_px": 10.0,
        }
    )
    return SimpleNamespace(keypoints=rows, record=SimpleNamespace(seed=0, config={}))


def test_gains_are_paired_differences_to_the_reference():
    results = {("M", "empty"): result([0, 5, 5, 5]), ("M", "text"): result([0, 0, 5, 5])}
    table = prompt_table(results, 0.1)
    assert table["PCK@0.10"].map(lambda cell: cell.value).tolist() == [0.25, 0.5]
    assert table["gain over empty"][0] is None
    assert table["gain over empty"][1].value == pytest.approx(0.25)
    assert table["pairs"].tolist() == [4, 4] and "gain by learning" not in table


def test_what_learning_added_is_the_difference_to_a_prompt_s_own_start():
    results = {("M", "text"): result([0, 5, 5, 5]), ("M", "start"): result([0, 0, 5, 5])}
    results["M", "learned"] = result([0, 0, 0, 5])
    table = prompt_table(results, 0.1, reference="text", starts={"learned": "start"})
    assert [cell and cell.value for cell in table["gain over text"]] == [None, 0.25, 0.5]
    assert [cell and cell.value for cell in table["gain by learning"]] == [None, None, 0.25]


def test_the_report_shows_what_was_measured_and_says_what_was_not(tmp_path):
    profile = dataclasses.replace(load_profile("mini"), results_dir=str(tmp_path))
    text = write_report(profile)[0].read_text()
    assert "--only 01`" in text and "estimated" in text and "on one GPU" in text
    assert "| Table 1: existing prompts | not measured yet |" in text and "claims, here" not in text
    for name in ("table1_prompts", "table1_baselines"):
        path = tmp_path / "tables" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"| {name} |\n")
    finish_notebook("01_prompt_baselines", profile, [tmp_path / "tables" / "table1_prompts.md"])
    text = write_report(profile)[0].read_text()
    assert "| table1_prompts |" in text and "**Measured** (" in text
    assert "`table1_prompts.png` is missing" in text
    figure = plot_dots({"": ["b"]}, [Dots("a", {"b": 0.5}, "black")], xlabel="c", title="One")
    save_figure(figure, tmp_path / "figures", "table1_prompts")
    markdown, html = write_report(profile)
    assert "](figures/table1_prompts.png)" in markdown.read_text()
    assert "--only 01`" not in markdown.read_text()
    page = html.read_text()
    assert page.count("data:image/") == 1 and "figures/" not in page


def test_writing_a_report_loads_no_models():
    script = "import sys, sd4match_lib.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
