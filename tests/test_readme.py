import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sd4match_lib.cli import main as cli
from sd4match_lib.config.profile import Profile, load_profile
from sd4match_lib.reproduce.prepare import prepare_data

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
ANSWERS = re.findall(r"```sh\n(sd4match [^\n]*)\n```\n\n```text\n(.*?)```", README, re.S)
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make")])
def test_the_make_commands_are_targets(line):
    plan = subprocess.run([*shlex.split(line), "--dry-run"], cwd=PROJECT, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    assert ".venv/bin/" in plan.stdout


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("sd4match")])
def test_the_commands_are_understood(line):
    cli._parser().parse_args(shlex.split(line)[1:] or ["doctor"])


def test_every_command_of_ours_has_its_answer_under_it():
    assert [line for line in COMMANDS if line.startswith("sd4match")] == [line for line, _ in ANSWERS]


def test_there_is_nothing_else_to_type():
    assert all(line.startswith(("make", "sd4match")) for line in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["sd4match", "sd4match doctor"])
def test_the_first_commands_answer(line, capsys):
    prepare_data(load_profile("mini"))
    assert cli.main(shlex.split(line)[1:]) == 0
    assert "sd4match" in capsys.readouterr().out


def shape(text):
    """Its lines with a # for each number and name of a run, and without the space between columns."""
    text = re.sub(r"-[0-9a-f]{8}\b", "-#", text)
    text = re.sub(r"-?\d+(\.\d+)?", "#", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "expected"), ANSWERS, ids=[line for line, _ in ANSWERS])
def test_a_command_answers_what_is_printed_under_it(line, expected, tmp_path, capsys, monkeypatch):
    prepare_data(load_profile("mini"))
    # Nothing that is asked here is among the project's own results.
    monkeypatch.setattr(Profile, "results_path", property(lambda profile: tmp_path / profile.results_dir))
    monkeypatch.setenv("SD4MATCH_DATA", str(PROJECT / "data" if "paper" not in line else tmp_path))
    words = shlex.split(line)[1:]
    if words[0] == "match":
        cats = sorted((PROJECT / "data/minipair/SPair-71k/JPEGImages/cat").glob("test_*.jpg"))
        for name, picture in zip(("cat.jpg", "other.jpg"), cats, strict=False):
            shutil.copyfile(picture, tmp_path / name)
        monkeypatch.chdir(tmp_path)
    cli.main(words)
    printed = shape(capsys.readouterr().out.replace(f"{tmp_path}/", ""))
    assert [wanted for wanted in shape(expected) if wanted not in printed] == []


@pytest.mark.slow
def test_the_snippets_run(tmp_path, capsys, monkeypatch):
    # What the snippets measure in passing is not among mini's results.
    monkeypatch.setattr(Profile, "results_path", tmp_path)
    monkeypatch.chdir(PROJECT)
    for snippet, said in zip(SNIPPETS, ("PCK@0.10", "[[", "PCK@0.10"), strict=True):
        exec(snippet, {"__name__": "__main__"})
        assert said in capsys.readouterr().out


def test_the_pictures_are_there():
    for target in re.findall(r"!\[.*?\]\((.*?)\)|\]\((?!http)(.*?)\)", README):
        assert (PROJECT / "".join(target)).is_file()


def test_every_notebook_is_in_the_table_and_none_is_invented():
    listed = set(re.findall(r"^\| `(\d\d\w*)` \|", README, re.M))
    assert listed == {path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")}
