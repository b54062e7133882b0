"""The paper's claims as differences between runs on the same pairs, and what they show here.

Each notebook tests its claims and leaves the numbers; verdicts are given over all of them together, because
of thirty lines some come out by luck (Holm 1979).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sd4match_lib.errors import DataError
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.estimates import Results, contrast
from sd4match_lib.report.tables import read_table
from sd4match_lib.utils.files import atomic_write_text

FOLDER = "claims"
"""Below the tables: one file per notebook that tests claims."""

_COLUMNS = {"claim": "str", "source": "str", "paper": "float64", "control": "bool", "trainings": "int64"}
_COLUMNS |= dict.fromkeys(("difference", "low", "high", "p", "p_excluded"), "float64") | {"for": "bool"}

MARGIN = 0.015
"""What counts as no difference where the paper claims none, as a fraction of PCK: the tolerance of
`comparison`, stated before any number was seen."""

LEVEL = 0.05
"""The chance, over the whole table, of a verdict that noise alone brought about."""

MIN_TRAININGS = 3
"""Trainings on each side below which nothing is said about prompts that were trained."""

DRAWS = 9999
"""Enough that Holm's first step among fifty lines is not finer than one draw."""


class Verdict(StrEnum):
    """What a line of the table says."""

    AGREES = "agrees"
    CONTRADICTS = "contradicts"
    EXCLUDED = "an effect of the paper's size is excluded"
    UNDECIDED = "undecided"
    FEW = "undecided: too few trainings"
    NOTHING = "nothing found, as it must"
    SOMETHING = "SOMETHING FOUND WHERE NOTHING IS"


@dataclass(frozen=True)
class Claim:
    """One claim: that PCK is higher under the first run of each comparison than under its second.

    Attributes:
        text: the claim in words.
        source: where the paper makes it.
        comparisons: names of runs, better and worse; a claim about several holds where each of them does.
        paper: the difference that the paper prints, as a fraction, or None.
        margin: how much worse still counts as no worse; 0 asks for a difference.
        share: what the second run's PCK is multiplied by.
        control: whether this must come out as nothing: it is not the paper's, and tests the instrument.
    """

    text: str
    source: str
    comparisons: tuple[tuple[str, str], ...]
    paper: float | None = None
    margin: float = 0.0
    share: float = 1.0
    control: bool = False


def compare_claims(
    claims: Sequence[Claim], runs: Mapping[str, Results], *, alpha: float = 0.1, seed: int = 0
) -> pd.DataFrame:
    """Compare runs of the same pairs, claim by claim.

    Of a claim about several comparisons the table shows the one that holds least. It agrees where each of
    them does (its p-value is their largest), and is contradicted where that one is, after Bonferroni; it is
    drawn as many times more often, because no p-value from draws is smaller than one in their number.

    Returns:
        One row per claim: `claim`, `source`, `paper`, `control`, `trainings` (compared; 0 where nothing was
        trained), `difference`, `low`, `high` (95 %), `p` (two-sided, against `-margin`), `for` (whether the
        difference lies on the claim's side of it) and `p_excluded` (one-sided, that it reaches `paper`).
    """
    table: list[dict[str, Any]] = []
    for claim in claims:
        found = {pair: _compare(claim, runs, pair, alpha, seed, DRAWS) for pair in claim.comparisons}
        pair = min(found, key=lambda one: found[one]["difference"])
        count = len(found)
        weakest = _compare(claim, runs, pair, alpha, seed, count * DRAWS) if count > 1 else found[pair]
        p_for = max(one["p_for"] for one in found.values())
        p_against = min(1.0, count * weakest["p_against"])
        table.append(
            {
                "claim": claim.text,
                "source": claim.source,
                "paper": math.nan if claim.paper is None else claim.paper,
                "control": claim.control,
                "trainings": min(one["trainings"] for one in found.values()),
                **{name: weakest[name] for name in ("difference", "low", "high")},
                "p": min(1.0, 2 * min(p_for, p_against)),
                "for": p_for <= p_against,
                "p_excluded": weakest["p_excluded"] if count == 1 else math.nan,
            }
        )
    return pd.DataFrame(table)


def write_claims(frame: pd.DataFrame, tables: Path, name: str) -> Path:
    """Write what `compare_claims` found to `claims/<name>.csv` below the tables; returns the path."""
    path = tables / FOLDER / f"{name}.csv"
    atomic_write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


def read_claims(tables: Path) -> pd.DataFrame:
    """Return all notebooks' claims with their verdicts, one row each.

    Returns:
        Columns `claim`, `source`, `trainings`, `paper` (the paper's difference), `here` (an `Interval`),
        `control` and `verdict`; empty where no notebook has tested claims yet.

    Raises:
        DataError: a notebook's file is damaged.
    """
    files = sorted((tables / FOLDER).glob("*.csv"))
    if not files:
        return pd.DataFrame(columns=["claim", "source", "trainings", "paper", "here", "control", "verdict"])
    frame = pd.concat([_read(path) for path in files], ignore_index=True)
    return claims_table(frame).assign(control=frame["control"], verdict=verdicts(frame))


def _read(path: Path) -> pd.DataFrame:
    frame = read_table(path, _COLUMNS)
    parts = frame[["paper", "difference", "p", "p_excluded"]].fillna(0).abs() <= 1
    chances = frame[["trainings", "p", "p_excluded"]].fillna(0) >= 0
    if not (frame["claim"].notna().all() and parts.all(axis=None) and chances.all(axis=None)):
        raise DataError(f"{path}: it holds a number that no claim has, or no text; delete it and run again.")
    return frame


def claims_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `compare_claims`' rows for people: `claim`, `source`, `trainings`, `paper` and `here`."""
    here = [Interval(*bounds) for bounds in frame[["difference", "low", "high"]].itertuples(index=False)]
    return frame[["claim", "source", "trainings", "paper"]].assign(here=here)


def verdicts(frame: pd.DataFrame) -> list[Verdict]:
    """Decide the lines of `compare_claims` together.

    The paper's claims are one family for Holm's correction, controls another, and whether an effect of the
    paper's size is excluded a third. Where prompts were trained, fewer than `MIN_TRAININGS` decide nothing.
    """
    control = frame["control"].to_numpy(bool)
    few = frame["trainings"].between(1, MIN_TRAININGS - 1).to_numpy()
    clear = np.zeros(len(frame), dtype=bool)
    for family in (control, ~control):
        clear[family] = holm(frame.loc[family, "p"]) < LEVEL
    excluded = holm(frame["p_excluded"]) < LEVEL
    found = []
    for place, on_its_side in enumerate(frame["for"]):
        if control[place]:
            found.append(Verdict.SOMETHING if clear[place] and on_its_side else Verdict.NOTHING)
        elif few[place]:
            found.append(Verdict.FEW)
        elif clear[place]:
            found.append(Verdict.AGREES if on_its_side else Verdict.CONTRADICTS)
        else:
            found.append(Verdict.EXCLUDED if excluded[place] else Verdict.UNDECIDED)
    return found


def holm(p_values: Iterable[float]) -> np.ndarray:
    """Return p-values adjusted so that the chance of any false alarm among them stays below the level.

    NaN, where there is no test, stays so and counts as none.
    """
    p = np.asarray(list(p_values), float)
    order = np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")
    tested = int((~np.isnan(p)).sum())
    adjusted = np.full(len(p), math.nan)
    steps = p[order[:tested]] * (tested - np.arange(tested))
    adjusted[order[:tested]] = np.minimum(1.0, np.maximum.accumulate(steps)) if tested else []
    return adjusted


def explain_undecided(claims: pd.DataFrame) -> str:
    """Say in a sentence why lines of `read_claims` are undecided; empty where none is."""
    undecided = claims[claims["verdict"].isin([Verdict.UNDECIDED, Verdict.FEW])]
    if undecided.empty:
        return ""
    reach = 100 * float(np.median([(d.high - d.low) / 2 for d in undecided["here"]]))
    return (
        f"**Why lines stay undecided.** Their intervals reach some {reach:.1f} points to either side, more "
        "than most of the paper's own differences. Intervals shrink with the root of the number of pictures "
        "and, where prompts are trained, of the number of trainings; one training decides nothing about the "
        "next."
    )


def _compare(
    claim: Claim, runs: Mapping[str, Results], names: tuple[str, str], alpha: float, seed: int, n: int
) -> dict[str, Any]:
    """One comparison; see `compare_claims`."""
    found = contrast(runs[names[0]], runs[names[1]], alpha=alpha, share=claim.share, seed=seed, n=n)
    draws, interval = found.draws, found.interval
    return {
        "trainings": found.trainings,
        "difference": found.value,
        "low": interval.low,
        "high": interval.high,
        "p_for": _tail(draws <= -claim.margin),
        "p_against": _tail(draws >= -claim.margin),
        "p_excluded": math.nan if claim.paper is None else _tail(draws >= claim.paper),
    }


def _tail(beyond: np.ndarray) -> float:
    return float((1 + np.count_nonzero(beyond)) / (1 + len(beyond)))
