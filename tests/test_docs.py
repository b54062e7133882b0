"""`make docs`: every public name and every notebook gets a page, without a warning."""

import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT

NOTEBOOKS = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
def test_the_pages_show_the_reference_and_every_notebook(tmp_path):
    pages = tmp_path / "html"
    # A copy: building writes beside the pages' sources.
    source = tmp_path / "project"
    for folder in ("docs", "notebooks", "results/mini/notebooks", "results/mini/figures"):
        shutil.copytree(PROJECT / folder, source / folder, ignore=shutil.ignore_patterns("_build", "api"))
    (source / "sd4match_lib").symlink_to(PROJECT / "sd4match_lib")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "--quiet",
        str(source / "docs"),
        str(pages),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]

    matcher = (pages / "api" / "sd4match_lib.matcher.html").read_text()
    assert 'id="sd4match_lib.matcher.Matcher.match"' in matcher and "original pixels" in matcher
    for name in NOTEBOOKS:
        assert (pages / "notebooks" / f"{name}.html").is_file(), name
    report = (pages / "notebooks" / "13_report.html").read_text()
    assert (
        "_images/table2_categories.png" in report and (pages / "_images" / "table2_categories.png").is_file()
    )
