"""The paper's claims as differences of two runs on the same pairs, with what they say here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.pck import paired_difference
from sd4match_lib.utils.files import atomic_write_text

if TYPE_CHECKING:
    from sd4match_lib.evaluation.evaluate import EvaluationResult

FOLDER = "claims"
"""Below the tables: one file per notebook that tests claims."""

_COLUMNS = ("claim", "source", "seed", "difference", "low", "high")


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: that PCK under `better` is higher than under `worse`.

    Attributes:
        text: the claim in words.
        better: the name of the run that the paper says is better.
        worse: the name of the other.
        source: where the paper says so.
        at_least: whether being as good is enough.
    """

    text: str
    better: str
    worse: str
    source: str
    at_least: bool = False


def compare_claims(
    claims: Sequence[Claim],
    results: Mapping[str, Mapping[int, EvaluationResult]],
    *,
    alpha: float = 0.1,
) -> pd.DataFrame:
    """Compare runs of the same pairs, claim by claim and seed by seed.

    Args:
        claims: what to compare.
        results: run's name to seed to evaluation; both runs of a claim have the same seeds.
        alpha: PCK's alpha.

    Returns:
        One row per claim and seed: `claim`, `source`, `seed`, `difference`, `low`, `high` (95 %, fractions)
        and `at_least`.
    """
    table = []
    for claim in claims:
        for seed, better in results[claim.better].items():
            worse = results[claim.worse][seed]
            found = paired_difference(better.keypoints, worse.keypoints, alpha, seed=seed)
            cells = (claim.text, claim.source, seed, *found, claim.at_least)
            table.append(dict(zip((*_COLUMNS, "at_least"), cells, strict=True)))
    return pd.DataFrame(table)


def write_claims(frame: pd.DataFrame, tables: Path, name: str) -> Path:
    """Write what `compare_claims` found to `claims/<name>.csv` below the tables; returns the path."""
    path = tables / FOLDER / f"{name}.csv"
    atomic_write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return path


def read_claims(tables: Path) -> pd.DataFrame:
    """Return all notebooks' claims, one row each: over the seeds the mean difference and how sure it is.

    Returns:
        Columns `claim`, `paper`, `seeds`, `difference` (an `Interval`) and `here` (a verdict in words); empty
        where no notebook has tested claims yet. With one seed the interval is that of the pairs; with several
        it spans the seeds' own intervals.
    """
    files = sorted((tables / FOLDER).glob("*.csv"))
    if not files:
        return pd.DataFrame(columns=["claim", "paper", "seeds", "difference", "here"])
    frame = pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
    table = []
    for (text, source), part in frame.groupby(["claim", "source"], sort=False):
        difference = Interval(
            float(part["difference"].mean()), float(part["low"].min()), float(part["high"].max())
        )
        verdict = _verdict(difference, bool(part["at_least"].iloc[0]), part["difference"].to_numpy())
        cells = {"claim": text, "paper": source, "seeds": len(part)}
        table.append({**cells, "difference": difference, "here": verdict})
    return pd.DataFrame(table)


def explain_undecided(claims: pd.DataFrame) -> str:
    """Say in a sentence why lines of `read_claims` are undecided; empty where none is."""
    undecided = claims[claims["here"].str.startswith("undecided")]
    if undecided.empty:
        return ""
    reach = 100 * float(np.median([(d.high - d.low) / 2 for d in undecided["difference"]]))
    return (
        f"**Why lines stay undecided.** Their intervals reach some {reach:.1f} points to either side, more "
        "than most of the paper's own differences. Intervals shrink with the root of the number of pairs: "
        f"telling a difference of one point takes about {max(1, round(reach**2))} times the pairs, and more "
        "seeds, as one training differs from the next too."
    )


def _verdict(difference: Interval, at_least: bool, by_seed: np.ndarray) -> str:
    if difference.low > 0:
        return "agrees"
    if difference.high < 0:
        return "disagrees"
    if at_least:
        return "agrees (no worse)" if difference.value >= 0 else "undecided, slightly worse"
    leaning = "agreeing" if (by_seed > 0).all() else "disagreeing" if (by_seed < 0).all() else "either way"
    return f"undecided, leaning to {leaning}" if leaning != "either way" else "undecided"
