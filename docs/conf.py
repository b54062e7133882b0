"""How `make docs` builds the pages: the README, every notebook, and the reference from the docstrings."""

import re
import shutil
from pathlib import Path

from sd4match_lib import __version__

_DOCS = Path(__file__).parent
_PROJECT = _DOCS.parent
_SHOWN = Path("results") / "overnight"
"""The results that are committed."""

project = "sd4match"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    # Brings MathJax into the site, so that equations are drawn offline too.
    "sphinx-mathjax-offline",
]
html_theme = "furo"
html_title = f"sd4match {__version__}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
exclude_patterns = ["_build", "results", "api/modules.rst"]

apidoc_modules = [
    {
        "path": "../sd4match_lib",
        "destination": "api",
        "separate_modules": False,
        "module_first": True,
        # A link to each folder, not a tree of all that is in them.
        "max_depth": 1,
        "exclude_patterns": ["../sd4match_lib/__main__.py"],
    }
]
napoleon_use_ivar = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Docstrings say `name` where reStructuredText means a reference; most are arguments: set them as code.
default_role = "code"

# Notebooks are shown as they were executed (`_SHOWN`), or as they are; building never runs one.
nb_execution_mode = "off"
# What a cell shows as Markdown has tables, which plain CommonMark has not.
nb_render_markdown_format = "myst"
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
# Widgets have a still beside them; names that a package passes on are documented in both places.
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header", "myst.xref_missing", "ref.python"]


def _bring_notebooks(_app: object) -> None:
    """Lays the notebooks beside the other pages."""
    target = _DOCS / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for source in sorted((_PROJECT / "notebooks").glob("*.ipynb")):
        executed = _PROJECT / _SHOWN / "notebooks" / source.name
        shutil.copyfile(executed if executed.is_file() else source, target / source.name)
    # The report shows figures by their path from the notebooks' folder.
    shutil.copytree(_PROJECT / _SHOWN / "figures", _DOCS / _SHOWN / "figures", dirs_exist_ok=True)


def _link_pictures(_app: object, _page: str, _template: str, context: dict[str, str], _tree: object) -> None:
    """Lets a click on a picture open its file, in full size; Sphinx links those alone that a page scales."""

    def linked(found: re.Match[str]) -> str:
        inside, picture, source = found.groups()
        return found[0] if inside or source.startswith("data:") else f'<a href="{source}">{picture}</a>'

    pictures = r'(<a\b[^>]*>\s*)?(<img\b[^>]*\bsrc="([^"]+)"[^>]*>)'
    context["body"] = re.sub(pictures, linked, context.get("body", ""))


def setup(app: object) -> None:
    """Hooks into Sphinx before it reads the pages."""
    app.connect("builder-inited", _bring_notebooks, priority=1)  # type: ignore[attr-defined]
    app.connect("html-page-context", _link_pictures)  # type: ignore[attr-defined]
