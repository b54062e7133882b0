"""Table 1: methods under several prompts, with what a prompt gains over the empty one."""

from collections.abc import Mapping

import pandas as pd

from sd4match_lib.report.estimates import Results, estimate, one_of, scores
from sd4match_lib.report.published import lookup
from sd4match_lib.report.sentences import difference
from sd4match_lib.report.tables import PUBLISHED


def prompt_table(
    results: Mapping[tuple[str, str], Results],
    alpha: float = 0.1,
    *,
    reference: str = "empty",
    starts: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Tabulates evaluations of the same pairs by method and prompt (paper, Table 1).

    Args:
        results: (method, prompt) to its evaluation, or to one a training seed; every method must have been
            run with `reference` too.
        alpha: PCK's alpha.
        reference: the prompt that the others are compared with.
        starts: a learned prompt to the one that its training started from; gives a column of its own.

    Returns:
        One row per entry: `method`, `prompt`, `pairs`, `PCK@<alpha>`, `gain over <reference>` and, with
        `starts`, `gain by learning`: `Interval` over the same pairs, None where nothing is compared; all as
        fractions.
    """
    rows = []
    for (method, prompt), result in results.items():
        against = {f"gain over {reference}": None if prompt == reference else results[method, reference]}
        if starts is not None:
            against["gain by learning"] = results[method, starts[prompt]] if prompt in starts else None
        pairs = one_of(result).keypoints["pair_id"].nunique()
        rows.append({"method": method, "prompt": prompt, "pairs": pairs, **scores(result, against, alpha)})
    return pd.DataFrame(rows)


def reference_table(results: Mapping[str, Results], alpha: float = 0.1) -> pd.DataFrame:
    """Tabulate other features on the same pairs, with DIFT's printed number marked as the paper's."""
    column = f"PCK@{alpha:.2f}"
    rows = [
        {"features": name, column: estimate(run, alpha=alpha), PUBLISHED: False}
        for name, run in results.items()
    ]
    printed = lookup("table2", "DIFT", "all", alpha)
    return pd.DataFrame([*rows, {"features": "DIFT", column: printed, PUBLISHED: True}])


def what_learning_gave(table: pd.DataFrame, trainings: int = 1) -> str:
    """Say of each prompt, learned `trainings` times, what it gained over its start and over the text prompt.

    The table is of `prompt_table`, with the reference "text" and with starts.
    """
    told = []
    for _, row in table[table["gain by learning"].notna()].iterrows():
        told.append(
            f"{row['prompt']}: learning gave {difference(row['gain by learning'])}; against the text prompt "
            f"it stands at {difference(row['gain over text'])}."
        )
    once = "The intervals are over pictures; another training would give another number."
    return " ".join([*told, once if trainings == 1 else "The intervals are over pictures and trainings."])
