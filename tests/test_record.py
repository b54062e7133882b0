import json
import os
import signal
import subprocess
import sys

import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.runs import machine
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import find_runs, finish_notebook, notebook_record_path, open_run
from sd4match_lib.utils.fingerprint import content_hash, plain, tree_hash


def request(folder, **changes):
    arguments = {
        "results_dir": folder,
        "name": "table1",
        "kind": "evaluate",
        "config": {"prompt": "text", "hw": (128, 128)},
        "inputs": {"unet": "ab" * 32},
        "profile": "mini",
    }
    return open_run(**{**arguments, **changes})


def finish(run, text="rows"):
    with run:
        run.output("rows.csv").write_text(text)
        run.metrics["pck"] = 0.5
    return run


def test_the_same_request_finds_the_finished_run(tmp_path):
    first = request(tmp_path)
    assert not first.complete
    finish(first)
    again = request(tmp_path)
    assert again.complete and again.run_id == first.run_id
    assert again.metrics == {"pck": 0.5}
    assert again.folder == tmp_path / "runs" / first.run_id


@pytest.mark.parametrize(
    "change",
    [{"config": {"prompt": "empty"}}, {"inputs": {"unet": "cd"}}, {"kind": "train"}, {"seed": 1}],
)
def test_another_request_is_another_run(tmp_path, change):
    finish(request(tmp_path))
    assert not request(tmp_path, **change).complete


def test_where_it_runs_does_not_make_another_run(tmp_path, monkeypatch):
    finish(request(tmp_path))
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "99"})
    monkeypatch.setattr(machine, "git_commit", lambda: {"id": "f00", "dirty": True})
    assert request(tmp_path, device="cuda").complete


def test_the_record_says_how_its_numbers_came_to_be(tmp_path):
    run = finish(request(tmp_path, seed=3))
    record = json.loads((run.folder / "run.json").read_text())
    assert (record["status"], record["profile"], record["seed"]) == ("complete", "mini", 3)
    assert record["config"] == {"prompt": "text", "hw": [128, 128]}
    assert record["inputs"] == {"unet": "ab" * 32}
    assert set(record["versions"]) >= {"python", "torch", "diffusers", "transformers", "numpy", "sd4match"}
    assert record["device"].startswith("cpu (")
    assert record["peak_memory_mb"]["host"] > 1
    assert record["wall_s"] >= 0 and record["started"].endswith("Z")
    assert len(record["outputs"]["rows.csv"]) == 64


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("other")])
def test_a_run_whose_files_changed_is_not_complete(tmp_path, damage):
    run = finish(request(tmp_path))
    damage(run.folder / "rows.csv")
    assert not request(tmp_path).complete


def test_an_error_is_recorded_and_passes_on(tmp_path):
    run = request(tmp_path)
    with pytest.raises(RuntimeError, match="no memory"), run:
        run.output("rows.csv").write_text("half")
        raise RuntimeError("no memory")
    again = request(tmp_path)
    assert again.record.status == "failed" and again.record.error == "RuntimeError: no memory"
    assert not again.complete
    assert (again.folder / "rows.csv").read_text() == "half", "a resumed run goes on from what is there"
    finish(again)
    assert request(tmp_path).complete and request(tmp_path).record.error is None


def test_an_output_that_was_never_written_fails_the_run(tmp_path):
    run = request(tmp_path)
    with pytest.raises(UserError, match=r"did not write rows\.csv"), run:
        run.output("rows.csv")
    assert request(tmp_path).record.status == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_stays_running_and_is_not_complete(tmp_path):
    script = f"""
import os, signal
from sd4match_lib.runs.store import open_run
run = open_run({str(tmp_path)!r}, "k", "evaluate", {{}}, {{}}, profile="mini")
with run:
    run.output("rows.csv").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -signal.SIGKILL
    run = open_run(tmp_path, "k", "evaluate", {}, {}, profile="mini")
    assert run.record.status == "running" and not run.complete


def test_fresh_computes_again_once_and_takes_up_nothing_half_done(tmp_path, monkeypatch):
    run = finish(request(tmp_path))
    (run.folder / "shard-0.part").write_text("old")
    monkeypatch.setenv("SD4MATCH_FRESH_SINCE", "9999")
    stale = request(tmp_path)
    assert not stale.complete and not (run.folder / "shard-0.part").exists()
    monkeypatch.setenv("SD4MATCH_FRESH_SINCE", "2000")
    finish(stale)
    assert request(tmp_path).complete


def test_runs_are_found_by_kind_and_only_when_complete(tmp_path):
    done = finish(request(tmp_path))
    finish(request(tmp_path, kind="train"))
    with pytest.raises(RuntimeError), request(tmp_path, seed=9):
        raise RuntimeError
    assert [record.run_id for _, record in find_runs(tmp_path, kind="evaluate")] == [done.run_id]
    assert len(find_runs(tmp_path)) == 2
    (done.folder / "rows.csv").unlink()  # as in a repository that keeps records only
    assert find_runs(tmp_path, kind="evaluate") == [] and len(find_runs(tmp_path)) == 1


def test_records_hold_plain_data_only(tmp_path):
    import numpy as np

    assert plain({"a": (1, np.float32(0.5)), 2: tmp_path}) == {"a": [1, 0.5], "2": tmp_path.as_posix()}
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    with pytest.raises(TypeError, match="cannot hold a set"):
        plain({"a": {1}})


def test_a_trees_hash_follows_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_text("1")
    hashes = {tree_hash(tmp_path), tree_hash(tmp_path / "none")}
    (tmp_path / "a" / "x.py").write_text("2")
    hashes.add(tree_hash(tmp_path))
    (tmp_path / "a" / "x.py").rename(tmp_path / "a" / "y.py")
    hashes.add(tree_hash(tmp_path))
    assert len(hashes) == 4
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "y.pyc").write_text("")
    assert tree_hash(tmp_path) in hashes


def test_a_notebook_declares_itself_complete(scratch_profile):
    profile = load_profile(scratch_profile)
    table = profile.results_path / "tables" / "table1.csv"
    table.parent.mkdir(parents=True)
    table.write_text("a")
    finish_notebook("01_x", profile, [table, "tables/table1.csv"], metrics={"pck": 0.25})
    record = RunRecord.read(notebook_record_path(profile.results_path, "01_x"))
    assert (record.status, record.kind, record.profile) == ("complete", "notebook", "scratch")
    assert list(record.outputs) == ["tables/table1.csv"] and record.metrics == {"pck": 0.25}
    assert record.missing_outputs(profile.results_path) == []


def test_a_notebooks_outputs_must_exist_among_the_results(scratch_profile, tmp_path):
    profile = load_profile(scratch_profile)
    with pytest.raises(UserError, match=r"01_x declares the output .*gone\.csv, which does not exist"):
        finish_notebook("01_x", profile, ["gone.csv"])
    (tmp_path / "outside.csv").write_text("")
    with pytest.raises(UserError, match="is not below"):
        finish_notebook("01_x", profile, [tmp_path / "outside.csv"])
    assert not notebook_record_path(profile.results_path, "01_x").exists()


def test_the_commit_is_this_packages_own(tmp_path, monkeypatch):
    found = machine.git_commit()
    assert found == {} or (len(found["id"]) == 40 and isinstance(found["dirty"], bool))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(machine, "package_path", lambda _: tmp_path / "site-packages" / "sd4match_lib")
    os.makedirs(tmp_path / "site-packages")
    assert machine.git_commit() == {}
