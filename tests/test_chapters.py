"""What the chapters say of their tables: computed, so that it is true whatever the numbers are."""

import pandas as pd
import pytest

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report import conclusions, headlines

NAN = float("nan")
UP, DOWN, OPEN = Interval(0.05, 0.01, 0.09), Interval(-0.05, -0.09, -0.01), Interval(0.01, -0.02, 0.04)


def at(value):
    return Interval(value, value - 0.01, value + 0.01)


def test_the_highest_and_the_lowest_are_named_and_missing_ones_are_not():
    table = pd.DataFrame(
        {"method": ["a", "b", "c"], "prompt": ["x", "y", "z"], "PCK": [at(0.2), None, at(0.4)]}
    )
    told = headlines.highest_and_lowest(table, ["method", "prompt"], "PCK")
    assert told == "Highest: c, z (40.0 %); lowest: a, x (20.0 %)"


def test_a_guess_is_the_share_of_the_picture_that_counts_as_found():
    rows = pd.DataFrame({"pair_id": ["p", "p", "q"], "theta_in": [50.0, 50.0, 100.0]})
    told = conclusions.first_match(rows, at(0.3), (100, 100))
    # pi * 5^2 / 100^2 = 0.79 % in the one pair, 3.14 % in the other: 1.96 % on the mean of the two.
    assert told.startswith("Of a pair's points 30.0 % are found on average.") and "at most 2.0 %" in told


def test_prompts_gain_over_the_empty_one_method_by_method():
    table = pd.DataFrame(
        {
            "method": ["DIFT"] * 3,
            "prompt": ["empty", "text", "captioner"],
            "gain over empty": [None, UP, OPEN],
        }
    )
    told = conclusions.what_words_are_worth(table)
    assert "text +5.0 points" in told and "clear of zero) and captioner +1.0 points" in told
    assert headlines.words_headline(table) == "Naming the category against saying nothing: DIFT +5.0 points"


@pytest.mark.parametrize(("gain", "word"), [(UP, "above"), (DOWN, "below")])
def test_which_of_two_methods_is_ahead_follows_the_sign(gain, word):
    told = conclusions.which_method_leads("A", "B", gain, ("a cleaner picture", OPEN))
    assert told.startswith(f"A stands {word} B: ") and "A cleaner" not in told and "+1.0 points" in told


def test_features_below_a_random_unet_are_named():
    table = pd.DataFrame(
        {"features": ["pixels", "DINO", "random", "DIFT"], "PCK": [at(0.05), at(0.3), at(0.1), 0.5]}
    )
    table["published"] = [False, False, False, True]
    told = conclusions.what_references_say(table, "PCK", "random")
    assert told == (
        "DINO leads with 30.0 %. A UNet that learned nothing still finds 10.0 %. Below it even: pixels."
    )
    near = table.assign(PCK=[at(0.11), at(0.3), at(0.1), 0.5])
    told = conclusions.what_references_say(near, "PCK", "random")
    assert told.endswith("finds 10.0 %. Above it with intervals that overlap its own: pixels.")


def test_the_mean_is_no_category():
    table = pd.DataFrame({"category": ["cat", "car", "all"], "PCK": [at(0.4), at(0.1), at(0.9)]})
    told = conclusions.spread_over(table, "category", "PCK")
    assert told.startswith("Between car (10.0 %) and cat (40.0 %) lie 30 points")


def test_categories_that_lose_are_named():
    gains = pd.DataFrame({"category": ["cat", "car", "dog"], "gain": [UP, DOWN, OPEN]})
    told = conclusions.where_gains_are(gains, "CPM", "DIFT")
    assert told.startswith("CPM is above DIFT in 2 of 3 categories, clearly in 1; most in cat (+5.0 points).")
    assert told.endswith("It is behind in car.")
    assert conclusions.where_gains_are(gains.iloc[:1], "CPM", "DIFT").endswith("It is behind in none.")


def test_the_largest_step_is_the_flag_that_costs_most():
    rows = [
        ("scale", "easy", 0.4),
        ("scale", "hard", 0.3),
        ("viewpoint", "easy", 0.5),
        ("viewpoint", "hard", 0.1),
    ]
    table = pd.DataFrame(rows, columns=["flag", "level", "PCK"]).assign(method="CPM", pairs=7)
    told = conclusions.what_makes_pairs_hard(table, "CPM", "PCK")
    assert told.startswith(
        "For CPM the largest step is viewpoint (easy 50.0 %, hard 10.0 %, 7 pairs); then scale"
    )
    lone = table.assign(pairs=[7, 7, 7, 1])
    assert conclusions.what_makes_pairs_hard(lone, "CPM", "PCK").startswith(
        "For CPM the largest step is scale"
    )
    assert "too few" in conclusions.what_makes_pairs_hard(table.assign(pairs=1), "CPM", "PCK")


def test_methods_without_errors_are_not_said_to_fail():
    table = pd.DataFrame({"method": ["A", "B"], "jitter": [at(0.1), at(0.0)], "swap": [at(0.3), at(0.0)]})
    table["miss"] = [at(0.0), at(0.0)]
    told = conclusions.how_methods_fail(table)
    assert told.endswith("A swap (75 %).") and "B" not in told


def test_an_ablation_says_what_is_the_other_way_round():
    table = pd.DataFrame(
        {"case": ["1", "2", "3"], "against the first": [None, UP, DOWN], "paper": [0.7, 0.6, 0.5]}
    )
    told = conclusions.what_parts_are_worth(table, "paper")
    assert told.startswith("Lowest is 3: -5.0 points") and "Clear of zero: 2 (+5.0) and 3 (-5.0)." in told
    assert told.endswith("On another side of the first than in the paper, clearly or not: 2.")
    assert headlines.parts_headline(table) == "Clearly worse than CPM: 1 of 2 cases; lowest: 3 (-5.0 points)"
    agrees = table.assign(**{"against the first": [None, DOWN, OPEN._replace(value=-0.01)]})
    assert "on the side of the first" in conclusions.what_parts_are_worth(agrees, "paper")


def test_starts_and_sizes_are_compared_where_there_is_something_to_compare():
    starts = pd.DataFrame(
        {"prompt": ["single"] * 2, "start": ["random", "empty"], "against random": [None, DOWN]}
    )
    assert "single from 'empty' -5.0 points" in conclusions.does_the_start_matter(starts)
    sizes = pd.DataFrame({"size": ["4 x 4", "8 x 8"], "against native": [DOWN, None]})
    told = conclusions.does_size_matter(sizes)
    assert "4 x 4 -5.0 points" in told and "8 x 8" not in told


def test_paintings_stand_beside_real_pictures_and_a_guess():
    table = pd.DataFrame(
        {"pictures": ["real pictures", "text prompt", "a guess"], "share": [0.75, 0.5, 0.05]}
    )
    table["number"], table["named right"] = [4, 2, None], [3, 1, None]
    table = table.astype({"number": "Int64", "named right": "Int64"})
    told = conclusions.how_paintings_are_named(table, "the judge")
    assert headlines.naming_headline(table, "the judge") == (
        "Named right by the judge: real pictures 3 of 4 and text prompt 1 of 2"
    )
    assert "The judge names 3 of 4 real pictures right (75.0 %; a guess 5.0 %)" in told
    assert told.endswith("of the paintings 1 of 2 from the text prompt.")


def test_maps_are_told_apart_in_both_numbers():
    table = pd.DataFrame(
        {"prompt": ["empty", "text", "CPM"], "inside the object": [at(0.2), at(0.1), at(0.5)]}
    )
    table["lead of the peak"] = [at(0.02), at(0.05), at(0.03)]
    told = conclusions.which_maps_are_sharpest(table)
    assert "under CPM (50.0 %)" in told and "stands out most under text" in told
    assert "its lead is +3.0 hundredths against the empty one (the intervals lie apart)" in told
    close = table.assign(**{"lead of the peak": [at(0.04), at(0.05), at(0.03)]})
    assert "+1.0 hundredths against the empty one (the intervals overlap)" in (
        conclusions.which_maps_are_sharpest(close)
    )


def test_intervals_that_overlap_are_not_said_to_lie_apart():
    table = pd.DataFrame({"prompt": ["CPM", "start"], "share": [at(0.6), at(0.5)]})
    assert "lie apart" in conclusions.what_is_listened_to(table, "share", 0.5)
    told = conclusions.what_is_listened_to(table.assign(share=[at(0.505), at(0.5)]), "share", 0.5)
    assert "overlap" in told and "Where 50.0 % means that nothing is told apart" in told
    assert "explains 99 % (learned) of" in conclusions.what_place_explains({"learned": 0.987})


def test_prompts_that_move_features_less_than_noise_does_are_named():
    reach = {"text": 0.1, "CPM, start": 0.2, "CPM": 0.6, "other noise": 0.3}
    table = pd.DataFrame({"prompt": list(reach), "its features": [at(share) for share in reach.values()]})
    told = conclusions.how_far_prompts_reach(table)
    assert "CPM 60.0 % and text 10.0 %" in told and "by 30.0 %, farther than text and CPM, start" in told


def test_options_learning_abroad_and_ranks_are_counted_by_their_intervals():
    options = pd.DataFrame({"option": ["none", "window", "flip"], "gain": [None, UP, OPEN]})
    told = conclusions.what_options_give(options)
    assert told == "Of 2 options that can be compared, clear of zero are: window (+5.0)."
    gains = pd.DataFrame(
        {"keypoints": ["seen", "unseen"], "prompt": ["CPM"] * 2, "gain by learning": [UP, DOWN]}
    )
    told = conclusions.does_it_hurt(gains, "keypoints")
    assert told.startswith(
        "Learning gave on keypoints seen CPM +5.0 points (clearly worse: 0 of 1); on keypoints unseen CPM"
    )
    assert told.endswith("-5.0 points (clearly worse: 1 of 1).")
    assert headlines.hurt_headline(gains, "keypoints").endswith("0 of 1 on seen and 1 of 1 on unseen")
    ranking = pd.DataFrame({"rank": [1, 1, 3], "method": ["a", "b", "c"], "behind": [None, OPEN, DOWN]})
    assert conclusions.who_is_ahead(ranking).startswith("a and b share the first place")
    assert conclusions.who_is_ahead(ranking.assign(rank=[1, 2, 3])).startswith("a alone has the first place")


def test_the_flattest_curve_comes_first():
    curves = pd.DataFrame({"method": ["A", "A", "B", "B"], "PCK": [at(0.1), at(0.4), at(0.3), at(0.35)]})
    assert conclusions.how_flat_curves_are(curves, "PCK").endswith("B 5.0 and A 30.0.")
