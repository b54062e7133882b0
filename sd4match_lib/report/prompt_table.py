"""Table 1: methods under several prompts, with what a prompt gains over the empty one."""

from collections.abc import Mapping

import pandas as pd

from sd4match_lib.evaluation.evaluate import EvaluationResult
from sd4match_lib.metrics.pck import bootstrap_interval, paired_difference


def prompt_table(
    results: Mapping[tuple[str, str], EvaluationResult], alpha: float = 0.1, *, reference: str = "empty"
) -> pd.DataFrame:
    """Tabulates evaluations of the same pairs by method and prompt (paper, Table 1).

    Args:
        results: (method, prompt) to its evaluation; every method must have been run with `reference` too.
        alpha: PCK's alpha.
        reference: the prompt that the others are compared with.

    Returns:
        One row per entry: `method`, `prompt`, `pairs`, `PCK@<alpha>` and `gain over <reference>`, an
        `Interval` over the same pairs (None for the reference itself); both as fractions.
    """
    rows = []
    for (method, prompt), result in results.items():
        base = results[method, reference].keypoints
        seed = result.record.seed
        gain = None if prompt == reference else paired_difference(result.keypoints, base, alpha, seed=seed)
        rows.append(
            {
                "method": method,
                "prompt": prompt,
                "pairs": result.keypoints["pair_id"].nunique(),
                f"PCK@{alpha:.2f}": bootstrap_interval(result.keypoints, alpha, seed=seed),
                f"gain over {reference}": gain,
            }
        )
    return pd.DataFrame(rows)
