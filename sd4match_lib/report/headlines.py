"""What a figure shows, in one line above it: computed, so that it is true in every profile."""

from collections.abc import Sequence

import pandas as pd

from sd4match_lib.report.sentences import clearly_worse, listed, percent, points, value_of


def highest_and_lowest(frame: pd.DataFrame, label: str | Sequence[str], column: str) -> str:
    """Say in a line which rows are highest and lowest in a column; `label` names the rows."""
    known = frame[frame[column].map(value_of).notna()]
    values = known[column].map(value_of).to_numpy()
    labels = [label] if isinstance(label, str) else list(label)
    best, worst = (known.iloc[place] for place in (int(values.argmax()), int(values.argmin())))
    names = [", ".join(str(row[name]) for name in labels) for row in (best, worst)]
    return f"Highest: {names[0]} ({percent(best[column])}); lowest: {names[1]} ({percent(worst[column])})"


def words_headline(table: pd.DataFrame) -> str:
    """Say in a line what the text prompt gains over the empty one, by a `prompt_table` of it."""
    told = table[table["prompt"] == "text"]
    gains = [f"{row['method']} {points(row['gain over empty'].value)}" for _, row in told.iterrows()]
    return f"Naming the category against saying nothing: {listed(gains)} points"


def travel_headline(table: pd.DataFrame) -> str:
    """Say in a line what learning gave at home and abroad, by a `studies.travel_table`."""
    home, abroad = (
        float(part["gain by learning"].map(value_of).mean())
        for part in (table[table["home"]], table[~table["home"]])
    )
    return (
        f"Learning gave {points(home)} points on its own data set and {points(abroad)} on others, on average"
    )


def parts_headline(table: pd.DataFrame) -> str:
    """Say in a line how many cases of a `studies.ablation_table` are clearly worse, and which is lowest."""
    others = table.iloc[1:]
    most = others.iloc[int(others["against the first"].map(value_of).to_numpy().argmin())]
    gap, down = points(most["against the first"].value), clearly_worse(others["against the first"])
    return f"Clearly worse than CPM: {down} of {len(others)} cases; lowest: {most['case']} ({gap} points)"


def naming_headline(table: pd.DataFrame, namer: str) -> str:
    """Say in a line how many pictures of each source of a `naming.naming_table` are named right, by whom."""
    told = [
        f"{row['pictures']} {row['named right']} of {row['number']}" for _, row in table.iloc[:-1].iterrows()
    ]
    return f"Named right by {namer}: {listed(told)}"


def hurt_headline(gains: pd.DataFrame, place: str) -> str:
    """Say in a line how many learned prompts are clearly worse than their own starts; see `does_it_hurt`."""
    told = []
    for where, part in gains[gains["gain by learning"].notna()].groupby(place, sort=False):
        down = clearly_worse(part["gain by learning"])
        told.append(f"{down} of {len(part)} on {where}")
    return f"Clearly worse by learning: {listed(told)}"
