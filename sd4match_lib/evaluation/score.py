"""Scoring the points that any other system predicted, by the code that scores this library's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from sd4match_lib.config.profile import Profile
from sd4match_lib.data.types import PairDataset
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import KEYPOINTS_FILE, EvaluationResult, open_pairs, pck_metrics
from sd4match_lib.evaluation.predictions import parse_frame, read_predictions, to_input, write_template
from sd4match_lib.metrics.keypoints import keypoint_frame, read_keypoints, score_pair, write_keypoints
from sd4match_lib.runs.store import open_run
from sd4match_lib.utils.files import sha256_file
from sd4match_lib.utils.fingerprint import tree_hash
from sd4match_lib.utils.paths import package_path, user_path

KIND = "score"
"""What records call these runs; the reports find them by it."""

Supervision = Literal["Z", "I", "K"]
"""What a system learned from: zero-shot, image labels, or keypoints (paper, Table 2)."""

_LONGEST_NAME = 80

_CODE = ("data/**/*.py", "geometry.py", "evaluation/predictions.py", "metrics/keypoints.py")


def score(
    profile: Profile,
    predictions: Path | str,
    *,
    dataset: str,
    split: str = "test",
    data_root: Path | str | None = None,
    frame: str = "px",
    method: str | None = None,
    supervision: Supervision = "K",
    max_pairs: int | None = None,
    results_dir: Path | str | None = None,
) -> EvaluationResult:
    """Score a CSV file of predicted points; `predictions.COLUMNS` says what it must hold.

    The rows have the same columns as `evaluate`'s, so every PCK and paired difference is taken alike.

    Args:
        profile: the experiment; says where the data is and which frame points are scored in.
        predictions: the file.
        dataset: a data set of the profile; with `data_root` also the name of a layout that it does not have.
        split: "train", "val" or "test".
        data_root: the data set's folder, instead of the profile's.
        frame: what the coordinates are: "px" (original target picture) or "<height>x<width>" (stretched).
        method: what tables call the system; the file's name when None.
        supervision: which group of Table 2 it belongs to.
        max_pairs: the evenly spaced subset that the file covers; None is the whole split.
        results_dir: the run lies in `runs/` below it.

    Raises:
        UserError: the file does not cover the pairs, or its frame cannot be right.
    """
    path = user_path(predictions)
    name = method or path.stem
    check_method(name)
    in_path = re.sub("[^A-Za-z0-9.+-]+", "_", name)
    hw_frame = parse_frame(frame)
    pairs = _some_pairs(profile, dataset, split, data_root, max_pairs)
    all_pairs = list(pairs)
    points = read_predictions(path, all_pairs, hw_frame)
    hw_in = profile.model.image_hw
    run = open_run(
        profile.results_path if results_dir is None else results_dir,
        f"{dataset}-{split}-{KIND}-{in_path}",
        KIND,
        {
            "dataset": dataset,
            "split": split,
            "pairs": len(pairs),
            "method": name,
            "supervision": supervision,
            "frame": frame,
            "image_hw": hw_in,
        },
        {
            "predictions": sha256_file(path),
            "data": pairs.fingerprint(),
            "code": tree_hash(package_path(""), _CODE),
        },
        profile=profile.name,
        seed=profile.seed,
    )
    alphas = profile.evaluation.alphas
    reused = run.complete
    if not reused:
        with run:
            reused = run.complete
            if not reused:
                rows = keypoint_frame(
                    row
                    for pair, found in zip(all_pairs, points, strict=True)
                    for row in score_pair(pair, to_input(pair, found, hw_frame, hw_in), hw_in)
                )
                write_keypoints(rows, run.output(KEYPOINTS_FILE))
                run.metrics.update(pck_metrics(rows, alphas, profile.seed))
    rows = read_keypoints(run.folder / KEYPOINTS_FILE)
    return EvaluationResult(rows, run.record, run.folder, alphas, reused)


def check_method(name: str) -> None:
    """Refuse a name that tables and folders cannot use.

    Raises:
        UserError: it is empty, too long, or holds "/" or what cannot be printed.
    """
    if not name.strip() or "/" in name or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UserError(f"the method's name is {name!r}; give one that tables and folders can use.")


def template(
    profile: Profile,
    path: Path | str,
    *,
    dataset: str,
    split: str = "test",
    data_root: Path | str | None = None,
    max_pairs: int | None = None,
) -> int:
    """Write the form that `score` reads once its x and y are filled in; returns the number of keypoints.

    Args:
        profile, dataset, split, data_root, max_pairs: as for `score`.
        path: the file to write; it must not exist.
    """
    return write_template(user_path(path), list(_some_pairs(profile, dataset, split, data_root, max_pairs)))


def _some_pairs(
    profile: Profile, dataset: str, split: str, root: Path | str | None, max_pairs: int | None
) -> PairDataset:
    pairs = open_pairs(profile, dataset, split, root, max_pairs)
    if not len(pairs):
        raise UserError(f"{dataset} {split} at {pairs.root} has no pairs to score; name another split.")
    return pairs
