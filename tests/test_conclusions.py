"""What notebooks say of their tables is computed from them."""

import numpy as np
import pandas as pd
import pytest

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.prompt_figures import cluster_order, how_alike, plot_similarities
from sd4match_lib.report.prompt_table import what_learning_gave
from sd4match_lib.report.sentences import difference, listed
from sd4match_lib.report.studies import where_methods_are_best
from sd4match_lib.report.training import what_training_did

pytestmark = pytest.mark.usefixtures("close_figures")


def cosines(names, alike, far=0.0):
    """A table of cosines in which only some pairs are alike."""
    values = np.full((len(names), len(names)), far)
    np.fill_diagonal(values, 1.0)
    table = pd.DataFrame(values, index=names, columns=names)
    for first, second, value in alike:
        table.loc[first, second] = table.loc[second, first] = value
    return table


def test_a_difference_says_whether_its_sign_is_known():
    assert (
        difference(Interval(0.031, 0.004, 0.058)) == "+3.1 points (95 % interval +0.4 to +5.8, clear of zero)"
    )
    assert "clear of zero" in difference(Interval(-0.05, -0.08, -0.01))
    assert "not to be told from nothing" in difference(Interval(0.031, -0.004, 0.058))
    assert difference(Interval(-0.0001, -0.004, 0.058)).startswith("+0.0 points")
    assert difference(Interval(0.1, float("nan"), float("nan"))).endswith(
        "(no interval: too few pictures, or no difference on any)"
    )


@pytest.mark.parametrize(("names", "text"), [([], "none"), (["a"], "a"), (["a", "b", "c"], "a, b and c")])
def test_names_are_listed_as_people_do(names, text):
    assert listed(names) == text


def test_only_learned_prompts_are_said_to_have_learned():
    gain, against = Interval(0.02, 0.01, 0.03), Interval(-0.04, -0.09, 0.01)
    table = pd.DataFrame(
        {
            "prompt": ["text", "Single, start", "Single"],
            "gain over text": [None, Interval(-0.06, -0.1, -0.02), against],
            "gain by learning": [None, None, gain],
        }
    )
    told = what_learning_gave(table)
    assert told.startswith("Single: learning gave +2.0 points") and told.count("learning gave") == 1
    assert "against the text prompt it stands at -4.0 points" in told and "zero is inside" in told
    assert told.endswith("another training would give another number.")
    assert what_learning_gave(table, 5).endswith("The intervals are over pictures and trainings.")


def test_a_training_that_got_worse_is_not_said_to_have_got_better():
    log = pd.DataFrame({"step": [10, 20, 30], "loss": [4.0, 4.25, 4.5], "pck": [np.nan, 0.5, 0.25]})
    told = what_training_did(log)
    assert "from 4.00 (mean up to step 10) to 4.50 (step 30)" in told
    assert "Of 2 validations the best was at step 20, with a PCK of 50.0 %" in told


def test_each_methods_best_timestep_is_named_and_compared_where_there_is_something_to_compare():
    gain = Interval(0.01, -0.02, 0.04)
    best = pd.DataFrame({"method": ["DIFT", "CPM"], "best t": [261, 50], "against t = 261": [None, gain]})
    told = where_methods_are_best(best)
    assert told.startswith("Best are DIFT at t = 261 and CPM at t = 50.")
    assert told.count("over t = 261") == 1 and "CPM gains +1.0 points" in told


def test_what_is_alike_is_named_beside_how_much_of_it_was_there_before():
    names = ["cat", "car", "dog", "bus"]
    learned = cosines(names, [("cat", "dog", 0.9), ("car", "bus", 0.8)])
    assert "r = 1.00" in how_alike(learned, learned) and "100 % of how they vary" in how_alike(
        learned, learned
    )
    told = how_alike(learned, cosines(names, [("cat", "car", 0.5)]))
    assert "Most alike are cat and dog (+0.90), car and bus (+0.80)" in told
    assert "r = -0.3" in told, "a start whose likenesses lie elsewhere"
    assert "too few categories" in how_alike(learned.iloc[:2, :2], learned.iloc[:2, :2])


def test_alike_stands_beside_alike_in_all_tables():
    names = ["cat", "car", "dog", "bus", "cow"]
    learned = cosines(
        names, [("cat", "dog", 0.9), ("cat", "cow", 0.7), ("dog", "cow", 0.7), ("car", "bus", 0.8)]
    )
    order = cluster_order(learned)
    assert sorted(order) == sorted(names)
    places = {name: order.index(name) for name in names}
    assert abs(places["cat"] - places["dog"]) == 1 and abs(places["car"] - places["bus"]) == 1
    figure = plot_similarities({"learned": learned, "start": cosines(names, [])}, title="t")
    labels = [[label.get_text() for label in ax.get_yticklabels()] for ax in figure.axes[:2]]
    assert labels == [order, order]
    scales = {ax.collections[0].get_clim() for ax in figure.axes[:2]}
    assert scales == {(-0.9, 0.9)}, "both tables are on one scale"
