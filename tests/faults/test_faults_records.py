"""Run states and records that are damaged, hostile, or somebody else's; and two writers of one run."""

import dataclasses
import json
import os
import subprocess
import sys
import textwrap

import pytest
from refusal import refused

from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.report.summary import summarise_training
from sd4match_lib.reproduce.notebook import Notebook
from sd4match_lib.reproduce.reproduce import _runs_of
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import find_runs, is_whole, open_run
from sd4match_lib.utils.files import write_json
from sd4match_lib.utils.locks import WorkLock

GOOD = {
    "run_id": "x-1",
    "name": "x",
    "kind": "evaluate",
    "profile": "mini",
    "config": {},
    "inputs": {},
    "seed": 0,
    "status": "complete",
    "started": "2026",
    "wall_s": 1.5,
    "outputs": {"rows.csv": "ab"},
    "metrics": {},
}

FIELDS = [
    *(("run_id", value) for value in (None, 3, [])),
    *(("status", value) for value in (None, "finished", 1, ["complete"])),
    *(("config", value) for value in (None, [], "x", 3)),
    *(("inputs", value) for value in (None, [], "x")),
    *(
        ("outputs", value)
        for value in (None, [], "rows.csv", {"rows.csv": 3}, {"rows.csv": None}, {"": "ab"})
    ),
    *(
        ("outputs", {name: "ab"})
        for name in ("../../secret", "/etc/passwd", "a/../../b", "x" * 300, "..", "a\\..\\b")
    ),
    *(("metrics", value) for value in (None, [], 3)),
    *(("seed", value) for value in (None, "0", 1.5, True)),
    *(("wall_s", value) for value in (None, "1", float("inf"), float("nan"), 1e308, True)),
    *(("commit", value) for value in (None, [], "abc")),
    *(("device", value) for value in (None, 3)),
    *(("outputs", {name: "ab"}) for name in (".", "./..", "C:\\x")),
    *(("peak_memory_mb", value) for value in (None, [1], {"host": "much"})),
    *(("started", value) for value in (None, 2026, ["2026"])),
    *(("versions", value) for value in (None, {"torch": 2}, "2")),
    *(("error", value) for value in (3, [], {})),
    ("surprise", 1),
]

FILES = {
    "empty": b"",
    "cut off": b'{"run_id": "x',
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "a NUL in a name": json.dumps(GOOD | {"outputs": {"nul\0": "ab"}}).encode(),
    "binary": bytes(range(200)),
    "nested deep": b"[" * 100_000,
    "digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "conflict marks": b"<<<<<<< ours\n{}",
}


def request(folder):
    return open_run(folder, "x", "evaluate", {}, {}, profile="mini")


def write_record(folder, content):
    path = request(folder).folder / "run.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda value: repr(value)[:30])
def test_a_field_that_means_nothing_is_named(tmp_path, field, value):
    path = write_record(tmp_path, GOOD | {field: value})
    refused(lambda: request(tmp_path), "run.json is not a run record", "delete it")
    refused(lambda: is_whole(path.parent), "run.json")
    refused(lambda: find_runs(tmp_path), "run.json")


@pytest.mark.parametrize("field", ["run_id", "name", "kind", "profile", "config", "inputs", "seed"])
def test_a_missing_field_is_named(tmp_path, field):
    content = dict(GOOD)
    del content[field]
    write_record(tmp_path, content)
    refused(lambda: request(tmp_path), "run.json", field)


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_record_that_is_none_is_named(tmp_path, content):
    write_record(tmp_path, content)
    refused(lambda: request(tmp_path), "run.json")


@pytest.mark.parametrize("name", ["steps", "best_step", "validation PCK@0.10"])
@pytest.mark.parametrize("value", ["gone", None, "12", [1], True, float("nan"), float("inf")])
def test_a_number_that_a_finished_runs_record_lacks_is_named(tmp_path, name, value):
    metrics = {"steps": 2, "best_step": 1, "validation PCK@0.10": 0.5, name: value}
    if value == "gone":
        del metrics[name]
    record = RunRecord.read(write_record(tmp_path, GOOD | {"metrics": metrics, "commit": {"id": 3}}))
    refused(lambda: summarise_training(record, tmp_path, reused=True), f"metrics.{name}", "delete the run")


RUNS = ["x", [3], [""], ["../x"], ["/etc"], ["."], [["x"]], None, ["x" * 300], ["a\0"], {"x": 1}]


@pytest.mark.parametrize("runs", RUNS, ids=lambda value: repr(value)[:20])
def test_the_runs_that_a_notebooks_record_names_lie_among_the_results(tmp_path, runs):
    record = RunRecord("00_a", "00_a", "notebook", "mini", {"runs": runs}, {}, 0)
    profile = dataclasses.replace(load_profile("mini"), results_dir=str(tmp_path))
    refused(lambda: _runs_of(Notebook(tmp_path / "00_a.ipynb", profile, {}, {}), record), "runs")


def test_a_record_reads_back_as_it_was_written(tmp_path):
    path = write_record(tmp_path, GOOD)
    record = RunRecord.read(path)
    record.write(path)
    assert RunRecord.read(path) == record


def test_a_folder_in_the_place_of_a_record_is_named(tmp_path):
    (request(tmp_path).folder / "run.json").mkdir(parents=True)
    refused(lambda: request(tmp_path).__enter__(), "run.json")


@pytest.mark.parametrize("place", [".", "runs"])
def test_a_file_in_the_place_of_the_results_is_named(tmp_path, place):
    (tmp_path / "results").mkdir()
    where = tmp_path / "results" / place if place != "." else tmp_path / "results"
    where.rmdir() if place == "." else None
    where.write_text("")
    refused(lambda: request(tmp_path / "results").__enter__(), "results")


def test_the_second_writer_waits_and_finds_the_run_complete(tmp_path, caplog):
    """Of two processes with one request one computes it, and the other one is told who does."""
    script = textwrap.dedent(f"""
        import sys, time
        from sd4match_lib.runs.store import open_run
        run = open_run({str(tmp_path)!r}, "x", "evaluate", {{}}, {{}}, profile="mini")
        with run:
            if not run.complete:
                print("computing", flush=True)
                sys.stdin.readline()
                run.output("rows.csv").write_text("rows")
        print("complete" if run.complete else "not complete", flush=True)
    """)
    first = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True)
    assert first.stdout.readline() == "computing\n"
    run = request(tmp_path)
    assert not run.complete
    lock = WorkLock(tmp_path, run.folder.name)
    assert f"process {first.pid} on" in lock._owner(), "who works on it is known"
    first.stdin.write("\n")
    first.stdin.flush()
    with run:
        assert run.complete, "the second writer finds what the first one completed"
    assert first.wait() == 0 and first.stdout.read() == "complete\n"
    assert run.record.status == "complete" and (run.folder / "rows.csv").read_text() == "rows"


def test_a_dead_holders_lock_is_free(tmp_path):
    script = (
        "import os; from pathlib import Path; from sd4match_lib.utils.locks import WorkLock\n"
        f"WorkLock(Path({str(tmp_path)!r}), 'x').__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with WorkLock(tmp_path, "x") as lock:
        assert f"process {os.getpid()} on" in lock._owner()


def test_what_a_run_went_on_from_is_deleted_only_once_the_record_says_complete(tmp_path):
    run, seen = request(tmp_path), []
    with run:
        run.output("rows.csv").write_text("rows")
        run.when_complete(lambda: seen.append(RunRecord.read(run.folder / "run.json").status))
        assert not seen
    assert seen == ["complete"]
    with pytest.raises(UserError), request(tmp_path / "other") as failing:
        failing.when_complete(lambda: seen.append("too early"))
        raise UserError("no")
    assert seen == ["complete"]


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are told apart by root alone")
def test_leftovers_of_dead_writers_are_swept_and_those_of_living_ones_stay(tmp_path):
    script = (
        "import os, sys; from sd4match_lib.utils import files\n"
        "os.replace = lambda *_: os._exit(9)\n"
        f"files.atomic_write_text({str(tmp_path / 'a.txt')!r}, 'half')"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    (leftover,) = tmp_path.iterdir()
    living = leftover.with_name(leftover.name.replace(leftover.name.split("-")[2], str(os.getppid()), 1))
    living.write_text("somebody writes this")
    write_json(tmp_path / "b.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, "b.json"])
