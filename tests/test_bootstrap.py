"""Intervals that know of shared pictures; where pairs share none, they are those of pairs."""

import numpy as np
import pytest

from sd4match_lib.metrics.bootstrap import (
    PairSums,
    bootstrap_ratio,
    bootstrap_sum,
    interval_of,
    picture_draws,
    training_draws,
)


def sums(values, pictures):
    return PairSums(np.asarray(values, float), np.ones(len(values)), np.asarray(pictures))


def shared_pictures(rng, categories=18, pictures=8, pairs=24):
    """Pairs as MiniPair's test split has them: 432 of 144 pictures, within categories."""
    found = []
    for category in range(categories):
        every = [(a, b) for a in range(pictures) for b in range(pictures) if a != b]
        for place in rng.permutation(len(every))[:pairs]:
            found.append([category * pictures + side for side in every[place]])
    return np.array(found)


def by_pairs(values, rng, n=400):
    """The interval that takes pairs for independent."""
    drawn = values[rng.integers(0, len(values), (n, len(values)))].mean(axis=1)
    return interval_of(float(values.mean()), drawn)


@pytest.mark.parametrize("both_roles", [True, False])
def test_intervals_cover_where_pairs_share_pictures_and_resampling_pairs_does_not(both_roles):
    """Pictures explain a third of the variance, which widens intervals about as much as was seen."""
    covered = of_pairs = 0
    tries = 500
    for seed in range(tries):
        rng = np.random.default_rng([seed, both_roles])
        pictures = shared_pictures(rng)
        as_source = 0.12 * rng.standard_normal(144)
        as_target = as_source if both_roles else 0.12 * rng.standard_normal(144)
        values = 0.45 + as_source[pictures[:, 0]] + as_target[pictures[:, 1]]
        values += 0.25 * rng.standard_normal(len(pictures))
        low, high = bootstrap_ratio(sums(values, pictures), seed=seed, n=400)[1:]
        covered += low <= 0.45 <= high
        low, high = by_pairs(values, rng)[1:]
        of_pairs += low <= 0.45 <= high
    assert 0.92 <= covered / tries <= 0.98
    assert of_pairs / tries < (0.85 if both_roles else 0.90)


def test_pairs_that_share_no_picture_are_resampled_as_pairs():
    rng = np.random.default_rng(0)
    values = rng.random(400) ** 2
    pictures = np.arange(800).reshape(-1, 2)
    own = bootstrap_ratio(sums(values, pictures), seed=0, n=4000)
    of_pairs = by_pairs(values, rng, n=4000)
    assert own.high - own.low == pytest.approx(of_pairs.high - of_pairs.low, rel=0.05)
    assert own.value == of_pairs.value


def test_a_share_of_few_pairs_keeps_within_what_a_share_can_be():
    few = sums([0.0, 0.2], [[0, 1], [2, 3]])
    assert picture_draws([(1.0, few)], seed=0, n=1000).min() == 0
    trainings = [[(1.0, sums([found, 1.0], few.pictures))] for found in (0.6, 1.0)]
    assert training_draws(trainings, seed=0, n=1000).max() == 1
    # A difference of two may lie on either side of zero.
    assert picture_draws([(1.0, few), (-1.0, few)], seed=0, n=10).tolist() == [0] * 10
    assert bootstrap_sum([(1.0, few), (-1.0, sums([0.1, 0.2], few.pictures))], seed=0, n=99).low < 0


def test_a_picture_in_every_pair_does_not_hide_the_others():
    values = np.random.default_rng(0).random(200)
    star = np.column_stack([np.zeros(200, int), np.arange(1, 201)])
    alone = np.arange(400).reshape(-1, 2)
    widths = []
    for pictures in (star, alone):
        interval = bootstrap_ratio(sums(values, pictures), seed=0, n=2000)
        widths.append(interval.high - interval.low)
    assert widths[0] == pytest.approx(widths[1], rel=0.05)


def test_a_difference_leaves_out_what_makes_pictures_hard_for_both():
    rng = np.random.default_rng(0)
    pictures = shared_pictures(rng)
    hard = 0.3 * rng.standard_normal(144)
    first, second = (sums(hard[pictures].sum(1) + shift, pictures) for shift in (0.01, 0.0))
    difference = bootstrap_sum([(1.0, first), (-1.0, second)], seed=0, n=500)
    assert difference.value == pytest.approx(0.01) and difference.low > 0
    assert bootstrap_ratio(first, seed=0, n=500).low < 0


@pytest.mark.parametrize("changed", [1, 2, 3])
def test_a_few_changed_pairs_are_no_clear_difference(changed):
    before = np.random.default_rng(0).random(200)
    after = before.copy()
    after[:changed] += 1
    pictures = np.arange(400).reshape(-1, 2)
    terms = [(1.0, sums(after, pictures)), (-1.0, sums(before, pictures))]
    difference = bootstrap_sum(terms, seed=0, n=2000)
    assert difference.low < 0 < difference.value == pytest.approx(changed / 200)


def covered_with_trainings(*, common, own, shift, tries=400, count=3):
    """How often the mean of some trainings lies in its interval, for effects of three kinds."""
    covered = 0
    for seed in range(tries):
        rng = np.random.default_rng([seed, count])
        pictures = shared_pictures(rng)
        shared = common * rng.standard_normal(144)[pictures].sum(1)
        trainings = []
        for _ in range(count):
            values = 0.45 + shared + own * rng.standard_normal(144)[pictures].sum(1)
            values += shift * rng.standard_normal() + 0.25 * rng.standard_normal(len(pictures))
            trainings.append([(1.0, sums(values, pictures))])
        draws = training_draws(trainings, seed=seed, n=1000)
        low, high = np.quantile(draws, [0.025, 0.975])
        covered += low <= 0.45 <= high
    return covered / tries


@pytest.mark.parametrize(
    ("common", "own", "shift"), [(0.0, 0.0, 0.02), (0.0, 0.1, 0.02), (0.12, 0.05, 0.02), (0.12, 0.0, 0.0)]
)
def test_intervals_cover_what_pictures_and_few_trainings_change(common, own, shift):
    assert 0.92 <= covered_with_trainings(common=common, own=own, shift=shift) <= 0.995


def test_one_training_leaves_only_the_pictures():
    rng = np.random.default_rng(0)
    pictures = shared_pictures(rng)
    terms = [(1.0, sums(rng.random(432), pictures))]
    assert np.array_equal(training_draws([terms], seed=0, n=50), picture_draws(terms, seed=0, n=50))


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    pictures = shared_pictures(rng, categories=2)
    whole = picture_draws([(1.0, sums(rng.random(48), pictures))], seed=3, n=100)
    monkeypatch.setattr("sd4match_lib.metrics.bootstrap.MAX_DRAWS", 7 * 48)
    rng = np.random.default_rng(0)
    pictures = shared_pictures(rng, categories=2)
    assert picture_draws([(1.0, sums(rng.random(48), pictures))], seed=3, n=100) == pytest.approx(whole)
