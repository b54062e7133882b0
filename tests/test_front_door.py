"""What users meet first: the checks that they see, the notebooks that they write, torch.hub."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

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
def test_a_wheel_stands_alone(tmp_path):
    """Installed elsewhere, it brings profiles, models and notebooks; the libraries alone are shared."""
    source, wheels, venv, work = (tmp_path / name for name in ("source", "wheels", "venv", "work"))
    shutil.copytree(PROJECT / "sd4match_lib", source / "sd4match_lib")
    shutil.copytree(PROJECT / "notebooks", source / "notebooks")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run = partial(subprocess.run, check=True, capture_output=True, text=True)
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source])
    run([sys.executable, "-m", "venv", "--without-pip", venv])
    run([*pip, "--python", venv / "bin/python", "install", "--no-deps", "--no-index", *wheels.iterdir()])
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    work.mkdir()
    for name, colour in (("a.png", "white"), ("b.png", "black")):
        Image.new("RGB", (60, 40), colour).save(work / name)
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command, run = venv / "bin/sd4match", partial(run, cwd=work, env=outside)
    told = run([command, "match", "a.png", "b.png", "--points", "10,20; 30,5", "--json", "found.json"])
    assert "a.png (60 x 40) -> b.png (60 x 40)" in told.stdout
    assert len(json.loads((work / "found.json").read_text())["targets"][0]["matches"]) == 2
    run([command, "notebooks", "book"])
    assert sorted(path.name for path in (work / "book").iterdir()) == NOTEBOOKS
    where = run([venv / "bin/python", "-c", "import sd4match_lib; print(sd4match_lib.__file__)"]).stdout
    assert Path(where.strip()).is_relative_to(site)


@pytest.mark.slow
def test_torch_hub_gives_a_matcher_from_this_folder():
    found = torch.hub.load(str(PROJECT), "matcher", source="local", prompt="text", category="cat")
    assert isinstance(found, sd4match_lib.Matcher)
