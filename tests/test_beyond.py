"""The experiments beyond the paper: judged by their intervals, and by nothing when the control gains."""

from types import SimpleNamespace

import pandas as pd
import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report import beyond
from sd4match_lib.report.estimates import Part

UP, DOWN, OPEN = Interval(0.05, 0.01, 0.09), Interval(-0.05, -0.09, -0.01), Interval(0.01, -0.02, 0.04)
SMALL = Interval(0.0, -0.004, 0.004)


def table(**gains):
    rows = [{"idea": beyond.REFERENCE, beyond.against(0.10): None}]
    rows += [{"idea": idea, beyond.against(0.10): gain} for idea, part in gains.items() for gain in part]
    return pd.DataFrame(rows)


def ideas(names, **settings):
    return [beyond.Idea(name, "", "", **settings) for name in (beyond.REFERENCE, *names)]


def test_an_idea_helps_only_where_every_prompt_and_length_says_so():
    measured = table(A=[UP, UP], B=[UP, OPEN], C=[UP, DOWN], D=[SMALL, SMALL], E=[SMALL, OPEN])
    found = beyond.verdicts(measured, ideas("ABCDE"))
    assert found == {"A": "helps", "B": "open", "C": "refuted", "D": "refuted", "E": "open"}
    # What must help, or is refuted.
    strict = beyond.verdicts(measured, ideas("ABCDE", strict=True))
    assert strict == {"A": "helps"} | dict.fromkeys("BCDE", "refuted")
    # A gain that shows at small alpha alone counts for an idea that expects it there.
    fine = table(B=[SMALL, SMALL]).assign(**{beyond.against(0.01): [None, UP, UP]})
    assert beyond.verdicts(fine, ideas("B", alphas=(0.01, 0.10), strict=True)) == {"B": "helps"}


def test_a_control_that_gains_breaks_the_measure_and_an_idea_s_own_the_idea():
    found, ref = {"A: x": "helps", "B: y": "helps", "C: z": "open"}, beyond.REFERENCE
    broken = {ref: UP, "A: x": OPEN, "B: y": OPEN}
    assert beyond.chosen(found, broken) == [ref]
    assert beyond.what_experiments_say(found, broken).endswith("is broken, and nothing is concluded.")
    spoiled = {ref: OPEN, "A: x": DOWN, "B: y": UP}
    assert beyond.chosen(found, spoiled) == [ref, "A: x"]
    told = beyond.what_experiments_say(found, spoiled)
    assert "helps: A and B; refuted: none; open: C." in told and told.endswith("control gains too: B.")
    sound = beyond.what_experiments_say(found, spoiled | {"B: y": SMALL})
    assert sound.endswith("The reference's control gains nothing.")


def test_what_choosing_costs_counts_ideas_thresholds_and_differences():
    fine = beyond.Idea("B", "", "", alphas=(0.01, 0.05, 0.10))
    told = beyond.what_choosing_costs(table(A=[UP, UP], B=[UP, UP]), [*ideas("A"), fine])
    # (1 + 3) thresholds of 2.5 %; 2 cases of 1 threshold and 2 of 3.
    assert told.startswith("2 ideas and settings were judged by 8 differences") and "at most 10.0 %" in told


def test_the_test_split_tells_of_the_chosen_or_of_the_reference_alone():
    named = {"prompt": "single", "steps": 4, beyond.LEARNED: UP}
    alone = pd.DataFrame([{"idea": beyond.REFERENCE, **named, beyond.against(0.10): None}])
    told = beyond.what_the_test_says(alone, alone)
    assert told.count("reference, single, 4 steps +5.0 points") == 2 and "gain by learning" in told
    both = pd.concat([alone, pd.DataFrame([{"idea": "A: x", **named, beyond.against(0.10): DOWN}])])
    told = beyond.what_the_test_says(both, alone)
    assert "On test pairs, against the reference @0.10: A, single, 4 steps -5.0 points" in told


PAWS = Symmetry({}, {("cat", "a"): "b", ("cat", "b"): "a"})


def run(predictions):
    """A pair with keypoints a, b, c at x = 0, 50, 100 and theta 100, found at these x."""
    rows = [
        {"pair_id": "p", "category": "cat", "keypoint": name, "src_image": "s", "trg_image": "t"}
        | {"trg_x_in": x, "trg_y_in": 0.0, "pred_x_in": found, "pred_y_in": 0.0}
        | {"distance_in": abs(found - x), "theta_in": 100.0}
        for name, x, found in zip("abc", (0.0, 50.0, 100.0), predictions, strict=True)
    ]
    return Part(pd.DataFrame(rows), SimpleNamespace(config={}))


def test_failures_stand_beside_start_and_reference():
    case, other = (beyond.REFERENCE, "single", 4), ("A", "single", 4)
    # The reference puts a on its twin b; A finds all but c; the start finds nothing and no twin.
    runs = {case: run([50, 50, 100]), other: run([0, 50, 300])}
    starts = dict.fromkeys(runs, run([300, 300, 300]))
    found = beyond.failures_table(runs, starts, PAWS).set_index("idea")
    first, second = found.loc[beyond.REFERENCE], found.loc["A"]
    assert first["PCK-dagger"].value == second["PCK-dagger"].value == pytest.approx(2 / 3)
    assert first["PCK-dagger, by learning"].value == pytest.approx(2 / 3)
    assert second["PCK-dagger, against the reference"].value == 0
    assert first["twin rate"].value == 0.5 and second["twin rate"].value == 0
    assert second["twin rate, against the reference"].value == -0.5
    assert first["twin rate, against the reference"] is None
    assert "twin rate" not in beyond.failures_table(runs, starts, None)
    assert "twin rate" not in beyond.failures_table(runs, starts, Symmetry({}, {}))


def test_the_plan_names_every_switch_and_each_changes_something():
    profile = load_profile("mini")
    planned = beyond.planned_ideas(profile, [0.3, 1.0])
    plan = beyond.plan_table(planned)
    assert len(plan) == len(planned) - 1 == 6 and plan["refuted when"].str.len().min() > 0
    for idea in planned[1:]:
        assert idea.options or any(
            getattr(getattr(profile, part), name) != value
            for part, settings in idea.parts.items()
            for name, value in settings.items()
        )
    # The profile's layer leads the mixture.
    mixture = next(idea for idea in planned if idea.name.startswith("E")).parts["training"]["mixture"]
    assert mixture[0] == profile.features.layer and len(set(mixture)) == len(mixture) == 3
