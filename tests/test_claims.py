"""Claims: the comparison, the correction over the table, and that noise is never called agreement."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sd4match_lib.evaluation.evaluate import EvaluationResult
from sd4match_lib.metrics.bootstrap import PairSums
from sd4match_lib.report import claims, estimates
from sd4match_lib.report.claims import Claim, Verdict
from sd4match_lib.report.estimates import by_category

PICTURES, PAIRS = 40, 120


def run(found, *, trained=False, pictures=None):
    """An evaluation of one keypoint a pair, each right or wrong; pictures are the pairs' own by default."""
    found = np.asarray(found, bool)
    pictures = np.arange(2 * len(found)).reshape(-1, 2) if pictures is None else pictures
    rows = pd.DataFrame(
        {
            "pair_id": [f"{i:04d}" for i in range(len(found))],
            "category": np.where(np.arange(len(found)) % 2, "cat", "dog"),
            "keypoint": "nose",
            "distance_in": np.where(found, 0.0, 5.0),
            "theta_in": 10.0,
            "src_image": [f"{name:04d}" for name in pictures[:, 0]],
            "trg_image": [f"{name:04d}" for name in pictures[:, 1]],
        }
    )
    prompt = {"kind": "single", "weights": "abc"} if trained else {"kind": "text"}
    return EvaluationResult(rows, SimpleNamespace(config={"prompt": prompt}), Path(), (0.1,), False)


def share(part, count=200):
    return run(np.arange(count) < part * count)


def decide(tmp_path, tested, runs):
    claims.write_claims(claims.compare_claims(tested, runs), tmp_path, "05")
    return claims.read_claims(tmp_path)


def test_lines_agree_contradict_exclude_or_stay_undecided(tmp_path):
    rng = np.random.default_rng(0)
    runs = {"good": share(0.9), "bad": share(0.4), "none": share(0.905)}
    runs["noise"] = run(rng.random(200) < 0.9)
    tested = [
        Claim("good beats bad", "Sec. 1", (("good", "bad"),), paper=0.3),
        Claim("bad beats good", "Sec. 1", (("bad", "good"),)),
        Claim("noise beats good by much", "Sec. 1", (("noise", "good"),), paper=0.3),
        Claim("noise beats good by little", "Sec. 1", (("noise", "good"),), paper=0.01),
        Claim("good is no worse than a hair more", "Sec. 1", (("good", "none"),), margin=0.04),
        Claim("good is more than half of bad", "Sec. 1", (("bad", "good"),), share=0.2),
    ]
    read = decide(tmp_path, tested, runs)
    assert read["verdict"].tolist() == [
        Verdict.AGREES,
        Verdict.CONTRADICTS,
        Verdict.EXCLUDED,
        Verdict.UNDECIDED,
        Verdict.AGREES,
        Verdict.AGREES,
    ]
    assert read["here"][0].value == pytest.approx(0.5) and read["paper"][0] == 0.3
    assert math.isnan(read["paper"][1]) and claims.read_claims(tmp_path / "nowhere").empty
    why = claims.explain_undecided(read)
    reach = 50 * (read["here"][3].high - read["here"][3].low)
    assert f"some {reach:.1f} points" in why
    assert claims.explain_undecided(read[read["verdict"] == Verdict.AGREES]) == ""


def test_a_claim_about_several_holds_where_the_weakest_does(tmp_path):
    runs = {"best": share(0.9), "rival": share(0.3), "other": share(0.95)}
    tested = [
        Claim("best beats one", "", (("best", "rival"),)),
        Claim("best beats all", "", (("best", "rival"), ("best", "other"))),
    ]
    read = decide(tmp_path, tested, runs)
    assert read["verdict"].tolist() == [Verdict.AGREES, Verdict.CONTRADICTS]
    assert read["here"][1].value == pytest.approx(-0.05)


def test_draws_are_enough_to_say_that_one_of_many_comparisons_is_clear(monkeypatch):
    monkeypatch.setattr(claims, "DRAWS", 99)
    rivals = {f"rival {i}": share(0.3) for i in range(10)}
    runs = {"best": share(0.4), **rivals, "rival 7": share(0.9)}
    claim = Claim("best beats all", "", tuple(("best", name) for name in rivals))
    (p,) = claims.compare_claims([claim], runs)["p"]
    assert p < 0.05


def test_one_training_decides_nothing_and_several_disagreeing_ones_neither(tmp_path):
    def trained(*parts):
        return {s: run(np.arange(200) < part * 200, trained=True) for s, part in enumerate(parts)}

    runs = {"text": share(0.5), "once": trained(0.9), "steady": trained(0.9, 0.88, 0.91)}
    runs |= {"luck": trained(0.9, 0.5, 0.49)}
    tested = [Claim(name, "", ((name, "text"),)) for name in ("once", "steady", "luck")]
    read = decide(tmp_path, tested, runs)
    assert read["verdict"].tolist() == [Verdict.FEW, Verdict.AGREES, Verdict.UNDECIDED]
    assert read["trainings"].tolist() == [1, 3, 3]


def test_controls_must_come_out_as_nothing(tmp_path):
    runs = {"a": share(0.9), "b": share(0.4), "c": share(0.9)}
    pairs = (("a", "c"), ("b", "a"), ("a", "b"))
    tested = [Claim("control", "-", (pair,), control=True) for pair in pairs]
    found = decide(tmp_path, tested, runs)["verdict"].tolist()
    assert found == [Verdict.NOTHING, Verdict.NOTHING, Verdict.SOMETHING]


def test_holm_by_hand():
    adjusted = claims.holm([0.01, math.nan, 0.04, 0.03])
    assert adjusted == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert len(claims.holm([])) == 0


def test_a_claim_by_category_compares_within_each():
    runs = by_category({"a": share(1.0), "b": share(0.0)})
    assert set(runs) == {"a, cat", "a, dog", "b, cat", "b, dog"}
    every = Claim("everywhere", "", (("a, cat", "b, cat"), ("a, dog", "b, dog")))
    assert claims.compare_claims([every], runs)["difference"].tolist() == [1.0]


def test_noise_between_trainings_is_never_called_agreement(monkeypatch):
    """A hundred tables of runs that differ by their seeds only: 95 hold no line that agrees."""
    monkeypatch.setattr(claims, "DRAWS", 1999)
    monkeypatch.setattr(estimates, "_check", lambda *_: None)
    monkeypatch.setattr(estimates, "_sums", lambda rows, _: rows)
    rng = np.random.default_rng(1)
    pairs = [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("a", "c"), ("b", "d"), ("e", "g"), ("f", "h")]
    tested = [Claim("".join(pair), "", (pair,)) for pair in pairs]
    alarms = 0
    for _ in range(100):
        pictures = np.array([rng.choice(PICTURES, 2, replace=False) for _ in range(PAIRS)])
        hard = 0.15 * rng.standard_normal(PICTURES)
        runs = {name: trainings_of_one_prompt(rng, pictures, hard) for name in "abcdefgh"}
        alarms += Verdict.AGREES in claims.verdicts(claims.compare_claims(tested, runs))
    assert alarms <= 5


def trainings_of_one_prompt(rng, pictures, hard):
    """Three trainings: some pictures are hard for all, each training shifts all pairs, and some pictures."""
    found = {}
    for seed in range(3):
        own = 0.1 * rng.standard_normal(PICTURES)
        chance = 0.45 + 0.02 * rng.standard_normal() + (hard + own)[pictures].sum(1)
        right = (rng.random(PAIRS) < chance).astype(float)
        result = run([True], trained=True)
        found[seed] = replace(result, keypoints=PairSums(right, np.ones(PAIRS), pictures))
    return found
