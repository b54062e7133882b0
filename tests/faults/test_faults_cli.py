"""Commands with values that mean nothing: exit code 2 and one line, before anything is rendered or loaded."""

import os
import signal
import subprocess
import sys

import layouts
import pytest

from sd4match_lib.cli import main as cli
from sd4match_lib.cli.guard import guarded

EVALUATE = ["evaluate", "--dataset", "spair", "--data-root", "gone"]
TRAIN = ["train", "--prompt", "single", "--data-root", "gone"]
MATCH = ["match", "a.png", "b.png"]
POINT = [*MATCH, "--points", "5,6"]
SCORE = ["score", "p.csv", "--dataset", "spair", "--data-root", "gone"]
PRETRAIN = ["miniature", "pretrain", "vae"]

COMMANDS = [
    ["evalute"],
    ["matc"],
    ["reproduse"],
    ["reproduce", "--what"],
    ["--profil", "mini"],
    ["evaluate", "--dataset"],
    ["evaluate"],
    [*EVALUATE, "--timestep", "-1"],
    [*EVALUATE, "--timestep", "x"],
    [*EVALUATE, "--timestep", "1000"],
    [*EVALUATE, "--timestep", "9" * 5000],
    [*EVALUATE, "--ensemble", "0"],
    [*EVALUATE, "--ensemble", "1000000"],
    [*EVALUATE, "--max-pairs", "0"],
    [*EVALUATE, "--max-pairs", "1e3"],
    [*EVALUATE, "--batch-size", "-1"],
    [*EVALUATE, "--batch-size", "nan"],
    [*EVALUATE, "--split", "../x"],
    [*EVALUATE, "--matcher", "best"],
    [*EVALUATE, "--alpha", "inf"],
    [*EVALUATE, "--alpha", "nan"],
    [*EVALUATE, "--alpha", "0"],
    [*EVALUATE, "--alpha", "2"],
    [*EVALUATE, "--alpha"],
    [*EVALUATE, "--alpha", "x"],
    [*EVALUATE, "--by", "colour"],
    [*EVALUATE, "--average", "mean"],
    [*EVALUATE, "--frame", "cm"],
    [*EVALUATE, "--prompt", "poem"],
    [*EVALUATE, "--prompt", "gone.safetensors"],
    [*EVALUATE, "--device", "mps"],
    [*EVALUATE, "--device", "xpu"],
    [*EVALUATE, "--device", "meta"],
    [*EVALUATE, "--device", "cuda:99"],
    [*EVALUATE, "--device", "cuda:x"],
    [*EVALUATE, "--device", ""],
    [*EVALUATE, "--profile", "gone.toml"],
    [*EVALUATE, "--profile", "~nobody/x.toml"],
    [*EVALUATE, "--profile", "x" * 300],
    ["evaluate", "--dataset", "../spair"],
    ["evaluate", "--dataset", "spair", "--data-root", "x" * 300],
    ["evaluate", "--dataset", "own", "--data-root", "gone.csv"],
    [*EVALUATE, "--data-root", "~nobody/data"],
    [*EVALUATE, "--data-root", "\udcff"],
    [*TRAIN, "--steps", "0"],
    [*TRAIN, "--steps", "-5"],
    [*TRAIN, "--steps", "1.5"],
    [*TRAIN, "--steps", "1" * 30],
    [*TRAIN, "--seed", "-1"],
    [*TRAIN, "--seed", str(2**70)],
    [*TRAIN, "--set", "length"],
    [*TRAIN, "--device", "meta"],
    ["train", "--prompt", "double"],
    ["train"],
    ["convert", "gone.pt", "x.safetensors"],
    ["convert", "a.png", "a.png"],
    ["convert", "a.png", "folder"],
    ["convert", "a.png", "x.safetensors"],
    ["convert", "a.png", "x.safetensors", "--length", "0"],
    [*MATCH, "--points", "5"],
    [*MATCH, "--points", "inf,1"],
    [*MATCH, "--points-file", "a.png"],
    [*MATCH, "--points-file", "folder"],
    [*POINT, "--points-file", "p.csv"],
    ["match", "folder", "b.png", "--points", "5,6"],
    ["match", "a.png", "folder", "--points", "5,6"],
    ["match", "a.png", "pipe", "--points", "5,6"],
    ["match", "a.png", "text.png", "--points", "5,6"],
    [*POINT, "--picture", "a.png"],
    [*POINT, "--picture", "b.png"],
    [*POINT, "--picture", "link.png"],
    [*POINT, "--picture", "m.eps"],
    [*POINT, "--picture", "m.pdf"],
    [*POINT, "--picture", "m"],
    [*POINT, "--picture", "folder"],
    [*POINT, "--json", "folder"],
    [*POINT, "--json", "a.png"],
    [*POINT, "--json", "a.png/x.json"],
    ["match", "a.png", "b.png", "--points-file", "p.json", "--json", "p.json"],
    [*POINT, "--json", "base.toml", "--profile", "base.toml"],
    [*POINT, "--picture", "m.png", "--json", "m.png"],
    [*POINT, "--prompt", "prompt.safetensors", "--json", "prompt.safetensors"],
    [*POINT, "--window", "0"],
    [*POINT, "--window", "1000001"],
    [*POINT, "--dino", "nan"],
    [*POINT, "--dino", "2"],
    [*POINT, "--denser", "0"],
    [*POINT, "--denser", "1000"],
    [*POINT, "--timestep", "-3"],
    [*POINT, "--matcher", "x"],
    [*POINT, "--profile", "pipe"],
    [*SCORE],
    ["score", "folder", *SCORE[2:]],
    ["score", "pipe", *SCORE[2:]],
    [*SCORE, "--coordinates", "0x0"],
    [*SCORE, "--coordinates", "9" * 50 + "x1"],
    [*SCORE, "--supervision", "X"],
    [*SCORE, "--alpha", "-1"],
    [*SCORE, "--by", "![x](y)"],
    [*SCORE, "--max-pairs", "x"],
    [*PRETRAIN, "--steps", "-1"],
    [*PRETRAIN, "--steps", "0"],
    [*PRETRAIN, "--minutes", "nan"],
    [*PRETRAIN, "--minutes", "inf"],
    [*PRETRAIN, "--minutes", "-1"],
    ["miniature", "pretrain", "cat"],
    ["miniature", "render", "--seed", "-1"],
    ["miniature", "check", "--steps", "0"],
    ["miniature"],
    ["doctor", "--profile", "gone"],
    ["reproduce", "--profile", ""],
    ["reproduce", "--only"],
    ["reproduce", "--only", "99"],
    ["reproduce", "--only", "\x1b"],
    [*EVALUATE, "--layer", "x" * 5000],
    [*EVALUATE, "--results", "p.json"],
    [*EVALUATE, "--results", "/dev/null/x"],
    [*MATCH, "--points", "1e39,5"],
    [*MATCH, "--points", "5000,6"],
    [*POINT, "--prompt", "folder"],
    [*POINT, "--prompt", "mini/../../x"],
    [*POINT, "--prompt", "two\nlines"],
    [*POINT, "--category", "\x1b[31m"],
    [*POINT, "--category", "x" * 100_000],
    [*POINT, "--json", "pipe/x"],
    ["match", "a.png", "loop.png", "--points", "5,6"],
    ["leaderboard", "--dataset", "gone"],
    ["rerun", "a.png", "b.png"],
    ["rerun", "folder", "gone"],
    ["notebooks", "p.json"],
    ["notebooks", "/dev/null/x"],
    ["notebooks", "x" * 300],
    ["score", "loop.png", *SCORE[2:]],
    ["score", "gone.csv", "--dataset", "spair"],
    ["evaluate", "--dataset", "spair", "--device", "meta"],
    ["train", "--prompt", "single", "--device", "cuda:99"],
    ["score", "p.json", "p.json", *SCORE[2:]],
    [*SCORE, "--method", "a", "b"],
    [*TRAIN, "--set", "=5"],
    [*TRAIN, "--set", "length=" + "(" * 5000],
    [*TRAIN, "--set", "length=" + "9" * 5000],
    ["convert", "loop.png", "x.safetensors"],
    ["convert", "pipe", "x.safetensors"],
    [*PRETRAIN, "--steps", "1", "--out", "p.json"],
    ["miniature", "render", "--out", "p.json"],
    ["miniature", "render", "--out", "/dev/null"],
    ["miniature", "render", "--seed", "9" * 11],
]


MISTAKES = [
    *((command, "") for command in COMMANDS),
    ([*MATCH], "give the points either as --points"),
    ([*MATCH, "--points", "1"], "--points: "),
    ([*MATCH, "--points", "x,y"], "--points: this is not a list of numbers"),
    ([*MATCH, "--points", ""], "--points: there is no point"),
    ([*MATCH, "--points", "70,10"], "a.png: the point (70, 10) lies outside its picture of 60 x 40"),
    (["match", "a.png", "gone.png", "--points", "5,6"], "gone.png: there is no such picture"),
    (["match", "gone.png", "b.png", "--points", "5,6"], "gone.png: there is no such picture"),
    ([*MATCH, "--points-file", "gone.csv"], "gone.csv"),
    ([*POINT, "--picture", "m.xyz"], "m.xyz: a picture cannot be written"),
    ([*POINT, "--window", "4"], "window is 4"),
    ([*POINT, "--prompt", "gone.safetensors"], "gone.safetensors"),
    ([*POINT, "--timestep", "1000"], "timestep is 1000"),
    (["match", "a.png", "", "--points", "5,6"], "TARGET: '' names no file or folder"),
    (["match", "", "b.png", "--points", "5,6"], "SOURCE: '' names no file or folder"),
    ([*POINT, "--json", " "], "--json: ' ' names no file or folder"),
    (["miniature", "render", "--out", ""], "--out: '' names no file or folder"),
    (["evaluate", "--dataset", "spair", "--data-root", ""], "--data-root: '' names no file or folder"),
    # On the profile's own data, which would be rendered now.
    (["evaluate", "--dataset", "spair", "--split", "all"], "there is no split 'all'"),
    (["evaluate", "--dataset", "spair", "--prompt", "poem"], "there is no prompt 'poem'"),
    (["evaluate", "--dataset", "spair", "--layer", "up_blocks.9"], "layer: there is no layer 'up_blocks.9'"),
    (["evaluate", "--dataset", "spair", "--timestep", "1000"], "timestep is 1000"),
    (["evaluate", "--dataset", "spair", "--max-pairs", "0"], "max_pairs is 0"),
    (["evaluate", "--dataset", "spair", "--batch-size", "0"], "batch_size is 0"),
    (["train", "--prompt", "cpm", "--set", "length"], "--set 'length' lacks a '='"),
    (["train", "--prompt", "class", "--set", "length=no"], "length of a class prompt is 'no'"),
    (["train", "--prompt", "cpm", "--set", "modulation=x"], "modulation is 'x'"),
    (["score", "p.json", "--dataset", "spair", "--split", "all"], "there is no split 'all'"),
    (["score", "p.json", "--dataset", "spair", "--method", "a/b"], "the method's name is 'a/b'"),
    (["score", "p.json", "--dataset", "spair", "--method", "a", "b"], "need as many different names"),
    (["score", "p.json", "--dataset", "spair", "--template"], "p.json is there already"),
    (["score", "p.csv", "q.csv", "--dataset", "spair", "--template"], "--template writes one file, not 2"),
    (["leaderboard", "--dataset", "spair", "--split", "all"], "there is no split 'all'"),
    (["miniature", "check", "--weights", "folder"], "the stable diffusion model was not found"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        layouts.write_picture(tmp_path / name)
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "p.json").write_text("[[5, 6]]")
    (tmp_path / "base.toml").write_text('extends = "mini"\n')
    (tmp_path / "prompt.safetensors").write_text("")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    yield tmp_path
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before, "nothing that was there is changed, and nothing is left behind"


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[" ".join(line)[:60] for line, _ in MISTAKES])
def test_a_command_that_cannot_be_met_is_one_line(command, words, capsys, monkeypatch):
    monkeypatch.setattr(
        "sd4match_lib.reproduce.prepare.prepare_data", lambda *_: pytest.fail("data was rendered")
    )
    monkeypatch.setattr("sd4match_lib.features.loaded.LoadedModels", None, raising=False)
    try:
        code = cli.main(command)
        usage = ""
    except SystemExit as error:
        code, usage = error.code, "usage: sd4match"
    err = capsys.readouterr().err
    assert usage in err
    said = [line for line in err.splitlines() if line.startswith("sd4match")]
    assert code == 2 and len(said) == 1 and words in said[0], err
    assert "Traceback" not in err and "unexpected" not in err
    assert said[0].isprintable() and len(said[0]) < 4200


@pytest.mark.parametrize("size", ["many", "0", "-1", "2.5", "9" * 30, "\u0663"])
def test_a_number_of_processes_that_is_none_is_one_line(size, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", size)
    assert cli.main(EVALUATE) == 2
    assert "WORLD_SIZE" in capsys.readouterr().err


def test_a_rank_beyond_the_number_of_processes_is_not_waited_for(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    assert cli.main(EVALUATE) == 2
    assert "RANK is '2', not one of 0 to 1" in capsys.readouterr().err


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit):
        cli.main(["evalute"])
    assert "did you mean 'evaluate'?" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no device is full")
@pytest.mark.parametrize("command", ["", "--help", "--version", "miniature render --help"])
def test_words_that_no_room_is_left_for_are_said_in_one_line(command):
    script = f"import sys; from sd4match_lib.cli.main import main; sys.exit(main({command.split()}))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=-1, text=True)
    assert done.returncode == 2 and done.stderr.startswith("sd4match: the disk is full")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device", "results/x"), 2, "the disk is full: results/x"),
        (PermissionError(13, "Permission denied", "results/x"), 2, "results/x is not ours to use"),
        (NotADirectoryError(20, "Not a directory", "results/x"), 2, "results/x cannot be used"),
        (MemoryError("3 GB"), 2, "there is not enough memory (3 GB)"),
        (KeyError("config"), 70, "unexpected KeyError: 'config'; the full traceback is in "),
        (RuntimeError("two\nlines"), 70, "unexpected RuntimeError: two lines; the full traceback is in "),
    ],
)
def test_whatever_ends_a_command_is_one_line(error, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "folder"))

    def command():
        raise error

    assert guarded(command) == code
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    kept = list((tmp_path / "folder").iterdir())
    assert len(kept) == (code == 70) and all("Traceback" in path.read_text() for path in kept)


def test_sigterm_ends_a_command_as_ctrl_c_does():
    script = (
        "import sys, time\nfrom sd4match_lib.cli.guard import guarded\n"
        "def work():\n    try:\n        print('works', flush=True)\n        time.sleep(60)\n"
        "    finally:\n        print('cleaned up', flush=True)\nsys.exit(guarded(work))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "works\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and out == "cleaned up\n"
    assert err == "sd4match: stopped; the same command goes on from what is complete.\n"


STREAMS = """
import os, sys
from sd4match_lib.cli.guard import open_streams

open_streams()
with open("kept.txt", "w") as kept:
    print("out \u043a", flush=True)
    sys.stderr.write("err")
    os.write(1, b"printed by a library")
    kept.write("kept" + sys.stdin.read())
"""


@pytest.mark.parametrize(
    ("closed", "shown"),
    [("", True), ("<&-", True), ("2>&-", True), (">&-", False), ("<&- >&- 2>&-", False)],
)
def test_a_closed_stream_and_an_encoding_that_lacks_letters_lose_nothing(folder, closed, shown):
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", STREAMS]
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "kept.txt").read_text() == "kept", "no file gets a stream's number"
    assert done.stdout == (b"out \\u043a\nprinted by a library" if shown else b"")
    (folder / "kept.txt").unlink()
