import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sd4match_lib.cli import main as cli
from sd4match_lib.config.profile import load_profile
from sd4match_lib.reproduce.prepare import prepare_data

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make")])
def test_the_make_commands_are_targets(line):
    plan = subprocess.run([*shlex.split(line), "--dry-run"], cwd=PROJECT, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    assert ".venv/bin/" in plan.stdout


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("sd4match")])
def test_the_commands_are_understood(line):
    cli._parser().parse_args(shlex.split(line)[1:] or ["doctor"])


def test_there_is_nothing_else_to_type():
    assert all(line.startswith(("make", "sd4match")) for line in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["sd4match", "sd4match doctor"])
def test_the_first_commands_answer(line, capsys):
    assert line in COMMANDS
    prepare_data(load_profile("mini"))
    assert cli.main(shlex.split(line)[1:]) == 0
    assert "sd4match" in capsys.readouterr().out


@pytest.mark.slow
def test_the_evaluation_and_the_snippets_run(tmp_path, capsys):
    line = next(line for line in COMMANDS if "--max-pairs" in line)
    assert cli.main([*shlex.split(line)[1:], "--results", str(tmp_path)]) == 0
    assert "PCK@0.10" in capsys.readouterr().out
    runs = load_profile("mini").results_path / "runs"
    before = set(runs.glob("*"))
    environment = {**os.environ, "SD4MATCH_HEADLESS": "1"}
    for snippet, said in zip(SNIPPETS, ("PCK@0.10", "[[", "PCK@0.10"), strict=True):
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=PROJECT, env=environment, capture_output=True, text=True
        )
        # What the snippets measure in passing is not among mini's results.
        for made in set(runs.glob("*")) - before:
            shutil.rmtree(made)
        assert done.returncode == 0 and said in done.stdout, done.stderr


def test_the_pictures_are_there():
    for target in re.findall(r"!\[.*?\]\((.*?)\)|\]\((?!http)(.*?)\)", README):
        assert (PROJECT / "".join(target)).is_file()


def test_every_notebook_is_in_the_table_and_none_is_invented():
    listed = set(re.findall(r"^\| `(\d\d\w*)` \|", README, re.M))
    assert listed == {path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")}
