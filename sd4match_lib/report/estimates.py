"""PCK, and differences of PCK, over one evaluation or over those of several trainings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd

from sd4match_lib.metrics.bootstrap import (
    FloatArray,
    Interval,
    PairSums,
    Term,
    interval_of,
    training_draws,
)
from sd4match_lib.metrics.pck import check_same_keypoints, pair_sums, value_sums
from sd4match_lib.runs.record import RunRecord


class Evaluated(Protocol):
    """What an evaluation has to hold: its keypoints, and the record that says how they came to be.

    Keypoints may have a ``value`` instead of distances; see `value_sums`.
    """

    @property
    def keypoints(self) -> pd.DataFrame:
        """One row per keypoint."""

    @property
    def record(self) -> RunRecord:
        """Its configuration."""


Results: TypeAlias = Evaluated | Mapping[int, Evaluated]
"""An evaluation, or one a training seed."""

ALPHA = 0.1
"""PCK's alpha where nothing else is said."""

DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Part:
    """Some of an evaluation's keypoints, with the whole's record."""

    keypoints: pd.DataFrame
    record: RunRecord


@dataclass(frozen=True, eq=False)
class Contrast:
    """A mean over trainings, of PCK or of a difference, with draws of what it might have been.

    Attributes:
        value: the mean.
        draws: ``(n,)``, over other pictures and other trainings.
        trainings: how many were averaged; 0 where nothing was trained.
    """

    value: float
    draws: FloatArray
    trainings: int

    @property
    def interval(self) -> Interval:
        """The value with its 95 % interval; without bounds for fewer than two pairs."""
        if np.ptp(self.draws) == 0:
            return Interval(self.value, float("nan"), float("nan"))
        return interval_of(self.value, self.draws)


def contrast(
    better: Results,
    worse: Results | None = None,
    *,
    alpha: float = 0.1,
    share: float = 1.0,
    seed: int = 0,
    n: int = DRAWS,
) -> Contrast:
    """Take a mean over trainings, or the mean difference of two runs on the same pairs.

    Args:
        better: the first run.
        worse: the second, or None; where both have several trainings, those of the same seed are compared.
        alpha: PCK's alpha.
        share: what the second run's PCK is multiplied by.
        seed: what the draws start from.
        n: number of draws.

    Raises:
        UserError: the runs do not hold the same keypoints.
    """
    sides = [by_seed(side) for side in (better, worse) if side is not None]
    seeds = max((sorted(side) for side in sides), key=len)
    trainings: list[list[Term]] = []
    for training in seeds:
        rows = [(side[training] if len(side) > 1 else next(iter(side.values()))).keypoints for side in sides]
        _check(rows[0], rows[-1], alpha)
        trainings.append(list(zip((1.0, -share), [_sums(part, alpha) for part in rows], strict=False)))
    value = float(np.mean([sum(sign * sums.ratio for sign, sums in terms) for terms in trainings]))
    draws = training_draws(trainings, seed=seed, n=n)
    trained = any(_is_trained(result) for side in sides for result in side.values())
    return Contrast(value, draws, len(seeds) if trained else 0)


def estimate(better: Results, worse: Results | None = None, *, alpha: float = 0.1) -> Interval:
    """Return PCK, or a difference of PCK, as a fraction with its interval; see `contrast`."""
    return contrast(better, worse, alpha=alpha).interval


def scores(result: Results, against: Mapping[str, Results | None], alpha: float = ALPHA) -> dict[str, Any]:
    """Return a table row's cells: PCK, and what it differs by from others on the same pairs.

    Args:
        result: what the row is about.
        against: a column's name to what it compares with, or None where nothing is compared.
        alpha: PCK's alpha.

    Returns:
        ``PCK@<alpha>`` and the columns of `against`, `Interval` each; None where nothing is compared.
    """
    cells: dict[str, Any] = {f"PCK@{alpha:.2f}": estimate(result, alpha=alpha)}
    for column, other in against.items():
        cells[column] = None if other is None else estimate(result, other, alpha=alpha)
    return cells


def by_seed(results: Results) -> Mapping[int, Evaluated]:
    """Return the evaluations by training seed; a single one under 0."""
    return results if isinstance(results, Mapping) else {0: results}


def one_of(results: Results) -> Evaluated:
    """Return the evaluation of the first training."""
    return next(iter(by_seed(results).values()))


def slices(results: Results, column: str) -> dict[Any, dict[int, Evaluated]]:
    """Return the evaluations once per value of a column of their rows, in the values' order."""
    parts: dict[Any, dict[int, Evaluated]] = {}
    for seed, result in by_seed(results).items():
        for value, rows in result.keypoints.groupby(column):
            parts.setdefault(value, {})[seed] = Part(rows, result.record)
    return parts


def with_values(results: Results, measure: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[int, Evaluated]:
    """Return the evaluations with another number per keypoint in PCK's place.

    Args:
        results: the evaluations.
        measure: takes rows and returns those that count, with a column ``value``; see `value_sums`.
    """
    return {seed: Part(measure(run.keypoints), run.record) for seed, run in by_seed(results).items()}


def by_category(runs: Mapping[str, Results]) -> dict[str, Results]:
    """Return the runs once per category, under the names ``"<name>, <category>"``."""
    return {
        f"{name}, {category}": part
        for name, results in runs.items()
        for category, part in slices(results, "category").items()
    }


def _check(first: pd.DataFrame, second: pd.DataFrame, alpha: float) -> None:
    if "value" not in first:
        check_same_keypoints(first, second, alpha)


def _sums(rows: pd.DataFrame, alpha: float) -> PairSums:
    return value_sums(rows) if "value" in rows else pair_sums(rows, alpha)


def _is_trained(result: Evaluated) -> bool:
    """Whether another training seed would have given other rows; the captioner came with the profile."""
    prompt = result.record.config.get("prompt") or {}
    return "weights" in prompt and prompt["kind"] != "captioner"
