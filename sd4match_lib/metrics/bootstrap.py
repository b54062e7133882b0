"""Confidence intervals by resampling whole pairs, because keypoints of one pair succeed and fail together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_DRAWS = 2**22
"""Most random draws held at once (32 MiB)."""


class Interval(NamedTuple):
    """A measured value and its confidence interval; the bounds are NaN where nothing can be said."""

    value: float
    low: float
    high: float


def bootstrap_ratio(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, seed: int, n: int, level: float
) -> Interval:
    """Percentile bootstrap of ``sum(numerators) / sum(denominators)`` over units drawn with replacement.

    Args:
        numerators: ``(P,)``, one number per unit, in an order that does not depend on the run.
        denominators: ``(P,)``, positive.
        seed: what the draws start from.
        n: number of resamples.
        level: the interval's coverage, between 0 and 1.

    Returns:
        The ratio with its interval; the bounds are NaN for fewer than two units.

    Raises:
        ValueError: level or n is out of range.
    """
    ratios, value = _resampled_ratios(numerators, denominators, seed=seed, n=n)
    return _percentile_interval(float(value), ratios, len(np.asarray(numerators)), level)


def bootstrap_difference(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    seed: int,
    n: int,
    level: float,
) -> Interval:
    """Percentile bootstrap of the first ratio minus the second, both over the same drawn units.

    Args:
        first: numerators and denominators ``(P,)`` of one run.
        second: those of another run, unit by unit the same.
        seed: what the draws start from.
        n: number of resamples.
        level: the interval's coverage, between 0 and 1.

    Returns:
        The difference with its interval, as in `bootstrap_ratio`.

    Raises:
        ValueError: level or n is out of range.
    """
    first_ratios, first_value = _resampled_ratios(*first, seed=seed, n=n)
    second_ratios, second_value = _resampled_ratios(*second, seed=seed, n=n)
    units = len(np.asarray(first[0]))
    return _percentile_interval(float(first_value - second_value), first_ratios - second_ratios, units, level)


def _resampled_ratios(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, *, seed: int, n: int
) -> tuple[npt.NDArray[np.float64], np.float64]:
    if n < 1:
        raise ValueError(f"The bootstrap needs at least one resample, not {n}.")
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    rng = np.random.default_rng(seed)
    step = max(1, MAX_DRAWS // len(top))
    ratios = []
    for start in range(0, n, step):
        drawn = rng.integers(0, len(top), (min(step, n - start), len(top)))
        ratios.append(top[drawn].sum(1) / bottom[drawn].sum(1))
    return np.concatenate(ratios), top.sum() / bottom.sum()


def _percentile_interval(
    value: float, resampled: npt.NDArray[np.float64], units: int, level: float
) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"The confidence level must lie between 0 and 1, not {level}.")
    if units < 2:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
