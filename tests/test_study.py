"""The notebooks' one object: what it runs, what its captions say, and what it leaves."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tiny

from sd4match_lib.config.profile import load_profile
from sd4match_lib.report.claims import Claim
from sd4match_lib.report.prompt_table import prompt_table
from sd4match_lib.reproduce.prepare import prepare_data
from sd4match_lib.reproduce.study import Study
from sd4match_lib.runs.record import RunRecord
from sd4match_lib.runs.store import notebook_record_path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study on tiny models and a few pairs of MiniPair."""
    smoke = load_profile("smoke")
    prepare_data(smoke)
    models = load_profile(tiny.write_profile(tmp_path_factory.mktemp("tiny")))
    spair = dataclasses.replace(smoke.dataset("spair"), max_pairs={"train": 4, "val": 4, "test": 6})
    training = dataclasses.replace(smoke.training, steps=2, validate_every=1)
    profile = dataclasses.replace(
        models, datasets={"spair": spair}, training=training, decided_by="overnight"
    )
    return Study("05_x", profile, seed=0)


@pytest.fixture(scope="module")
def runs(study):
    prompts = {"Single": study.learned("single", [0, 1]), "Single, start": study.starts("single", [0, 1])}
    found = {name: study.evaluate_each(by_seed) for name, by_seed in prompts.items()}
    return {"text": study.evaluate("text"), **found}


def test_a_table_says_what_its_runs_were_made_with(study, runs):
    named = {("sd", name): run for name, run in runs.items()}
    table = prompt_table(named, reference="text", starts={"Single": "Single, start"})
    shown = study.table(table, "t", "Prompts", runs=named)
    caption = shown.text.splitlines()[0]
    assert caption.startswith(
        "Prompts. Profile `tiny`; 6 test pairs of spair; sd: kernel_softargmax, t = 50,"
    )
    assert "learned prompts: untrained starts, 2 steps, training seeds 0, 1; seed 0" in caption
    assert "run `overnight` to decide this" in caption and "PCK per image" in caption
    assert shown._repr_markdown_() == repr(shown) == shown.text and "| Single |" in shown.text


def test_an_own_start_is_what_the_training_began_with(study, runs):
    start = study.untrained("single", seed=1)
    known = runs["Single, start"][1].record.config["prompt"]["weights"]
    assert start.identity()["weights"] == known
    assert known != runs["Single"][1].record.config["prompt"]["weights"]


def test_shuffled_correspondences_are_another_training(study):
    real, wrong = study.train("single"), study.train("single", shuffled=True)
    assert real.record.config == wrong.record.config
    changed = {name for name in real.record.inputs if real.record.inputs[name] != wrong.record.inputs[name]}
    assert changed == {"data"}
    assert not np.array_equal(real.prompt.theta.detach(), wrong.prompt.theta.detach())


def test_a_control_on_random_weights_is_another_run(study, runs):
    random = study.evaluate("text", random_unet=True)
    assert random.record.inputs["model"] != runs["text"].record.inputs["model"]
    assert random.record.config == runs["text"].record.config


def test_claims_figures_and_the_record_are_left(study, runs):
    tested = [Claim("Single beats text", "Sec. 4.3", (("Single", "text"),), paper=0.2)]
    text = study.claims(tested, runs).text
    assert "| Single beats text | Sec. 4.3 | 2 | 20.0 |" in text
    study.figure(plt.subplots()[1], "f", runs=runs)
    study.finish(extra=1)
    record = RunRecord.read(notebook_record_path(study.profile.results_path, "05_x"))
    assert {"tables/t.csv", "tables/t.md", "tables/claims/05_x.csv", "figures/f.png"} <= set(record.outputs)
    assert record.metrics["extra"] == 1 and runs["text"].record.run_id in record.metrics
    plt.close("all")


def test_maps_are_measured_and_found_again(study):
    first, again = (study.localise("text", max_pairs=2)[0] for _ in range(2))
    assert first.record.started == again.record.started and first.keypoints.equals(again.keypoints)
    assert first.keypoints["inside"].between(0, 1).all() and (first.keypoints["lead"] >= 0).all()
    assert first.keypoints["pair_id"].nunique() == 2
    caption = study.caption("Maps", first)
    assert "sd: correlation maps, t = 50, ensemble 1" in caption and "PCK" not in caption
