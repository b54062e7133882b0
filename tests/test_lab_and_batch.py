"""A notebook run by hand in JupyterLab leaves the same tables as the one that `reproduce` runs."""

import json
import urllib.request
from pathlib import Path

import nbformat
import pytest
from lab import TOKEN, Kernel, running_lab

from sd4match_lib.reproduce.reproduce import reproduce
from sd4match_lib.runs.record import RunRecord

PROJECT = Path(__file__).resolve().parent.parent
STEM = "00_start_here"


def write_profile(folder, way):
    """A small profile with results and features of its own, called the same either way."""
    path = folder / f"{way}.toml"
    path.write_text(
        'extends = "smoke"\nname = "small"\n'
        f'results_dir = "{folder.as_posix()}/{way}"\ncache_dir = "{folder.as_posix()}/cache-{way}"\n'
        f"[notebooks.parameters.{STEM}]\nPAIRS = 4\n"
    )
    return path


def run_in_lab(folder):
    """What a user does: a copy of the notebook, other parameters, JupyterLab's kernel, all cells."""
    notebook = nbformat.read(PROJECT / "notebooks" / f"{STEM}.ipynb", as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for before, after in {'PROFILE = "mini"': 'PROFILE = "lab.toml"', "PAIRS = 0": "PAIRS = 4"}.items():
        assert parameters.source.count(before) == 1
        parameters.source = parameters.source.replace(before, after)
    nbformat.write(notebook, folder / f"{STEM}.ipynb")
    asked = {"path": f"{STEM}.ipynb", "name": STEM, "type": "notebook", "kernel": {"name": "python3"}}
    with running_lab(folder) as address:
        session = urllib.request.Request(f"{address}/api/sessions?token={TOKEN}", json.dumps(asked).encode())
        with urllib.request.urlopen(session, timeout=120):
            kernel = Kernel(folder)
        try:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    kernel.run(cell.source)
        finally:
            kernel.close()


@pytest.mark.slow
def test_jupyterlab_and_reproduce_write_the_same_tables(tmp_path):
    reproduce(str(write_profile(tmp_path, "batch")), only=[STEM])
    write_profile(tmp_path, "lab")
    run_in_lab(tmp_path)
    batch, lab = (tmp_path / way for way in ("batch", "lab"))
    tables = sorted(path.name for path in (batch / "tables").iterdir())
    assert tables == ["start_match.csv", "start_match.md"]
    for name in tables:
        assert (lab / "tables" / name).read_bytes() == (batch / "tables" / name).read_bytes()
    records = [RunRecord.read(way / "notebooks" / f"{STEM}.json") for way in (batch, lab)]
    assert records[0].metrics == records[1].metrics and records[0].outputs == records[1].outputs
