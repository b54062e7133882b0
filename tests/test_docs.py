import re
import shlex
import subprocess
import sys
import textwrap
import tomllib

import pytest

from sd4match_lib.cli import main as cli


@pytest.mark.slow
def test_the_pages_build_without_a_warning(project, tmp_path):
    """As `make docs` does; a warning is a docstring that reads wrong or a link that leads nowhere."""
    build = [sys.executable, "-m", "sphinx", "-W", "--quiet", "-d", str(tmp_path / "trees")]
    build += ["docs", str(tmp_path / "html")]
    done = subprocess.run(build, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    start = (tmp_path / "html/index.html").read_text(encoding="utf-8")
    assert "notebooks/13_report.html" in start and "notebooks/00b_method_by_hand.html" in start
    pages = [
        path.relative_to(project / "docs").with_suffix(".html")
        for path in (project / "docs/howto").glob("*.md")
    ]
    assert len(pages) >= 5 and all(
        (tmp_path / "html" / page).is_file() and str(page) in start for page in pages
    )
    by_hand = (tmp_path / "html/notebooks/00b_method_by_hand.html").read_text(encoding="utf-8")
    assert by_hand.count('class="math notranslate') >= 8 and r"\tag{8}" in by_hand
    matcher = (tmp_path / "html/api/sd4match_lib.matcher.html").read_text(encoding="utf-8")
    assert 'id="sd4match_lib.matcher.matcher.Matcher.match"' in matcher


def test_the_commands_of_the_how_to_pages_are_understood(project):
    pages = sorted((project / "docs" / "howto").glob("*.md"))
    text = "\n".join(textwrap.dedent(block) for page in pages for block in _blocks(page, "sh"))
    commands = [line for line in text.splitlines() if line]
    assert len(commands) >= 5 and all(line.startswith("sd4match ") for line in commands)
    for line in commands:
        cli._parser().parse_args(shlex.split(line)[1:])
    profile = next(block for block in _blocks(project / "docs/howto/another_backbone.md", "toml"))
    assert tomllib.loads(profile)["extends"] == "paper"


def _blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
