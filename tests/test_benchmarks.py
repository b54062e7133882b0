"""What `make bench` times runs, on tiny models, and says what it measured."""

import argparse
import json

import numpy as np
import pytest
import tiny
import torch

from benchmarks import bench, cases, history
from sd4match_lib.config.profile import load_profile
from sd4match_lib.features.loaded import forget_models
from sd4match_lib.reproduce.prepare import prepare_data


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    prepare_data(load_profile("mini"))
    return load_profile(tiny.write_profile(tmp_path_factory.mktemp("bench")))


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.CASES)
def test_a_case_is_measured(profile, name, monkeypatch):
    monkeypatch.setattr(cases, "PAIRS", 3)
    monkeypatch.setattr(cases, "MATCHED", 10)
    monkeypatch.setattr(bench, "SHORTEST_S", 0.0)
    found = bench.measure(name, profile, argparse.Namespace(device="cpu", batch=2, fast=False))
    assert found["seconds"] > 0 and found["repetitions"] == bench.FEWEST and found["peak_mb"] > 0
    assert (found["counted_tflop"] > 0) == (found["tflops"] > 0)
    # What is counted does not hang on the clock: twice the pictures are twice the operations.
    if name == "features, text":
        more = bench.measure(name, profile, argparse.Namespace(device="cpu", batch=4, fast=False))
        assert more["counted_tflop"] == pytest.approx(found["counted_tflop"])


@pytest.mark.slow
def test_a_fast_case_is_counted_plain_and_timed_compiled(profile, monkeypatch):
    monkeypatch.setattr(bench, "SHORTEST_S", 0.0)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda read, **_settings: compiled.append(1) or read)
    forget_models()
    plain, fast = (
        bench.measure("features, text", profile, argparse.Namespace(device="cpu", batch=2, fast=fast))
        for fast in (False, True)
    )
    assert compiled == [1] and fast["counted_tflop"] == plain["counted_tflop"] > 0


def test_a_comparison_names_what_got_slower(capsys):
    before = {"cases": {"encode": {"seconds": 1.0}, "matching": {"seconds": 1.0}}}
    same = {"encode": {"seconds": 1.05}, "matching": {"seconds": 0.5}}
    assert bench._compare(same, before) == 0
    assert bench._compare({**same, "encode": {"seconds": 1.3}}, json.loads(json.dumps(before))) == 1
    assert "1.30 times as long" in capsys.readouterr().out


def test_a_run_is_compared_with_the_file_whose_place_it_takes(tmp_path, monkeypatch):
    numbers = {"unit": "pair", "cpu_seconds": 1.0, "peak_mb": 1, "counted_tflop": 1.0, "tflops": 1.0}
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "_profile", lambda *_: "mini")

    def run(seconds, *more):
        monkeypatch.setattr("sys.argv", ["bench", "--only", "encode", "--device", "cpu", *more])
        found = {**numbers, "seconds": seconds, "share_of_matmul": 0.5}
        monkeypatch.setattr(bench, "_in_own_process", lambda *_: found)
        return bench.main()

    assert run(1.0) == 0
    (kept,) = tmp_path.glob("*.json")
    assert run(2.0, "--compare", str(kept)) == 1
    (only,) = json.loads(kept.read_text())["runs"]
    assert only["cases"]["encode"]["seconds"] == 2.0


def made_up(commit, seconds, **more):
    cases = {name: {"unit": "pair", "seconds": value} for name, value in seconds.items()}
    about = {"device": "cpu (toy)", "shapes": "mini", "side": 128, "threads": 1, "time": "today"}
    versions = {"sd4match": "1.0.0", "torch": "2"}
    return {**about, "versions": versions, "commit": {"id": commit, "dirty": False}, "cases": cases, **more}


def test_runs_of_a_machine_are_kept_one_a_version(tmp_path):
    def kept():
        runs = json.loads((tmp_path / "toy.json").read_text())["runs"]
        return [
            (run["commit"]["id"], {case: found["seconds"] for case, found in run["cases"].items()})
            for run in runs
        ]

    for run in (
        made_up("a" * 40, {"encode": 1.0, "matching": 4.0}),
        made_up("b" * 40, {"encode": 0.5}),
        made_up("a" * 40, {"encode": 2.0}),  # again, of one case alone
    ):
        history.keep_run(tmp_path, "toy", run)
    assert kept() == [("b" * 40, {"encode": 0.5}), ("a" * 40, {"encode": 2.0, "matching": 4.0})]
    history.keep_run(tmp_path, "toy", made_up("a" * 40, {"encode": 3.0}, threads=2))
    assert len(kept()) == 3
    table = (tmp_path / "toy.md").read_text()
    assert "| encode | pair | 0.5 | 2 | 3 |" in table and "cpu (toy)" in table and "1.0.0 bbbbbbb" in table
    assert all((tmp_path / f"toy.{ending}").stat().st_size > 1000 for ending in ("png", "svg"))


def test_the_figure_shows_times_over_versions_against_the_first_that_has_the_case():
    runs = [
        made_up("a" * 40, {"encode": 2.0}),
        made_up("b" * 40, {"encode": 1.0, "matching": 4.0}),
        made_up("c" * 40, {"encode": 3.0, "matching": 2.0}),
    ]
    runs[1]["cases"]["click, warm"] = {"error": "no memory"}
    (axes,) = history.plot_history(runs).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn["encode"] == [1.0, 0.5, 1.5]
    assert drawn["matching"][1:] == [1.0, 0.5] and np.isnan(drawn["matching"][0])
    assert "click, warm" not in drawn  # it failed: there is no time to show
    assert axes.get_xticklabels()[0].get_text() == "1.0.0 aaaaaaa"
