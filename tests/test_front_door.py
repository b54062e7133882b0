"""What users meet first: the checks that they see, the notebooks that they write, torch.hub."""

import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml

import sd4match_lib
from sd4match_lib.cli import main as cli
from sd4match_lib.errors import UserError
from sd4match_lib.reproduce import textbook

PROJECT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
NOTEBOOKS = sorted(path.name for path in (PROJECT / "notebooks").glob("*.ipynb"))


def steps(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_the_checks_run_runs_here_too(path):
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for command in commands:
        assert re.fullmatch(r"make [a-z]+", command), "a step is a make target"
        plan = subprocess.run([*command.split(), "--dry-run"], cwd=PROJECT, capture_output=True, text=True)
        assert plan.returncode == 0 and ".venv/bin/" in plan.stdout, plan.stderr


def test_pushes_are_checked_quickly_pull_requests_wholly_and_nights_reproduce():
    checks, nightly = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS)
    # YAML reads the key "on" as a truth value.
    assert set(checks[True]) == {"push", "pull_request"} and "schedule" in nightly[True]
    runs = {
        name: [step["run"] for step in job["steps"] if "run" in step] for name, job in checks["jobs"].items()
    }
    assert runs == {"quick": ["make lint", "make quick"], "test": ["make test", "make docs"]}
    kept = [step["with"]["path"] for step in steps(WORKFLOWS[1]) if "upload-artifact" in step.get("uses", "")]
    assert len(kept) == 1 and {"results/mini/report.html", "results/mini/REPORT.md"} <= set(kept[0].split())
    for workflow in (checks, nightly):
        assert workflow["permissions"] == {"contents": "read"}


def test_the_python_of_the_checks_is_the_oldest_that_is_supported():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    inputs = [step.get("with", {}) for path in WORKFLOWS for step in steps(path)]
    versions = {given["python-version"] for given in inputs if "python-version" in given}
    assert {f">={version}" for version in versions} == {project["requires-python"]}


def test_the_version_is_the_same_wherever_it_is_said():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.M)[1]
    assert sd4match_lib.__version__ == citation["version"] == newest


def test_the_notebooks_are_written_to_a_folder_and_nothing_is_overwritten(tmp_path, capsys):
    folder = tmp_path / "deep" / "book"
    assert cli.main(["notebooks", str(folder)]) == 0
    told = capsys.readouterr().out
    assert f"{len(NOTEBOOKS)} notebooks" in told and f"jupyter-lab {folder / '00_start_here.ipynb'}" in told
    assert sorted(path.name for path in folder.iterdir()) == NOTEBOOKS
    for name in NOTEBOOKS:
        assert (folder / name).read_bytes() == (PROJECT / "notebooks" / name).read_bytes()
    (folder / NOTEBOOKS[0]).unlink()
    (folder / NOTEBOOKS[1]).write_text("mine")
    assert cli.main(["notebooks", str(folder)]) == 2
    assert f"{folder / NOTEBOOKS[1]} is already there" in capsys.readouterr().err
    assert (folder / NOTEBOOKS[1]).read_text() == "mine" and not (folder / NOTEBOOKS[0]).exists()


def test_without_a_checkout_they_come_from_the_installed_files(tmp_path, monkeypatch):
    shared = tmp_path / "share"
    shutil.copytree(PROJECT / "notebooks", shared)

    class File(type(Path())):
        def locate(self):
            return self

    listed = [File(path) for path in sorted(shared.glob("*.ipynb"), reverse=True)]
    monkeypatch.setattr(textbook, "project_root", lambda: tmp_path / "elsewhere")
    monkeypatch.setattr(metadata, "files", lambda name: [File(tmp_path / "x.py"), *listed])
    assert [path.name for path in textbook.notebook_sources()] == NOTEBOOKS
    monkeypatch.setattr(metadata, "files", lambda name: [])
    with pytest.raises(UserError, match="install the wheel"):
        textbook.notebook_sources()


def test_the_wheel_brings_every_notebook():
    tool = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    (patterns,) = tool["data-files"].values()
    assert sorted(path.name for pattern in patterns for path in PROJECT.glob(pattern)) == NOTEBOOKS


@pytest.mark.slow
def test_torch_hub_gives_a_matcher_from_this_folder():
    found = torch.hub.load(str(PROJECT), "matcher", source="local", prompt="text", category="cat")
    assert isinstance(found, sd4match_lib.Matcher)
