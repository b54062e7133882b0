"""MiniPair in the layouts of PF-Pascal (similar views, landscapes) and PF-Willow (studio, ten keypoints).

Points are pixels counted from 0 at the centre of the first, to 1/64: readers of both data sets, this
project's among them, use the numbers as they are written.
"""

import math
from dataclasses import dataclass
from itertools import count, permutations
from pathlib import Path
from typing import Final

import numpy as np

from sd4match_lib.data.categories import VOC_INDEX
from sd4match_lib.miniature.dataset.ledger import Ledger, keypoint_names, seeded, shared_names
from sd4match_lib.miniature.dataset.write_spair import FEWEST_SHARED
from sd4match_lib.miniature.objects.catalogue import ALL_KINDS, CATEGORIES
from sd4match_lib.miniature.render.scene import Render, take_picture
from sd4match_lib.miniature.render.style import Look

PASCAL_FOLDER, WILLOW_FOLDER = "pf-pascal", "pf-willow"
PASCAL_HEADER: Final = "source_image,target_image,class,flip"
PASCAL_TEST_HEADER: Final = "source_image,target_image,class,XA,YA,XB,YB"
WILLOW_HEADER: Final = ",".join(
    ["imageA", "imageB", *(f"{axis}{n}" for axis in ("XA", "YA", "XB", "YB") for n in range(1, 11))]
)
_VIEW_SPREAD = math.radians(15)


@dataclass(frozen=True)
class SubClass:
    """A sub-class of PF-Willow: its kind, ten keypoints (empty: all), azimuths in degrees, and look."""

    kind: str
    keypoints: tuple[str, ...]
    azimuth: tuple[float, float]
    look: Look = Look.PF_WILLOW


_CAR = ("left front wheel", "left back wheel", "left tail light", "left roof front", "right roof front",
        "left roof back", "right roof back", "bonnet front", "boot back")  # fmt: skip
_MOTORBIKE = ("left grip", "right grip", "headlight", "tank top", "seat back", "tail tip",
              "front tyre front", "front tyre bottom", "back tyre bottom")  # fmt: skip
_DUCK = ("beak tip", "beak base", "crown", "nape", "left eye", "breast", "left wing root", "left wing tip",
         "left wing back", "tail tip")  # fmt: skip

SUB_CLASSES: Final[dict[str, SubClass]] = {
    "car(G)": SubClass("car", (*_CAR, "right tail light"), (105, 150)),
    "car(M)": SubClass("car", (*_CAR, "left headlight"), (70, 110)),
    "car(S)": SubClass("car", (*_CAR, "left headlight"), (82, 98)),
    "duck(S)": SubClass("duck", _DUCK, (75, 105)),
    "motorbike(G)": SubClass("motorbike", (*_MOTORBIKE, "engine bottom"), (270, 315)),
    "motorbike(M)": SubClass("motorbike", (*_MOTORBIKE, "back tyre back"), (255, 285)),
    "motorbike(S)": SubClass("motorbike", (*_MOTORBIKE, "back tyre back"), (263, 277)),
    "winebottle(M)": SubClass("winebottle", (), (0, 360)),
    "winebottle(wC)": SubClass("winebottle", (), (0, 360), Look.PF_WILLOW_CLUTTERED),
    "winebottle(woC)": SubClass("winebottle", (), (0, 360)),
}
"""PF-Willow's ten, in the order of their names: S from the side, M and G from wider around."""


def write_pascal_category(
    root: Path, seed: int, split: str, category: str, pairs: int
) -> tuple[dict[str, str], list[str]]:
    """Renders one category of a split: pairs of objects seen from azimuths at most 30 degrees apart.

    Returns:
        The SHA-256 of each file written, and the rows of the split's list.
    """
    ledger, rows = Ledger(root), []
    for number in range(1, pairs + 1):
        pair = _close_pair(seed, split, category, number)
        names = []
        for side, render in zip("ab", pair, strict=True):
            stem = f"{split}_{category}_{number:03d}{side}"
            names.append(f"PF-dataset-PASCAL/JPEGImages/{stem}.jpg")
            ledger.put_jpeg(f"{PASCAL_FOLDER}/{names[-1]}", render.rgb)
            points = [render.keypoints.get(name, (np.nan, np.nan)) for name in keypoint_names(render)]
            mat = f"{PASCAL_FOLDER}/PF-dataset-PASCAL/Annotations/{category}/{stem}.mat"
            ledger.put_mat(mat, kps=np.array(points), bbox=np.array([render.box]))
        row = f"{names[0]},{names[1]},{VOC_INDEX[category]}"
        if split == "test":
            shared = shared_names(*pair)
            cells = [[p.keypoints[name][axis] for name in shared] for p in pair for axis in (0, 1)]
            rows.append(",".join([row, *(";".join(f"{value:.6f}" for value in cell) for cell in cells)]))
        else:
            rows += [f"{row},{flip}" for flip in ((0, 1) if split == "train" else (0,))]
    return ledger.files, rows


def _close_pair(seed: int, split: str, category: str, number: int) -> tuple[Render, Render]:
    """The first draw of two objects that share three keypoints or more."""
    for attempt in count():
        names = (seed, "pf-pascal", split, category, number, attempt)
        middle = 2 * math.pi * float(seeded(*names, "azimuth").random())
        src, trg = (
            take_picture(
                CATEGORIES[category],
                seeded(*names, side, "object"),
                seeded(*names, side, "view"),
                Look.PF_PASCAL,
                (middle - _VIEW_SPREAD, middle + _VIEW_SPREAD),
            )
            for side in "ab"
        )
        if len(shared_names(src, trg)) >= FEWEST_SHARED:
            return src, trg
    raise AssertionError("counting has no end")


def write_willow_sub_class(
    root: Path, seed: int, sub_class: str, pictures: int
) -> tuple[dict[str, str], list[str]]:
    """Renders one sub-class: pictures that all show its ten keypoints, and all their ordered pairs.

    Returns:
        The SHA-256 of each file written, and the rows of the list.
    """
    ledger = Ledger(root)
    points: dict[str, np.ndarray] = {}
    for number in range(1, pictures + 1):
        render = _complete_picture(seed, sub_class, number)
        name = f"PF-dataset/{sub_class}/{SUB_CLASSES[sub_class].kind}_{number:03d}"
        names = SUB_CLASSES[sub_class].keypoints or keypoint_names(render)
        points[f"{name}.png"] = np.array([render.keypoints[point] for point in names]).T
        ledger.put_png(f"{WILLOW_FOLDER}/{name}.png", render.rgb)
        ledger.put_mat(f"{WILLOW_FOLDER}/{name}.mat", pts_coord=points[f"{name}.png"])
    rows = []
    for src, trg in permutations(points, 2):
        values = np.concatenate([points[src].ravel(), points[trg].ravel()])
        rows.append(",".join([src, trg, *(f"{value:.6f}" for value in values)]))
    return ledger.files, rows


def _complete_picture(seed: int, sub_class: str, number: int) -> Render:
    """The first draw in which every keypoint of the sub-class is seen and nothing is cut off."""
    chosen = SUB_CLASSES[sub_class]
    low, high = (math.radians(angle) for angle in chosen.azimuth)
    for attempt in count():
        names = (seed, "pf-willow", sub_class, number, attempt)
        render = take_picture(
            ALL_KINDS[chosen.kind],
            seeded(*names, "object"),
            seeded(*names, "view"),
            chosen.look,
            (low, high),
        )
        wanted = chosen.keypoints or keypoint_names(render)
        if set(wanted) <= set(render.keypoints):
            return render
    raise AssertionError("counting has no end")
