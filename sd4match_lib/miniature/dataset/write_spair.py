"""MiniPair in SPair-71k's layout: 18 categories, all azimuths, clutter, truncation, occlusion, now and then a
second object. And in SPair-U's: the same test pictures with their reserved keypoints, which no other pair
has.

Points are pixels counted from 0 at the centre of the first, to 1/64; the released annotations are whole
numbers. A picture's stem is unique in the data set and holds no '-', which separates the parts of a pair's
name.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from sd4match_lib.data.categories import SPAIR_CATEGORIES, VOC_INDEX
from sd4match_lib.miniature.dataset.difficulty import pair_difficulty
from sd4match_lib.miniature.dataset.ledger import Ledger, keypoint_names, seeded, shared_names
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.render.scene import Render, take_picture

FOLDER, UNSEEN_FOLDER = "SPair-71k", "SPair-U"
PARTS = ("trn", "val", "test")
FEWEST_SHARED, FEWEST_UNSEEN = 3, 2
_FEWEST_PIXELS = 200
_POSES = ("Frontal", "Left", "Rear", "Right")


@dataclass(frozen=True)
class Amount:
    """How much of a split to render for each category.

    Attributes:
        objects: how many objects the split has, each in one picture.
        drawn: how many ordered pairs of them are drawn, of which those that share enough keypoints are kept.
        every: only each so-maniest object is rendered, with the pairs among these: a slice of the same split.
    """

    objects: int
    drawn: int
    every: int = 1


def write_category(
    root: Path, seed: int, part: str, category: str, amount: Amount
) -> tuple[dict[str, str], list[str]]:
    """Renders one category of one split, and of the test split what SPair-U has.

    Returns:
        The SHA-256 of each file written, and the pairs' names for the split's list.
    """
    ledger = Ledger(root)
    place = SPAIR_CATEGORIES.index(category)
    renders = {slot: _shoot(seed, part, category, slot) for slot in range(0, amount.objects, amount.every)}
    stems = {slot: f"{part}_{place * amount.objects + slot + 1:06d}" for slot in renders}
    for slot, render in renders.items():
        stem = stems[slot]
        ledger.put_jpeg(f"{FOLDER}/JPEGImages/{category}/{stem}.jpg", render.rgb)
        mask = render.mask.astype(np.uint8) * VOC_INDEX[category]
        ledger.put_png(f"{FOLDER}/Segmentation/{category}/{stem}.png", mask)
        ledger.put_json(
            f"{FOLDER}/ImageAnnotation/{category}/{stem}.json",
            _image_annotation(stem, category, render, False),
        )
        if part == "test":
            annotation = _image_annotation(stem, category, render, True)
            ledger.put_json(f"{UNSEEN_FOLDER}/ImageAnnotation/{category}/{stem}.json", annotation)
    names = []
    for number, src, trg in _draw(seed, part, category, amount):
        if src not in renders or trg not in renders:
            continue
        pair, number = (renders[src], renders[trg]), place * amount.drawn + number
        name = f"{number:06d}-{stems[src]}-{stems[trg]}:{category}"
        # Windows has no colons in file names; the reader knows both spellings.
        file_name = name.replace(":", "_") if os.name == "nt" else name
        for folder, reserved, fewest in (
            (FOLDER, False, FEWEST_SHARED),
            (UNSEEN_FOLDER, True, FEWEST_UNSEEN),
        ):
            if len(shared_names(*pair, reserved=reserved)) < fewest or (reserved and part != "test"):
                continue
            annotation = _pair_annotation(number, name, (stems[src], stems[trg]), pair, reserved)
            path = f"{folder}/PairAnnotation/{part}/{file_name}.json"
            ledger.put_json(path, annotation | {"category": category})
            names += [] if reserved else [name]
    return ledger.files, names


def _draw(seed: int, part: str, category: str, amount: Amount) -> Iterator[tuple[int, int, int]]:
    """The ordered pairs drawn from the whole split: number from 1, source and target slot."""
    every = list(permutations(range(amount.objects), 2))
    order = seeded(seed, "spair", part, category, "pairs").permutation(len(every))
    for number, place in enumerate(order[: amount.drawn].tolist(), start=1):
        yield number, *every[place]


def _shoot(seed: int, part: str, category: str, slot: int) -> Render:
    """The slot's first picture that shows something to match."""
    attempt = 0
    while True:
        names = (seed, "spair", part, category, slot, attempt)
        render = take_picture(CATEGORIES[category], seeded(*names, "object"), seeded(*names, "view"))
        seen = [name for name in keypoint_names(render) if name in render.keypoints]
        if len(seen) >= FEWEST_SHARED and int(render.mask.sum()) >= _FEWEST_PIXELS:
            return render
        attempt += 1


def _pose(render: Render) -> str:
    """PASCAL VOC's word for where the object faces."""
    return _POSES[round(render.camera.azimuth / (math.pi / 2)) % 4]


def _image_annotation(stem: str, category: str, render: Render, reserved: bool) -> dict[str, Any]:
    """The fields of the release's ImageAnnotation; `kps` is None where a keypoint is not seen. `companion` is
    ours: the category of a second object, or None.
    """
    points = [render.keypoints.get(name) for name in keypoint_names(render, reserved=reserved)]
    return {
        "filename": f"{stem}.jpg",
        "src_database": "MiniPair",
        "src_annotation": "MiniPair",
        "src_image": "rendered",
        "image_width": render.size[0],
        "image_height": render.size[1],
        "image_depth": 3,
        "category": category,
        "pose": _pose(render),
        "truncated": int(render.truncated),
        "occluded": int(render.occluded),
        "difficult": 0,
        "companion": render.companion,
        "bndbox": list(render.box),
        "kps": {str(number): None if xy is None else list(xy) for number, xy in enumerate(points)},
        "azimuth_id": round(render.camera.azimuth / (math.pi / 4)) % 8,
    }


def _pair_annotation(
    number: int, name: str, stems: tuple[str, str], renders: tuple[Render, Render], reserved: bool
) -> dict[str, Any]:
    """The fields of the release's PairAnnotation but the category."""
    shared = shared_names(*renders, reserved=reserved)
    order = keypoint_names(renders[0], reserved=reserved)
    difficulty = pair_difficulty(*renders)
    sides: dict[str, Any] = {}
    for side, stem, render in zip(("src", "trg"), stems, renders, strict=True):
        sides |= {
            f"{side}_imname": f"{stem}.jpg",
            f"{side}_imsize": [*render.size, 3],
            f"{side}_bndbox": list(render.box),
            f"{side}_pose": _pose(render),
            f"{side}_kps": [list(render.keypoints[point]) for point in shared],
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
