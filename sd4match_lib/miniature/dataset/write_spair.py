"""MiniPair in SPair-71k's layout: 18 categories, all azimuths, clutter, truncation, occlusion.

Points are pixels counted from 0 at the centre of the first, to 1/64; the released annotations are whole
numbers. A picture's stem is unique in the data set and holds no '-', which separates the parts of a pair's
name.
"""

from __future__ import annotations

import math
import os
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from sd4match_lib.data.categories import SPAIR_CATEGORIES, VOC_INDEX
from sd4match_lib.miniature.dataset.difficulty import pair_difficulty
from sd4match_lib.miniature.dataset.ledger import Ledger, keypoint_names, seeded, shared_names
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.render.scene import IMAGE_SIZE, Picture, take_picture

FOLDER = "SPair-71k"
PARTS = ("trn", "val", "test")
FEWEST_SHARED = 3
_FEWEST_PIXELS = 200
_POSES = ("Frontal", "Left", "Rear", "Right")


def write_category(
    root: Path, seed: int, part: str, category: str, objects: int, pairs: int
) -> tuple[dict[str, str], list[str]]:
    """Renders one category of one split: every object once, and pairs drawn without replacement.

    Args:
        root: MiniPair's folder.
        seed: MiniPair's seed.
        part: ``"trn"``, ``"val"`` or ``"test"``.
        category: one of SPair-71k's.
        objects: how many objects, each in one picture.
        pairs: how many ordered pairs of pictures that share three keypoints or more.

    Returns:
        The SHA-256 of each file written, and the pairs' names for the split's list.
    """
    ledger = Ledger(root)
    pictures, matches = _draw(seed, part, category, objects, pairs)
    place = SPAIR_CATEGORIES.index(category)
    stems = [f"{part}_{place * objects + slot + 1:06d}" for slot in range(objects)]
    for stem, picture in zip(stems, pictures, strict=True):
        ledger.put_jpeg(f"{FOLDER}/JPEGImages/{category}/{stem}.jpg", picture.rgb)
        mask = picture.mask.astype(np.uint8) * VOC_INDEX[category]
        ledger.put_png(f"{FOLDER}/Segmentation/{category}/{stem}.png", mask)
        annotation = _image_annotation(stem, category, picture)
        ledger.put_json(f"{FOLDER}/ImageAnnotation/{category}/{stem}.json", annotation)
    names = []
    for number, (src, trg) in enumerate(matches, start=place * pairs + 1):
        name = f"{number:06d}-{stems[src]}-{stems[trg]}:{category}"
        annotation = _pair_annotation(number, name, (stems[src], stems[trg]), (pictures[src], pictures[trg]))
        # Windows has no colons in file names; the reader knows both spellings.
        file_name = name.replace(":", "_") if os.name == "nt" else name
        path = f"{FOLDER}/PairAnnotation/{part}/{file_name}.json"
        ledger.put_json(path, annotation | {"category": category})
        names.append(name)
    return ledger.files, names


def _draw(
    seed: int, part: str, category: str, objects: int, pairs: int
) -> tuple[list[Picture], list[tuple[int, int]]]:
    """Pictures and ordered pairs of them; that with fewest partners is redrawn while pairs are short."""
    attempts = [0] * objects
    pictures = [_shoot(seed, part, category, slot, attempts) for slot in range(objects)]
    while True:
        matches = [
            (src, trg)
            for src, trg in permutations(range(objects), 2)
            if len(shared_names(pictures[src], pictures[trg])) >= FEWEST_SHARED
        ]
        if len(matches) >= pairs:
            order = seeded(seed, "spair", part, category, "pairs").permutation(len(matches))
            return pictures, [matches[i] for i in order[:pairs]]
        partners = [sum(slot in match for match in matches) for slot in range(objects)]
        lonely = partners.index(min(partners))
        pictures[lonely] = _shoot(seed, part, category, lonely, attempts)


def _shoot(seed: int, part: str, category: str, slot: int, attempts: list[int]) -> Picture:
    """The slot's next picture that shows something to match; counts the slot's attempts up."""
    while True:
        names = (seed, "spair", part, category, slot, attempts[slot])
        attempts[slot] += 1
        picture = take_picture(CATEGORIES[category], seeded(*names, "object"), seeded(*names, "view"))
        if len(picture.keypoints) >= FEWEST_SHARED and int(picture.mask.sum()) >= _FEWEST_PIXELS:
            return picture


def _pose(picture: Picture) -> str:
    """PASCAL VOC's word for where the object faces."""
    return _POSES[round(picture.camera.azimuth / (math.pi / 2)) % 4]


def _image_annotation(stem: str, category: str, picture: Picture) -> dict[str, Any]:
    """The fields of the release's ImageAnnotation; `kps` is None where a keypoint is not seen."""
    points = [picture.keypoints.get(name) for name in keypoint_names(picture)]
    return {
        "filename": f"{stem}.jpg",
        "src_database": "MiniPair",
        "src_annotation": "MiniPair",
        "src_image": "rendered",
        "image_width": IMAGE_SIZE,
        "image_height": IMAGE_SIZE,
        "image_depth": 3,
        "category": category,
        "pose": _pose(picture),
        "truncated": int(picture.truncated),
        "occluded": int(picture.occluded),
        "difficult": 0,
        "bndbox": list(picture.box),
        "kps": {str(number): None if xy is None else list(xy) for number, xy in enumerate(points)},
        "azimuth_id": round(picture.camera.azimuth / (math.pi / 4)) % 8,
    }


def _pair_annotation(
    number: int, name: str, stems: tuple[str, str], pictures: tuple[Picture, Picture]
) -> dict[str, Any]:
    """The fields of the release's PairAnnotation but the category."""
    shared, order = shared_names(*pictures), keypoint_names(pictures[0])
    difficulty = pair_difficulty(*pictures)
    sides: dict[str, Any] = {}
    for side, stem, picture in zip(("src", "trg"), stems, pictures, strict=True):
        sides |= {
            f"{side}_imname": f"{stem}.jpg",
            f"{side}_imsize": [IMAGE_SIZE, IMAGE_SIZE, 3],
            f"{side}_bndbox": list(picture.box),
            f"{side}_pose": _pose(picture),
            f"{side}_kps": [list(picture.keypoints[point]) for point in shared],
        }
    return sides | {
        "pair_id": number,
        "filename": name,
        "kps_ids": [str(order.index(point)) for point in shared],
        "mirror": 0,
        "viewpoint_variation": difficulty.viewpoint,
        "scale_variation": difficulty.scale,
        "truncation": difficulty.truncation,
        "occlusion": difficulty.occlusion,
    }
