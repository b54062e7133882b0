"""Confidence intervals by resampling pictures, because pairs that share one succeed and fail together.

Each picture gets a random weight, and a pair the product of its two pictures' weights (the pigeonhole
bootstrap: Owen 2007; Owen and Eckles 2012). One weight serves a picture as source and as target, as a hard
picture is hard in both roles. Products triple the variance that belongs to the pairs alone, so the draws are
scaled to the variance that pictures in common leave (two-way clustering: Cameron, Gelbach and Miller 2011;
for pairs of one set: Aronow, Samii and Assenova 2015), which needs no triple and is unbiased. Where no two
pairs share a picture this is the bootstrap over pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
"""The coverage of every interval."""

MAX_DRAWS = 2**22
"""Most random draws held at once (32 MiB)."""


class Interval(NamedTuple):
    """A measured value and its confidence interval; the bounds are NaN where nothing can be said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class PairSums:
    """What a ratio over pairs is made of: ``sum(numerators) / sum(denominators)``.

    Attributes:
        numerators: ``(P,)``, one number per pair, in an order that does not depend on the run.
        denominators: ``(P,)``, not negative.
        pictures: ``(P, 2)``, numbers from 0 that say which two pictures a pair has.
    """

    numerators: FloatArray
    denominators: FloatArray
    pictures: npt.NDArray[np.intp]

    @property
    def ratio(self) -> float:
        """The ratio itself."""
        return float(self.numerators.sum() / self.denominators.sum())


Term: TypeAlias = tuple[float, PairSums]
"""A coefficient and the ratio that it multiplies."""


def bootstrap_ratio(sums: PairSums, *, seed: int, n: int = 1000) -> Interval:
    """Return a ratio with its interval.

    Returns:
        The ratio with its interval; the bounds are NaN for fewer than two pairs.

    Raises:
        ValueError: n is below one.
    """
    return bootstrap_sum([(1.0, sums)], seed=seed, n=n)


def bootstrap_sum(terms: Sequence[Term], *, seed: int, n: int = 1000) -> Interval:
    """Return a weighted sum of ratios over the same pairs, such as a difference, with its interval.

    Args:
        terms: a coefficient and a ratio each; all over the same pairs, in the same order.
        seed, n: as for `bootstrap_ratio`.

    Raises:
        ValueError: n is below one.
    """
    value = sum(coefficient * sums.ratio for coefficient, sums in terms)
    drawn = picture_draws(terms, seed=seed, n=n)
    if len(terms[0][1].numerators) < 2:
        return Interval(value, float("nan"), float("nan"))
    return interval_of(value, drawn)


def picture_draws(terms: Sequence[Term], *, seed: int, n: int) -> FloatArray:
    """Draw what a weighted sum of ratios might have been on other pictures; see `bootstrap_sum`.

    Returns:
        ``(n,)`` values around the sum itself.

    Raises:
        ValueError: n is below one.
    """
    if n < 1:
        raise ValueError(f"The bootstrap needs at least one resample, not {n}.")
    pictures = terms[0][1].pictures
    count = int(pictures.max()) + 1
    value = sum(coefficient * sums.ratio for coefficient, sums in terms)
    rng = np.random.default_rng(seed)
    step = max(1, MAX_DRAWS // len(pictures))
    drawn = []
    for start in range(0, n, step):
        weights = rng.standard_exponential((min(step, n - start), count))
        products = weights[:, pictures[:, 0]] * weights[:, pictures[:, 1]]
        total = np.zeros(len(products))
        for coefficient, sums in terms:
            total += coefficient * (products @ sums.numerators) / (products @ sums.denominators)
        drawn.append(total)
    away = np.concatenate(drawn) - value
    spread, wanted = float(away.std()), _spread(_deviations(terms), pictures)
    away *= wanted / spread if spread > 0 else 1.0
    if any(coefficient < 0 for coefficient, _ in terms):
        # A difference that rests on few pairs: whatever their weights, all draws would lie on its side of
        # zero. Mirrored, they say how far it may be off to either side.
        away *= np.random.default_rng([seed, 2]).choice([-1.0, 1.0], n)
    return _possible(value + away, terms)


def training_draws(trainings: Sequence[Sequence[Term]], *, seed: int, n: int) -> FloatArray:
    """Draw what a mean over trainings might have been on other pictures and after other trainings.

    Pictures and trainings are crossed: all trainings are measured on the same pairs. What a training changes
    of single pictures is in the spread between trainings already, so the pictures add only what the trainings
    have in common. The error of a mean over few trainings is drawn from Student's t: resampling three or five
    of them with replacement would understate both its spread, by (S - 1) / S, and its tails.

    Args:
        trainings: of each training the terms of its weighted sum; see `bootstrap_sum`. One training alone
            says nothing about others: only pictures vary then.
        seed: what the draws start from.
        n: number of draws.

    Returns:
        ``(n,)`` values around the mean.
    """
    count = len(trainings)
    mean: list[Term] = [(part / count, sums) for terms in trainings for part, sums in terms]
    draws = picture_draws(mean, seed=seed, n=n)
    if count < 2:
        return draws
    pictures = mean[0][1].pictures
    deviations = [_deviations(terms) for terms in trainings]
    common = _deviations(mean)
    whole = _spread(common, pictures) ** 2
    own = sum(_spread(one - common, pictures) ** 2 for one in deviations) / (count * (count - 1))
    by_training = [sum(part * sums.ratio for part, sums in terms) for terms in trainings]
    value = float(np.mean(by_training))
    error = float(np.std(by_training, ddof=1)) / count**0.5
    in_common = (max(0.0, whole - own) / whole) ** 0.5 if whole > 0 else 0.0
    others = np.random.default_rng([seed, 1]).standard_t(count - 1, n)
    return _possible(value + in_common * (draws - value) + error * others, mean)


def _possible(draws: FloatArray, terms: Sequence[Term]) -> FloatArray:
    """Return draws of a mean of shares within [0, 1]; scaled ones may lie beyond it where pairs are few."""
    shares = all(
        coefficient > 0 and bool(((sums.numerators >= 0) & (sums.numerators <= sums.denominators)).all())
        for coefficient, sums in terms
    )
    return draws.clip(0, sum(coefficient for coefficient, _ in terms)) if shares else draws


def interval_of(value: float, draws: FloatArray) -> Interval:
    """Return the middle share `LEVEL` of draws around a value."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def _deviations(terms: Sequence[Term]) -> FloatArray:
    """What each pair adds to a weighted sum of ratios beyond its share, ``(P,)``; they add up to nothing."""
    found = np.zeros(len(terms[0][1].numerators))
    for coefficient, sums in terms:
        off = sums.numerators - sums.ratio * sums.denominators
        found += coefficient * off / sums.denominators.sum()
    return found


def _spread(deviations: FloatArray, pictures: npt.NDArray[np.intp]) -> float:
    """Return the standard error that pictures in common leave.

    Two pairs that share a picture add the product of their deviations to the variance, once. Never below the
    standard error of independent pairs.
    """
    count = int(pictures.max()) + 1
    first, second = pictures.min(axis=1), pictures.max(axis=1)
    apart = first != second
    by_picture = np.bincount(first, deviations, count)
    by_picture += np.bincount(second[apart], deviations[apart], count)
    # Pairs that share both pictures would count twice.
    _, both = np.unique(first * count + second, return_inverse=True)
    by_pair = np.bincount(both, deviations)
    shared, twice = float(by_picture @ by_picture), float(by_pair @ by_pair)
    return max(shared - twice, float(deviations @ deviations)) ** 0.5
