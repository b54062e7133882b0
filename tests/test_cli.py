import json
import re
import shlex
import subprocess
import sys

import layouts
import pytest
import tiny

from sd4match_lib.cli import main as cli
from sd4match_lib.errors import UserError
from sd4match_lib.reproduce.runner import Failure, NotebookError


def test_help_is_quick_and_loads_no_models():
    script = (
        "import sys; from sd4match_lib.cli.main import main\n"
        "try: main(['--help'])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # 0.1 s on an idle machine; any of these takes longer.
    assert not {"torch", "pandas", "papermill", "matplotlib"} & set(done.stdout.splitlines()[-1].split())
    assert "examples:" in done.stdout


def test_the_bare_command_says_what_to_do_first(capsys):
    assert cli.main([]) == 0
    assert "sd4match doctor" in capsys.readouterr().out


def test_the_installed_command_is_this_one():
    done = subprocess.run(
        [sys.executable, "-c", "import sd4match_lib.cli.main as c; c.main(['--version'])"],
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("sd4match ")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("run.json is broken; delete it."), 2, "sd4match: run.json is broken; delete it.\n"),
        (
            NotebookError(Failure.CELL, "01_x", "train", "ValueError: no"),
            3,
            "sd4match: 01_x, cell 'train': ValueError: no\n",
        ),
        (NotebookError(Failure.TIMEOUT, "01_x", "train", "slow"), 4, "sd4match: 01_x, cell 'train': slow\n"),
        (NotebookError(Failure.OUTPUTS, "01_x", "", "no record"), 5, "sd4match: 01_x: no record\n"),
        (NotebookError(Failure.KERNEL, "01_x", "train", "dead"), 138, "sd4match: 01_x, cell 'train': dead\n"),
        (
            KeyboardInterrupt(),
            130,
            "sd4match: interrupted; the same command goes on from what is complete.\n",
        ),
    ],
)
def test_failures_are_one_line_and_an_exit_code(monkeypatch, capsys, error, code, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("sd4match_lib.reproduce.reproduce.reproduce", fail)
    assert cli.main(["reproduce"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "--profile", "maxi"], "there is no profile 'maxi'"),
        (["evaluate", "--dataset", "tss"], "has no dataset 'tss'"),
        (["evaluate", "--dataset", "spair", "--data-root", "gone"], "gone"),
        (["evaluate", "--dataset", "spair", "--data-root", "gone", "--timestep", "1000"], "timestep"),
        (["evaluate", "--dataset", "spair", "--data-root", "gone", "--max-pairs", "0"], "max_pairs is 0"),
        (["evaluate", "--dataset", "spair", "--data-root", "gone", "--batch-size", "0"], "batch_size is 0"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_reproduce_passes_its_options_on(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        "sd4match_lib.reproduce.reproduce.reproduce",
        lambda *args, **options: seen.append((args, options)) or [1, 2],
    )
    assert cli.main(["reproduce", "--profile", "smoke", "--only", "00", "13", "--fresh"]) == 0
    assert seen == [(("smoke",), {"only": ["00", "13"], "fresh": True})]
    assert "2 notebooks are complete" in capsys.readouterr().out


@pytest.fixture
def tiny_profile(scratch_profile, tmp_path):
    tiny.write_diffusion(tmp_path / "sd")
    text = scratch_profile.read_text()
    model = f'[model]\nsources = ["{(tmp_path / "sd").as_posix()}"]\nimage_hw = [64, 64]\n'
    scratch_profile.write_text(text + model)
    return scratch_profile


def test_evaluate_prints_the_table_and_its_record_and_finds_it_again(tiny_profile, tmp_path, capsys):
    root = layouts.write_pf_willow(tmp_path / "willow", {"car(G)": ["a", "b"], "duck(S)": ["a", "b"]})
    command = ["evaluate", "--profile", str(tiny_profile), "--dataset", "pf_willow", "--data-root", str(root)]
    command += ["--max-pairs", "3", "--ensemble", "1", "--device", "cpu", "--batch-size", "2"]
    assert cli.main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith("pf_willow-test-sd-text (profile scratch): 3 pairs, 30 keypoints\n")
    assert "Profile `scratch`; PCK per image" in first and "PCK@0.10" in first
    lines = [line.split() for line in first.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["all"]] == ["3"]
    (record,) = (tmp_path / "results" / "runs").glob("*/run.json")
    assert f"record: {record}" in first and "peak" in first
    assert cli.main(command) == 0
    again = capsys.readouterr().out
    assert again == first + "found finished; nothing was computed again\n"


def test_pairs_without_targets_are_matched_but_not_scored(tiny_profile, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        layouts.write_picture(tmp_path / name)
    pairs = [{"src": "a.png", "trg": "b.png", "src_points": [[5, 5], [20, 9]]}]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    command = ["evaluate", "--profile", str(tiny_profile), "--dataset", "own", "--ensemble", "1"]
    assert cli.main([*command, "--data-root", str(tmp_path / "pairs.json"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "1 pair, 2 keypoints" in out and "nothing to score" in out and "PCK" not in out


def helps(parser, name=""):
    """Every command's help text, by its words."""
    yield name, parser.format_help()
    for action in parser._actions:
        for word, child in (action.choices or {}).items() if hasattr(action.choices, "items") else ():
            yield from helps(child, f"{name} {word}".strip())


def test_the_examples_in_the_help_are_understood():
    texts = dict(helps(cli._parser()))
    assert all("examples:" in texts[name] for name in ("", "reproduce", "doctor", "evaluate", "match"))
    # Two spaces part an example from what it is for.
    lines = [re.split(r"\s{2,}", line.strip())[0] for text in texts.values() for line in text.splitlines()]
    found = [line for line in lines if line.startswith("sd4match ")]
    assert len(found) > 12
    for line in found:
        cli._parser().parse_args(shlex.split(line)[1:])
