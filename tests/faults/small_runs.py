"""Small evaluations, trainings and scorings on tiny models, and what of them must come out the same."""

from __future__ import annotations

import dataclasses
import os

ALL = os.environ.get("SD4MATCH_FAULTS") == "all"
"""Whether everything is tried, which takes minutes, and not a part of it."""


def in_folder(profile, folder):
    """Return the profile with results and cache in a folder of their own."""
    return dataclasses.replace(profile, results_dir=str(folder / "results"), cache_dir=str(folder / "cache"))


def run_evaluation(profile):
    """Evaluate; the rows are what must come out the same."""
    from sd4match_lib.evaluation.evaluate import evaluate

    result = evaluate(profile, dataset="own", device="cpu")
    return (result.folder / "keypoints.parquet").read_bytes()


def run_training(profile, kind="single"):
    """Learn a prompt; its weights and its log without the seconds must come out the same."""
    from sd4match_lib.prompts.prompt_file import weights_hash
    from sd4match_lib.training.train import train

    length = {"length_global": 2, "length_condition": 2} if kind == "cpm" else {"length": 4}
    result = train(profile, kind, dataset="own", device="cpu", options=length)
    log = [line.split(",") for line in (result.folder / "log.csv").read_text().splitlines()]
    return weights_hash(result.prompt.state_dict()), [[step, *rest] for step, _seconds, *rest in log]


def run_class_training(profile):
    """Learn a prompt for each category."""
    return run_training(profile, "class")


def run_cpm_training(profile):
    """Learn the conditional prompting module."""
    return run_training(profile, "cpm")


def run_score(profile):
    """Score the truth; the rows must come out the same."""
    from sd4match_lib.data.datasets import open_dataset
    from sd4match_lib.evaluation.score import score

    config = profile.datasets["own"]
    rows = ["pair_id,keypoint,x,y"]
    for pair in open_dataset(config, "test"):
        for keypoint, (x, y) in zip(pair.keypoint_ids, pair.trg_px.tolist(), strict=True):
            rows.append(f"{pair.pair_id},{keypoint},{x},{y}")
    path = config.path.parent / "predictions.csv"
    if not path.exists():
        path.write_text("\n".join(rows) + "\n")
    result = score(profile, path, dataset="own")
    return (result.folder / "keypoints.parquet").read_bytes()
