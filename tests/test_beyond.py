"""The experiments beyond the paper: judged by their intervals, and by nothing when the control gains."""

import pandas as pd
import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report import beyond

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


@pytest.mark.parametrize(
    ("gain", "told"), [(UP, "broken, and nothing is concluded"), (OPEN, "helps: A; refuted: none; open: B")]
)
def test_a_control_that_gains_breaks_the_measure(monkeypatch, gain, told):
    monkeypatch.setattr(beyond, "estimate", lambda *_: gain)
    assert told in beyond.what_experiments_say(table(A=[UP], B=[OPEN]), ideas("AB"), None, None)


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
