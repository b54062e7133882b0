"""Pairs that show two objects each, of which one category is common: does a prompt of the pair listen to it?

The paper shows by examples that CPM's prompt "focuses on the object with the same semantic meaning"
(Sec. 4.4, Fig. 5). Here such pairs are put together from a data set's own pictures, half of the size and side
by side.
"""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sd4match_lib.analysis.localisation import Localisation, write_rows
from sd4match_lib.analysis.prompts import pair_batch, patch_saliency
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import open_pairs
from sd4match_lib.prompts.base import Prompt
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.runs.store import open_run
from sd4match_lib.utils.files import atomic_write_bytes, sha256_text
from sd4match_lib.utils.fingerprint import method_hash, tree_hash
from sd4match_lib.utils.paths import package_path

_FILE = "shares.parquet"
_GREY = (128, 128, 128)
_BATCH = 16


def common_object_share(
    profile: Profile,
    prompt: Prompt,
    *,
    dataset: str = "spair",
    split: str = "test",
    max_pairs: int | None = None,
    seed: int | None = None,
) -> Localisation:
    """Measure how much of what a CPM prompt listens to lies on the object that both pictures show.

    The strangers are of two other categories, one beside the source and one beside the target; sides change
    from pair to pair, so that a preference for a side comes out as one half.

    Returns:
        One row per pair, its ``value`` the share (`patch_saliency`) on the common object's halves of both
        pictures; one half is what a prompt that tells nothing apart gives.

    Raises:
        UserError: the prompt is no CPM, or the split has fewer than three categories.
    """
    if not isinstance(prompt, ConditionalPrompt):
        raise UserError("only a CPM prompt is written for a pair; give one that was trained or is to be.")
    pairs = open_pairs(profile, dataset, split, None, max_pairs)
    own = tree_hash(package_path(""), ("analysis/several_objects.py", "analysis/prompts.py"))
    run = open_run(
        profile.results_path,
        f"{dataset}-{split}-objects-cpm",
        "objects",
        {"dataset": dataset, "split": split, "pairs": len(pairs), "prompt": prompt.identity()},
        {"data": pairs.fingerprint(), "code": method_hash(), "measure": own},
        profile=profile.name,
        seed=profile.seed if seed is None else seed,
    )
    if not run.complete:
        with run:
            two = two_object_pairs(pairs, profile.cache_path / "several-objects")
            rows: list[dict[str, Any]] = []
            for start in range(0, len(two), _BATCH):
                rows += _shares(profile, prompt, two[start : start + _BATCH], start)
            write_rows(run, rows, _FILE)
    return Localisation(pd.read_parquet(run.folder / _FILE), run.record)


def two_object_pairs(pairs: Sequence[Pair], folder: Path) -> list[Pair]:
    """Put a stranger beside each pair's source and another beside its target, as pictures in `folder`.

    Returns:
        The pairs in their order, with the new pictures. In those at even places the common object is left in
        the source and right in the target, in the others the other way round; points are left out.

    Raises:
        UserError: there are fewer than three categories.
    """
    first: dict[str, ImageRecord] = {}
    for pair in pairs:
        first.setdefault(pair.category, pair.src)
    names = list(first)
    if len(names) < 3:
        raise UserError(f"two strangers need three categories, and there are {len(names)}: use more pairs.")
    found = []
    for place, pair in enumerate(pairs):
        at = names.index(pair.category)
        strangers = [first[names[(at + step + place) % len(names)]] for step in _steps(at, place, len(names))]
        sides = [(pair.src, strangers[0]), (strangers[1], pair.trg)]
        if place % 2:
            sides = [(right, left) for left, right in sides]
        src, trg = (_beside(left, right, folder) for left, right in sides)
        nowhere = np.zeros((0, 2), np.float32)
        found.append(replace(pair, src=src, trg=trg, src_px=nowhere, trg_px=nowhere, keypoint_ids=()))
    return found


def _steps(at: int, place: int, count: int) -> list[int]:
    """Two steps from a pair's category that lead to two others."""
    ahead = [step for step in range(1, count + 1) if (at + step + place) % count != at]
    return ahead[:2]


def _beside(left: ImageRecord, right: ImageRecord, folder: Path) -> ImageRecord:
    """A square picture with two others at half of its width."""
    name = sha256_text(f"{left.content_key()} {right.content_key()}")[:16]
    path = folder / f"{name}.png"
    side = max(left.hw_px)
    if not path.is_file():
        canvas = Image.new("RGB", (side, side), _GREY)
        for place, record in enumerate((left, right)):
            half = record.read().resize((side // 2, side // 2), Image.Resampling.BICUBIC)
            canvas.paste(half, (place * (side // 2), side // 4))
        buffer = io.BytesIO()
        canvas.save(buffer, "PNG")
        atomic_write_bytes(path, buffer.getvalue())
    return ImageRecord(f"several/{name}", left.category, path, (side, side))


def _shares(
    profile: Profile, prompt: ConditionalPrompt, pairs: list[Pair], first: int
) -> list[dict[str, Any]]:
    src, trg = patch_saliency(prompt, pair_batch(profile, pairs))
    rows = []
    for offset, pair in enumerate(pairs):
        maps = [side[offset].reshape(round(side.shape[1] ** 0.5), -1) for side in (src, trg)]
        middle = maps[0].shape[1] // 2
        left = [float(shares[:, :middle].sum()) for shares in maps]
        right = [float(shares[:, -middle:].sum()) for shares in maps]
        own = (left[0] + right[1]) if (first + offset) % 2 == 0 else (right[0] + left[1])
        rows.append(
            {
                "pair_id": pair.pair_id,
                "category": pair.category,
                "keypoint": "",
                "src_image": pair.src.image_id,
                "trg_image": pair.trg.image_id,
                "value": own / (sum(left) + sum(right)),
            }
        )
    return rows
