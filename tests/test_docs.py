import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from html import unescape
from urllib.parse import unquote, urlsplit

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
    # Equations are drawn without a network too.
    assert 'src="../_static/mathjax/' in by_hand and "cdn.jsdelivr" not in by_hand
    matcher = (tmp_path / "html/api/sd4match_lib.matcher.html").read_text(encoding="utf-8")
    assert 'id="sd4match_lib.matcher.matcher.Matcher.match"' in matcher
    # Tables that cells show are tables, and not lines of bars.
    told = (tmp_path / "html/notebooks/01_prompt_baselines.html").read_text(encoding="utf-8")
    assert "<td" in told and "| DIFT |" not in told
    # A click on a figure opens it in full size.
    figures, linked = set(), set()
    for page in (tmp_path / "html").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        figures |= set(re.findall(r'<img\b[^>]*\bsrc="([^"]*_images/[^"]+)"', text))
        linked |= set(re.findall(r'<a\b[^>]*\bhref="([^"]+)">\s*<img\b[^>]*\bsrc="\1"', text))
    assert len(figures) > 30 and linked == figures
    assert _dead_links(tmp_path / "html") == []


def test_the_commands_of_the_how_to_pages_are_understood(project):
    pages = sorted((project / "docs" / "howto").glob("*.md"))
    text = "\n".join(textwrap.dedent(block) for page in pages for block in _blocks(page, "sh"))
    commands = [line for line in text.splitlines() if line]
    assert len(commands) >= 5 and all(line.startswith("sd4match ") for line in commands)
    for line in commands:
        cli._parser().parse_args(shlex.split(line)[1:])
    profile = next(block for block in _blocks(project / "docs/howto/another_backbone.md", "toml"))
    assert tomllib.loads(profile)["extends"] == "paper"


def _dead_links(site):
    """Every link and picture of a site's pages that leads to no file or no place on a page."""
    pages = {page: page.read_text(encoding="utf-8") for page in site.resolve().rglob("*.html")}
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    dead = set()
    for page, text in pages.items():
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            parts = urlsplit(unescape(link))
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = unquote(parts.fragment)
            if not target.exists() or (place and target in places and place not in places[target]):
                dead.add(f"{page.relative_to(site.resolve())}: {link}")
    return sorted(dead)


def _blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
