"""The experiments beyond the paper (docs/beyond_the_paper.md): the ideas, their table, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.report.estimates import Results, estimate
from sd4match_lib.report.sentences import clearly_worse, listed

REFERENCE = "reference"
AGAINST = "against the reference"
ALPHAS = (0.01, 0.05, 0.10)
SMALLEST_GAIN = 0.005
"""A gain that an interval excludes makes an idea refuted: half a point, as the plan says."""


@dataclass(frozen=True)
class Idea:
    """One switch of the plan.

    Attributes:
        name: what tables call it.
        hypothesis: what is expected of it.
        refuted_when: what would say otherwise.
        parts: part of the profile -> the settings that it changes.
        options: of the prompt's class.
        kinds: the prompts that know it.
        alphas: the thresholds at any of which it may help.
        strict: whether it is refuted by not helping.
    """

    name: str
    hypothesis: str
    refuted_when: str
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("single", "cpm")
    alphas: tuple[float, ...] = (0.10,)
    strict: bool = False


def planned_ideas(profile: Profile, weights: Sequence[float]) -> list[Idea]:
    """Return the reference and the plan's ideas.

    Args:
        profile: the experiment.
        weights: of the distance in idea B.
    """
    no_gain = "every gain's interval excludes half a point, or one lies below zero"
    layers = profile.features.layer, *profile.baselines.sd_dino.layers
    test_t = {"train_timestep": profile.features.timestep}
    distances = [
        Idea(
            f"B: distance beside it, weight {weight}",
            "the test's matcher is learned for, which should show at small alpha first",
            "no gain at any of 0.01, 0.05, 0.10 whose interval excludes zero",
            {"training": {"distance_weight": weight}},
            alphas=ALPHAS,
            strict=True,
        )
        for weight in weights
    ]
    both = {"training": {"both_directions": True}}
    mixture = {"training": {"mixture": tuple(dict.fromkeys(layers))}}
    twice = "twice the matches for one pass: half the variance of a step"
    return [
        Idea(REFERENCE, "", ""),
        Idea("A: trained at the test's step", "nothing is lost on the way", no_gain, {"features": test_t}),
        *distances,
        Idea(
            "C: both directions", twice, "no gain, or one that is gone at twice the steps", both, strict=True
        ),
        Idea(
            "D: normalised vision tokens",
            "rates fit whatever the tokens' scale is",
            "CPM with it is no better than CPM without",
            options={"normalise": True},
            kinds=("cpm",),
            strict=True,
        ),
        Idea("E: layers mixed", "other layers hold what the one has lost", no_gain, mixture),
    ]


def plan_table(ideas: Sequence[Idea]) -> pd.DataFrame:
    """Return hypothesis, switch and what would refute it, one row per idea: written before any run."""
    rows = []
    for idea in ideas[1:]:
        settings = {name: value for part in idea.parts.values() for name, value in part.items()}
        switch = ", ".join(f"{name} = {value}" for name, value in (settings | dict(idea.options)).items())
        told = {"idea": idea.name, "switch": switch, "hypothesis": idea.hypothesis}
        rows.append(told | {"refuted when": idea.refuted_when})
    return pd.DataFrame(rows)


def experiment_table(
    runs: Mapping[tuple[str, str, int], Results], starts: Mapping[tuple[str, str, int], Results]
) -> pd.DataFrame:
    """Tabulate ideas against the reference of the same prompt and steps, and against their own starts.

    Args:
        runs: (idea, prompt, steps) to its evaluation, `REFERENCE` among the ideas.
        starts: the same, untrained.

    Returns:
        One row per entry: `idea`, `prompt`, `steps`, `PCK@0.10`, `gain by learning` (at 0.10), and for each
        of `ALPHAS` `AGAINST` with it behind (`Interval`; None for the reference).
    """
    table = []
    for (idea, prompt, steps), run in runs.items():
        cells = {"idea": idea, "prompt": prompt, "steps": steps, "PCK@0.10": estimate(run)}
        cells["gain by learning"] = estimate(run, starts[idea, prompt, steps])
        for alpha in ALPHAS:
            other = runs[REFERENCE, prompt, steps]
            cells[against(alpha)] = None if idea == REFERENCE else estimate(run, other, alpha=alpha)
        table.append(cells)
    return pd.DataFrame(table)


def against(alpha: float) -> str:
    """Return the column of differences to the reference at a threshold."""
    return f"{AGAINST} @{alpha:.2f}"


def verdicts(table: pd.DataFrame, ideas: Sequence[Idea]) -> dict[str, str]:
    """Judge each idea: it `helps`, is `refuted`, or that is `open`.

    Args:
        table: of `experiment_table`.
        ideas: of `planned_ideas`.

    Returns:
        It helps where its gain's interval lies above zero under every prompt and number of steps, at one of
        its `alphas`; else it is refuted where it is `strict`, where a gain at 0.10 lies below zero, or where
        all exclude `SMALLEST_GAIN`.
    """
    found = {}
    for idea in ideas[1:]:
        part = table[table["idea"] == idea.name]
        gains = list(part[against(0.10)])
        if any(all(gain.low > 0 for gain in part[against(alpha)]) for alpha in idea.alphas):
            found[idea.name] = "helps"
        elif idea.strict or clearly_worse(gains) or all(gain.high < SMALLEST_GAIN for gain in gains):
            found[idea.name] = "refuted"
        else:
            found[idea.name] = "open"
    return found


def what_experiments_say(
    table: pd.DataFrame, ideas: Sequence[Idea], control: Results, control_start: Results
) -> str:
    """Say which ideas help, are refuted or open, and whether the measure itself holds.

    Args:
        table: of `experiment_table`.
        ideas: of `planned_ideas`.
        control: a training on shuffled correspondences.
        control_start: what it began with.
    """
    gain = estimate(control, control_start)
    if gain.low > 0:
        return "The negative control gains over its start: the measure is broken, and nothing is concluded."
    found = verdicts(table, ideas)
    parts = []
    for verdict in ("helps", "refuted", "open"):
        names = [idea.partition(":")[0] for idea, said in found.items() if said == verdict]
        parts.append(f"{verdict}: {listed(list(dict.fromkeys(names))) if names else 'none'}")
    return f"By their gains over the reference, {'; '.join(parts)}. The negative control gains nothing."
