import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_pages_build_without_a_warning(project, tmp_path):
    """As `make docs` does; a warning is a docstring that reads wrong or a link that leads nowhere."""
    build = [sys.executable, "-m", "sphinx", "-W", "--quiet", "-d", str(tmp_path / "trees")]
    build += ["docs", str(tmp_path / "html")]
    done = subprocess.run(build, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    start = (tmp_path / "html/index.html").read_text(encoding="utf-8")
    assert "notebooks/13_report.html" in start
    matcher = (tmp_path / "html/api/sd4match_lib.matcher.matcher.html").read_text(encoding="utf-8")
    assert 'id="sd4match_lib.matcher.matcher.Matcher.match"' in matcher
