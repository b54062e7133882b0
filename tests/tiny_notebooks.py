"""Tiny notebooks for the runner's tests."""

from pathlib import Path

import nbformat
from nbformat import v4

PARAMETERS = 'PROFILE = "mini"  # the experiment\nWORD = "hello"  # what to write\n'
START = "from sd4match_lib.config.profile import load_profile\nprofile = load_profile(PROFILE)"
WORK = (
    "table = profile.results_path / 'tables' / f'{WORD}.txt'\n"
    "table.parent.mkdir(parents=True, exist_ok=True)\n"
    "_ = table.write_text(WORD)"
)
FINISH = (
    "from sd4match_lib.runs.store import finish_notebook\n_ = finish_notebook({stem!r}, profile, [table])"
)


def write_notebook(path: Path, *, work: str = WORK, finish: str = FINISH, after: str = "") -> Path:
    """Write a notebook of five cells, or six with `after`."""
    cells = [
        v4.new_markdown_cell("# A notebook", id="title"),
        v4.new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
        v4.new_code_cell(START, id="start"),
        v4.new_code_cell(work, id="work"),
        v4.new_code_cell(finish.format(stem=path.stem), id="finish"),
    ]
    if after:
        cells.append(v4.new_code_cell(after, id="after"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path
