"""The experiments beyond the paper (docs/beyond_the_paper.md): the ideas, their table, and its outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from sd4match_lib.config.profile import Profile
from sd4match_lib.data.symmetry import Symmetry
from sd4match_lib.metrics.averages import known_rows
from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.metrics.errors import error_kinds, on_twins
from sd4match_lib.report.estimates import Results, estimate, one_of, scores, with_values
from sd4match_lib.report.sentences import clearly_worse, difference, listed

REFERENCE = "reference"
AGAINST = "against the reference"
ALPHAS = (0.01, 0.05, 0.10)
LEARNED = "gain by learning"
BY_CHANCE = 0.025
"""How often a 95 % interval of a difference that is zero lies above it."""
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
            f"B (weight {weight}): distance beside it",
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
        cells = scores(run, {LEARNED: starts[idea, prompt, steps]})
        other = runs[REFERENCE, prompt, steps]
        for alpha in ALPHAS:
            cells[against(alpha)] = None if idea == REFERENCE else estimate(run, other, alpha=alpha)
        table.append({"idea": idea, "prompt": prompt, "steps": steps, **cells})
    return pd.DataFrame(table)


def failures_table(
    runs: Mapping[tuple[str, str, int], Results],
    starts: Mapping[tuple[str, str, int], Results],
    symmetry: Symmetry | None,
) -> pd.DataFrame:
    """Tabulate PCK-dagger and the twin rate at 0.10, each also against the own start and the reference.

    Args:
        runs, starts: as for `experiment_table`.
        symmetry: which keypoints are twins.

    Returns:
        One row per entry: `idea`, `prompt`, `steps`, and of each measure three columns of `Interval`: its
        name, and it with "by learning" and with `AGAINST` behind (None for the reference). The twin rate,
        of which less is better, is left out where nobody names twins or no target shows one.
    """
    measures = {"PCK-dagger": _dagger}
    first = one_of(next(iter(runs.values()))).keypoints
    if symmetry is not None and len(on_twins(first, symmetry, 0.10)):
        measures["twin rate"] = partial(_twin, symmetry)
    table = []
    for (idea, prompt, steps), run in runs.items():
        cells: dict[str, Any] = {"idea": idea, "prompt": prompt, "steps": steps}
        for name, measure in measures.items():
            others = run, starts[idea, prompt, steps], runs[REFERENCE, prompt, steps]
            own, start, other = (with_values(result, measure) for result in others)
            cells[name], cells[f"{name}, by learning"] = estimate(own), estimate(own, start)
            cells[f"{name}, {AGAINST}"] = None if idea == REFERENCE else estimate(own, other)
        table.append(cells)
    return pd.DataFrame(table)


def _dagger(rows: pd.DataFrame) -> pd.DataFrame:
    return known_rows(rows, 0.10, "in").assign(value=error_kinds(rows, 0.10) == "correct")


def _twin(symmetry: Symmetry, rows: pd.DataFrame) -> pd.DataFrame:
    return on_twins(rows, symmetry, 0.10).rename(columns={"on_twin": "value"})


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


def chosen(found: Mapping[str, str], controls: Mapping[str, Interval]) -> list[str]:
    """Return what the test split is looked at for: the reference, and the ideas that help.

    Args:
        found: of `verdicts`.
        controls: gain over its own start of a training on shuffled correspondences, for the reference and for
            every idea that helps. Where the reference's gains, nothing is chosen, and no idea whose own does.
    """
    sound = {idea for idea, gain in controls.items() if not gain.low > 0}
    helps = [idea for idea, said in found.items() if said == "helps" and {idea, REFERENCE} <= sound]
    return [REFERENCE, *helps]


def what_experiments_say(found: Mapping[str, str], controls: Mapping[str, Interval]) -> str:
    """Say which ideas help, are refuted or open, and whether the measure itself holds.

    Args:
        found, controls: as for `chosen`.
    """
    if controls[REFERENCE].low > 0:
        return "The negative control gains over its start: the measure is broken, and nothing is concluded."
    parts = []
    for verdict in ("helps", "refuted", "open"):
        parts.append(f"{verdict}: {_letters(idea for idea, said in found.items() if said == verdict)}")
    told = f"By their gains over the reference, {'; '.join(parts)}. The reference's control gains nothing."
    spoiled = [idea for idea, gain in controls.items() if gain.low > 0]
    return f"{told} Not chosen, because its own control gains too: {_letters(spoiled)}." if spoiled else told


def what_choosing_costs(table: pd.DataFrame, ideas: Sequence[Idea]) -> str:
    """Say how many differences the choice was made from, and how often chance alone would choose something.

    An idea that does nothing helps by chance only where a difference that was named before lies above zero,
    at one of its thresholds; the bound adds these up over thresholds and ideas.

    Args:
        table: of `experiment_table`.
        ideas: of `planned_ideas`.
    """
    judged = {idea.name: len(idea.alphas) for idea in ideas[1:]}
    looked = sum(judged[idea] for idea in table["idea"] if idea in judged)
    bound = min(1.0, BY_CHANCE * sum(judged.values()))
    return (
        f"{len(judged)} ideas and settings were judged by {looked} differences on validation. If none did "
        f"anything, one or more would be chosen in at most {100 * bound:.1f} % of such experiments."
    )


def what_the_test_says(seen: pd.DataFrame, unseen: pd.DataFrame) -> str:
    """Say what chosen ideas gain over the reference on test pairs; without one, what learning gave there.

    Args:
        seen: `experiment_table` of the test pairs.
        unseen: the same of keypoints that no training used.
    """
    parts = []
    for place, table in (("test pairs", seen), ("unseen keypoints", unseen)):
        ideas = table[table["idea"] != REFERENCE]
        rows, column = (ideas, against(0.10)) if len(ideas) else (table, LEARNED)
        told = [
            f"{_letters([idea])}, {prompt}, {steps} steps {difference(gain)}"
            for idea, prompt, steps, gain in rows[["idea", "prompt", "steps", column]].itertuples(index=False)
        ]
        parts.append(f"On {place}, {column}: {'; '.join(told)}.")
    return " ".join(parts)


def _letters(ideas: Iterable[str]) -> str:
    return listed(list(dict.fromkeys(idea.partition(":")[0] for idea in ideas)))
