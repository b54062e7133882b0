"""Commands as processes of their own that are stopped or killed: what they started ends with them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from small_runs import in_folder
from tiny_notebooks import WORK, write_notebook

PATIENCE_S = 600
"""For what takes seconds on a quiet machine."""
GONE_WITHIN_S = 30
"""A few seconds on a quiet machine."""

pytestmark = pytest.mark.slow


def await_until(what, seconds, why):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


def lives(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def command(request):
    """Start commands; those that a failed test leaves behind are killed."""

    def begin(*arguments, cwd):
        process = start(*arguments, cwd=cwd)
        request.addfinalizer(process.kill)
        return process

    return begin


def start(*arguments, cwd):
    # Relative paths, which the tests' own environment may hold, mean another folder there.
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    return subprocess.Popen(
        [sys.executable, "-m", "sd4match_lib", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(process, number):
    """Send a signal, and return the exit code and the lines that are the command's own."""
    if number == signal.SIGINT:  # a terminal sends it to all that the command has started
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    # A worker that is starting when the command is killed has nobody to say it for it.
    assert number == signal.SIGKILL or "Traceback" not in err, err
    return process.returncode, [line for line in err.splitlines() if line.startswith("sd4match: ")]


STOPS = {
    signal.SIGINT: (130, ["sd4match: interrupted; the same command goes on from what is complete."]),
    signal.SIGTERM: (143, ["sd4match: stopped; the same command goes on from what is complete."]),
    signal.SIGKILL: (-signal.SIGKILL, []),
}


@pytest.fixture
def project(small_profile, tmp_path):
    """A project with two notebooks; a cell of the first goes on for as long as the file `wait` is there."""
    in_folder(small_profile, tmp_path)
    shutil.rmtree(tmp_path / "notebooks")
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "sd4match_lib").mkdir()
    wait = (
        "\nimport os, time\nfrom pathlib import Path\nprint('x' * 400_000)\n"
        "_ = Path('kernel').write_text(str(os.getpid()))\nwhile Path('wait').exists():\n    time.sleep(0.1)"
    )
    write_notebook(tmp_path / "notebooks" / "00_a.ipynb", work=WORK + wait)
    write_notebook(tmp_path / "notebooks" / "01_b.ipynb")
    return tmp_path


def test_the_kernels_of_a_stopped_reproduce_end_with_it_and_the_next_run_completes(
    project, command, monkeypatch
):
    kernel, scratch = project / "kernel", project / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    (project / "wait").touch()
    for number, expected in STOPS.items():
        kernel.unlink(missing_ok=True)
        process = command("reproduce", "--profile", "small.toml", cwd=project)
        await_until(lambda: kernel.exists() and kernel.read_text(), PATIENCE_S, "no kernel has begun")
        # The next notebook's kernel has been started ahead.
        found = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert int(kernel.read_text()) in found and len(found) >= 2
        assert end(process, number) == expected
        await_until(lambda found=found: not any(map(lives, found)), GONE_WITHIN_S, f"after {number!r}")
        left = list(scratch.glob(".sd4match-*"))
        assert bool(left) == (number == signal.SIGKILL), "a killed one cannot clean up"
    (project / "wait").unlink()
    process = command("reproduce", "--profile", "small.toml", cwd=project)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert out.startswith("2 notebooks are complete")
    assert not list(scratch.glob(".sd4match-*")), "the next one cleans up for it"
    folder = project / "results" / "notebooks"
    assert sorted(path.name for path in folder.iterdir()) == [
        "00_a.ipynb",
        "00_a.json",
        "01_b.ipynb",
        "01_b.json",
    ]
    executed = json.loads((folder / "00_a.ipynb").read_text())
    shown = ["".join(o["text"]) for c in executed["cells"] for o in c.get("outputs", ()) if "text" in o]
    assert shown == ["x" * 400_000 + "\n"], "a line of 400 kB is kept, and does not hold the runner up"


@pytest.mark.parametrize("number", STOPS)
def test_the_workers_of_a_stopped_render_end_with_it(number, tmp_path, command):
    process = command("miniature", "render", "--out", "minipair", cwd=tmp_path)
    parent = psutil.Process(process.pid)

    def workers():
        return [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]

    await_until(workers, PATIENCE_S, "no worker has begun")
    found = workers()
    assert end(process, number) == STOPS[number]
    await_until(
        lambda: not any(lives(worker.pid) for worker in found), GONE_WITHIN_S, f"workers outlive {number!r}"
    )
    assert not (tmp_path / "minipair" / "manifest.json").exists(), "half a data set does not look whole"


UNGUARDED = """
from pathlib import Path
from sd4match_lib.miniature.dataset.write import Sizes, ensure_minipair
from sd4match_lib.miniature.dataset.write_spair import Amount

few = (Amount(2, 1), Amount(0, 0), Amount(0, 0))
ensure_minipair(Path("minipair"), Sizes(("bottle",), few, (1, 0, 0), ("winebottle(wC)",), 2))
print("rendered")
"""


def test_a_script_without_a_main_guard_can_make_data(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (0, "rendered\n"), done.stderr
    assert (tmp_path / "minipair" / "manifest.json").is_file()
