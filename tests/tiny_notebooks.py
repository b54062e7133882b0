"""Tiny notebooks for the runner's tests."""

from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from sd4match_lib.reproduce.notebook import Notebook
from sd4match_lib.runs import store

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


def write_notebook(
    path: Path, *, start: str = START, work: str = WORK, finish: str = FINISH, after: str = ""
) -> Path:
    """Write a notebook of five cells, or six with `after`."""
    cells = [
        v4.new_markdown_cell("# A notebook", id="title"),
        v4.new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}),
        v4.new_code_cell(start, id="start"),
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


def execute_here(notebook: Notebook, *_: Any) -> None:
    """Run a notebook's cells in this process, which is a hundred times quicker than a kernel of its own."""
    node = parameterize_notebook(load_notebook_node(str(notebook.source)), notebook.overrides)
    store._ASKED.clear()
    store._SEARCHED.clear()
    names: dict[str, Any] = {}
    for cell in node.cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    nbformat.write(node, notebook.partial_path)
