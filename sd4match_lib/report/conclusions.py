"""What the notebooks' tables come to, in a sentence or two: computed, so that it holds in every profile."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.estimates import ALPHA
from sd4match_lib.report.sentences import (
    clearly_better,
    clearly_worse,
    counted,
    difference,
    is_clear,
    listed,
    percent,
    points,
    value_of,
)

FEW_PAIRS = 5
"""Levels of a flag with fewer pairs say nothing about what makes pairs hard."""


def first_match(rows: pd.DataFrame, scored: Interval, hw_in: tuple[int, int]) -> str:
    """Say what a first evaluation found, beside what a guess would find; `hw_in` is of the network input."""
    circle = math.pi * (ALPHA * rows["theta_in"]) ** 2 / (hw_in[0] * hw_in[1])
    chance = float(circle.groupby(rows["pair_id"]).mean().mean())
    return (
        f"Of a pair's points {percent(scored)} are found on average. A blind guess would find at most "
        f"{100 * chance:.1f} %: that is the share of the picture that the circle of what counts as found "
        "covers."
    )


def what_words_are_worth(table: pd.DataFrame) -> str:
    """Say what the text and the captioner's prompt gain over the empty one, by a `prompt_table` of it."""
    told = []
    for method, part in table.groupby("method", sort=False):
        by_prompt = part.set_index("prompt")["gain over empty"]
        gains = [f"{name} {difference(by_prompt[name])}" for name in ("text", "captioner")]
        told.append(f"{method}, against the empty prompt: {listed(gains)}.")
    return " ".join(told)


def which_method_leads(first: str, second: str, gain: Interval, step: tuple[str, Interval]) -> str:
    """Say which of two methods under one prompt leads, and what `step`, one change of the second, gives."""
    order = "above" if gain.value > 0 else "below"
    return (
        f"{first} stands {order} {second}: {difference(gain)}. {step[0]} alone gives {difference(step[1])}; "
        "the rest is what else differs between the two."
    )


def what_references_say(table: pd.DataFrame, column: str, random: str) -> str:
    """Say which features of a `reference_table` lead, and what an untrained UNet (row `random`) finds."""
    here = table[~table["published"]]
    values = here.set_index("features")[column]
    learned = values.drop(random)
    best = max(learned.index, key=lambda name: value_of(learned[name]))
    below = [name for name in learned.index if value_of(learned[name]) < value_of(values[random])]
    near = [name for name in learned.index if name not in below and learned[name].low <= values[random].high]
    worse = f" Below it even: {listed(below)}." if below else ""
    alike = f" Above it with intervals that overlap its own: {listed(near)}." if near else ""
    return (
        f"{best} leads with {percent(values[best])}. A UNet that learned nothing still finds "
        f"{percent(values[random])}.{worse}{alike}"
    )


def spread_over(frame: pd.DataFrame, label: str, column: str) -> str:
    """Say how far a column's values lie apart; `label` names the rows, of which "all" is left out."""
    parts = frame[frame[label] != "all"].reset_index(drop=True)
    values = parts[column].map(value_of).to_numpy()
    low, high = int(values.argmin()), int(values.argmax())
    return (
        f"Between {parts[label][low]} ({percent(values[low])}) and {parts[label][high]} "
        f"({percent(values[high])}) lie {100 * (values[high] - values[low]):.0f} points, so a mean over "
        "other categories would be another number."
    )


def what_starts_are_worth(gains: pd.DataFrame, starts: Sequence[str]) -> str:
    """Say how prompts that nobody learned stand against the text prompt, by a `prompt_table` of it."""
    by_prompt = gains.set_index("prompt")["gain over text"]
    told = [f"{name} {points(by_prompt[name].value)}" for name in starts]
    return f"Against the text prompt, in points: {listed(told)}."


def where_gains_are(gains: pd.DataFrame, better: str, worse: str) -> str:
    """Say in how many categories of `spair_table.category_gains` a method is above another."""
    values = gains["gain"].map(value_of)
    clear = clearly_better(gains["gain"])
    behind = gains["category"][values < 0].tolist()
    most = gains.iloc[int(values.to_numpy().argmax())]
    where = f"It is behind in {listed(behind)}." if behind else "It is behind in none."
    return (
        f"{better} is above {worse} in {int((values > 0).sum())} of {len(gains)} categories, clearly in "
        f"{clear}; most in {most['category']} ({points(most['gain'].value)} points). {where}"
    )


def what_makes_pairs_hard(table: pd.DataFrame, method: str, column: str) -> str:
    """Say which of SPair-71k's flags costs a method most between its first and its last level.

    Levels of fewer than `FEW_PAIRS` pairs are left out; the table is of `spair_table.difficulty_table`.
    """
    told = []
    known = table[(table["method"] == method) & (table["pairs"] >= FEW_PAIRS)]
    for flag, part in known.groupby("flag", sort=False):
        if len(part) > 1:
            first, last = part.iloc[0], part.iloc[-1]
            lost = value_of(first[column]) - value_of(last[column])
            levels = [f"{row['level']} {percent(row[column])}" for row in (first, last)]
            told.append((lost, f"{flag} ({', '.join(levels)}, {counted(last['pairs'], 'pair')})"))
    if not told:
        return f"No flag has two levels of {FEW_PAIRS} pairs, which is too few to say what makes pairs hard"
    told.sort(key=lambda item: -item[0])
    rest = f"; then {listed([text for _, text in told[1:]])}" if len(told) > 1 else ""
    return f"For {method} the largest step is {told[0][1]}{rest}."


def how_methods_fail(table: pd.DataFrame) -> str:
    """Say which kind of wrong point each method has most of, by an `errors.error_table`."""
    told = []
    for _, row in table.iterrows():
        wrong = {kind: value_of(row[kind]) for kind in ("jitter", "swap", "miss")}
        total = sum(wrong.values())
        if total > 0:
            kind = max(wrong, key=lambda name: wrong[name])
            told.append(f"{row['method']} {kind} ({100 * wrong[kind] / total:.0f} %)")
    return f"Most frequent among wrong points: {listed(told)}."


def what_travels(table: pd.DataFrame) -> str:
    """Say what learning gave on the data set that was tuned on and on others, by a `studies.travel_table`."""
    told = []
    for where, part in (("its own", table[table["home"]]), ("another", table[~table["home"]])):
        gains = part["gain by learning"].tolist()
        up, down = clearly_better(gains), clearly_worse(gains)
        mean = float(np.mean([value_of(cell) for cell in gains]))
        told.append(
            f"On {where} data set learning gave {points(mean)} points on average "
            f"({up} of {len(gains)} clearly up, {down} clearly down)."
        )
    return f"{told[0]} {told[1]}"


def which_tuning_serves(table: pd.DataFrame) -> str:
    """Say what a tuning elsewhere gives against one at home, by a `studies.abroad_over_home`."""
    told = [
        f"{row['method']}, tuned on {row['tuned on']}, has {difference(row['difference'])} on "
        f"{row['tested on']} over the same tuned there"
        for _, row in table.iterrows()
    ]
    return f"{'; '.join(told)}."


def what_parts_are_worth(table: pd.DataFrame, paper: str) -> str:
    """Say which case of a `studies.ablation_table` loses most, and which differ in sign from the paper's."""
    others = table.iloc[1:]
    values = others["against the first"].map(value_of)
    printed = others[paper] - table[paper].iloc[0]
    clear = _clear(others, "case", "against the first")
    turned = others["case"][(values * printed < 0).to_numpy()].tolist()
    most = others.iloc[int(values.to_numpy().argmin())]
    lost = f"Lowest is {most['case']}: {difference(most['against the first'])}."
    differ = (
        f"On another side of the first than in the paper, clearly or not: {listed(turned)}."
        if turned
        else "All stand on the side of the first where the paper has them."
    )
    return f"{lost} Clear of zero: {listed(clear)}. {differ}"


def _clear(table: pd.DataFrame, label: str, column: str) -> list[str]:
    """The rows of which a difference is clear of zero, with it in points."""
    cells = zip(table[label], table[column], strict=True)
    return [f"{name} ({points(cell.value)})" for name, cell in cells if is_clear(cell)]


def does_the_start_matter(table: pd.DataFrame) -> str:
    """Say what other starts gain over random words, by a `studies.initialisation_table`."""
    told = []
    for _, row in table[table["against random"].notna()].iterrows():
        told.append(f"{row['prompt']} from '{row['start']}' {difference(row['against random'])}")
    return f"Against the same prompt from random words: {'; '.join(told)}."


def does_size_matter(table: pd.DataFrame) -> str:
    """Say what sizes other than the native one give, by a `studies.size_table`."""
    parts = table[table["against native"].notna()]
    told = [f"{row['size']} {difference(row['against native'])}" for _, row in parts.iterrows()]
    return f"Against the native size: {'; '.join(told)}."


def how_paintings_are_named(table: pd.DataFrame, namer: str) -> str:
    """Say how many paintings of a `naming.naming_table` `namer` names right, beside real ones and a guess."""
    real, guess = table.iloc[0], table.iloc[-1]
    told = [
        f"{row['named right']} of {row['number']} from the {row['pictures']}"
        for _, row in table[1:-1].iterrows()
    ]
    return (
        f"{namer[0].upper()}{namer[1:]} names {real['named right']} of {real['number']} real pictures right "
        f"({percent(real['share'])}; a guess {percent(guess['share'])}), and of the paintings {listed(told)}."
    )


def which_maps_are_sharpest(table: pd.DataFrame) -> str:
    """Say which maps of a `maps.measures_table` lie most on the object, and what the text changes."""
    inside, lead = (table.set_index("prompt")[name] for name in ("inside the object", "lead of the peak"))
    best = {
        name: max(column.index, key=lambda key: value_of(column[key]))
        for name, column in (("inside", inside), ("lead", lead))
    }
    change = value_of(lead["text"]) - value_of(lead["empty"])
    apart = lead["text"].low > lead["empty"].high or lead["text"].high < lead["empty"].low
    return (
        f"Most of the map lies on the object under {best['inside']} ({percent(inside[best['inside']])}); the "
        f"peak stands out most under {best['lead']}. Under the text prompt its lead is {points(change)} "
        f"hundredths against the empty one (the intervals {'lie apart' if apart else 'overlap'}), and "
        f"{percent(inside['text'])} of the map lie on the object against {percent(inside['empty'])}."
    )


def what_is_listened_to(table: pd.DataFrame, column: str, nothing: float) -> str:
    """Say how what a prompt listens to, the first row, differs from its untrained start, the second.

    `nothing` is what a module that tells nothing apart would have.
    """
    learned, start = (table[column].iloc[place] for place in (0, 1))
    apart = learned.low > start.high or learned.high < start.low
    told = [
        f"the {name} module has {percent(cell)} ({percent(cell.low)} to {percent(cell.high)})"
        for name, cell in (("learned", learned), ("untrained", start))
    ]
    return (
        f"Where {percent(nothing)} means that nothing is told apart, {listed(told)}; the two intervals "
        f"{'lie apart' if apart else 'overlap'}."
    )


def what_place_explains(by_place: Mapping[str, float]) -> str:
    """Say how much of what modules listen to hangs on the place alone, by name; see `saliency.Saliency`."""
    told = [f"{100 * share:.0f} % ({name})" for name, share in by_place.items()]
    return f"The place alone, whatever stands there, explains {listed(told)} of what patches differ by"


def how_far_prompts_reach(table: pd.DataFrame) -> str:
    """Say which prompts move the features most and least, and which less than noise does, the last row."""
    prompts, noise = table.iloc[:-1].set_index("prompt"), table["its features"].iloc[-1]
    reach = prompts["its features"].map(value_of).sort_values(kind="stable")
    told = [f"{name} {percent(reach[name])}" for name in (reach.index[-1], reach.index[0])]
    below = list(reach.index[reach < value_of(noise)])
    return (
        f"Of the features' norm, {told[0]} and {told[1]} are the farthest and the nearest move; noise alone "
        f"moves them by {percent(noise)}, farther than {listed(below)}."
    )


def what_options_give(table: pd.DataFrame) -> str:
    """Say which options of an `option_study.option_table` clearly change PCK on these pairs."""
    known = table[table["gain"].notna()]
    clear = listed(_clear(known, "option", "gain"))
    return f"Of {len(known)} options that can be compared, clear of zero are: {clear}."


def does_it_hurt(gains: pd.DataFrame, place: str) -> str:
    """Say what learning did to PCK on other keypoints or categories than training's.

    The gains are of a `prompt_table` with starts, its method column named `place`.
    """
    told = []
    for where, part in gains[gains["gain by learning"].notna()].groupby(place, sort=False):
        each = [f"{row['prompt']} {points(row['gain by learning'].value)}" for _, row in part.iterrows()]
        down = clearly_worse(part["gain by learning"])
        named = where if place in where else f"{place} {where}"
        told.append(f"on {named} {listed(each)} points (clearly worse: {down} of {len(part)})")
    return f"Learning gave {'; '.join(told)}."


def who_is_ahead(ranking: pd.DataFrame) -> str:
    """Say who shares the first place of a `leaderboard.rank`, and how far the last lies behind."""
    first = ranking["method"][ranking["rank"] == 1].tolist()
    together = f"{first[0]} alone has" if len(first) == 1 else f"{listed(first)} share"
    last = ranking.iloc[-1]
    gap = f"{-100 * last['behind'].value:.1f}" if last["behind"] is not None else "0"
    return f"{together} the first place; the last, {last['method']}, lies {gap} points behind."


def how_flat_curves_are(curves: pd.DataFrame, column: str) -> str:
    """Say how much each method of a `studies.sweep_table` loses from its best timestep to its worst."""
    lost = {}
    for method, part in curves.groupby("method", sort=False):
        values = part[column].map(value_of)
        lost[str(method)] = float(values.max() - values.min())
    order = sorted(lost, key=lambda name: lost[name])
    told = [f"{name} {100 * lost[name]:.1f}" for name in order]
    return f"Points between a method's best and worst timestep, the flattest first: {listed(told)}."
