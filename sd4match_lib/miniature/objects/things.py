"""MiniPair's still things: bottle, chair, potted plant and screen."""

import math

import numpy as np

from sd4match_lib.miniature.objects.model import ObjectModel, Sculptor
from sd4match_lib.miniature.objects.palette import BOTTLE, CLOTH, PLANT, POT, WOOD
from sd4match_lib.miniature.objects.solids import box, cone, plate, rod


def bottle(rng: np.random.Generator, wine: bool = False) -> ObjectModel:
    """A bottle with label and cap: 10 view-dependent keypoints on its outline (a slim one with `wine`)."""
    s = Sculptor("winebottle" if wine else "bottle", rng)
    r = s.between(0.13, 0.16) if wine else s.between(0.13, 0.24)
    shoulder = s.between(0.5, 0.58) if wine else s.between(0.42, 0.6)
    neck = shoulder + s.between(0.12, 0.18) if wine else shoulder + s.between(0.06, 0.16)
    top = s.between(0.95, 1.05) if wine else s.between(0.82, 1.0)
    slim = r * (s.between(0.3, 0.36) if wine else s.between(0.28, 0.48))
    low, high = s.between(0.08, 0.16), shoulder - s.between(0.06, 0.14)
    s.paint("glass", BOTTLE)
    s.add("glass", rod((0, 0, 0), (0, 0, shoulder), r, 12), cone((0, 0, shoulder), (0, 0, neck), r, slim, 12))
    s.add("glass", rod((0, 0, neck), (0, 0, top - 0.08), slim, 10))
    s.add(
        "label",
        rod((0, 0, low), (0, 0, high), r * 1.02, 12),
        colour=s.paint("label", ("white", "white", "beige", "yellow", "red", "blue", "black")),
    )
    s.add(
        "cap",
        cone((0, 0, top - 0.09), (0, 0, top), slim * 1.25, slim * 1.2, 10),
        colour=s.tint("label", 0.8) if s.chance(0.5) else "brass",
    )
    s.outline("base", (0, 0, 0.01), r)
    s.outline("label bottom", (0, 0, low), r)
    s.outline("shoulder", (0, 0, shoulder), r)
    s.outline("neck", (0, 0, neck), slim)
    s.outline("mouth", (0, 0, top - 0.01), slim * 1.2)
    s.outline("label top", (0, 0, high), r, reserved=True)
    s.outline("cap bottom", (0, 0, top - 0.08), slim * 1.25, reserved=True)
    return s.model


def chair(rng: np.random.Generator) -> ObjectModel:
    """A chair, with armrests two times in five; 12 keypoints."""
    s = Sculptor("chair", rng)
    d, w, h, top = s.between(0.2, 0.26), s.between(0.19, 0.26), s.between(0.36, 0.46), s.between(0.85, 1.02)
    leg, lean = s.between(0.025, 0.045), s.between(0.0, 0.08)
    s.paint("legs", WOOD)
    frame = s.tint("legs", 0.92)
    covered = s.chance(0.5)
    if covered:
        s.paint("seat", CLOTH)
    for x, end in ((d - leg, "front"), (-d + leg, "back")):
        for side in (1, -1):
            s.add("legs", box((x, side * (w - leg), h / 2), (2 * leg, 2 * leg, h)))
        s.sides(f"{end} leg", (x, w - leg, 0.01))
        s.sides(f"seat {end} corner", (d if end == "front" else -d, w, h + 0.03))
    cover = s.tint("seat", 0.95) if covered else frame
    s.add(
        "seat",
        box((0, 0, h), (2 * d, 2 * w, 0.06)),
        colour=s.tint("seat", 1.0) if covered else s.tint("legs", 1.08),
    )
    if s.chance(0.5):
        s.add(
            "back",
            box((-d + 0.02, 0, (h + top) / 2 + 0.03), (0.05, 2 * w, top - h), (1, 0.95), -lean),
            colour=cover,
        )
    else:
        for z in (0.45, 0.72, 0.97):
            zz = h + (top - h) * z
            s.add("back", box((-d + 0.02 - lean * z, 0, zz - 0.02), (0.04, 2 * w * 0.9, 0.09)), colour=frame)
        for side in (1, -1):
            foot = (-d + 0.02, side * (w - 0.03), (h + top) / 2 + 0.03)
            post = box(foot, (0.05, 0.06, top - h), (1, 1), -lean)
            s.add("posts", post, colour=frame)
    s.sides("back top corner", (-d + 0.02 - lean, w * 0.96, top + 0.02))
    s.sides("back middle", (-d + 0.02 - lean / 2, w * 0.98, (h + top) / 2))
    if s.chance(0.4):
        arm = h + s.between(0.17, 0.23)
        for side in (1, -1):
            s.add("arms", box((0, side * (w - 0.02), arm), (2 * d * 0.92, 0.06, 0.045)), colour=frame)
            s.add(
                "arms", box((d * 0.8, side * (w - 0.02), (h + arm) / 2), (0.04, 0.04, arm - h)), colour=frame
            )
    s.point("seat middle", (0.0, 0.0, h + 0.03), reserved=True)
    s.sides("seat side", (0.0, w, h), reserved=True)
    s.sides("leg middle", (d - leg, w - leg, h / 2), reserved=True)
    return s.model


def pottedplant(rng: np.random.Generator) -> ObjectModel:
    """A plant in a pot; 9 keypoints, the pot's and the crown's seen on the outline."""
    s = Sculptor("pottedplant", rng)
    low, rim, tall = s.between(0.11, 0.16), s.between(0.17, 0.24), s.between(0.24, 0.34)
    s.paint("pot", POT)
    s.paint("leaves", PLANT)
    s.add("pot", cone((0, 0, 0), (0, 0, tall), low, rim, 12))
    s.add("rim", rod((0, 0, tall - 0.06), (0, 0, tall + 0.01), rim * 1.1, 12), colour=s.tint("pot", 1.08))
    s.add("soil", rod((0, 0, tall), (0, 0, tall + 0.02), rim * 0.95, 12), colour="soil")
    stem = tall + s.between(0.1, 0.22)
    s.add("stem", cone((0, 0, tall), (0, 0, stem), 0.03, 0.025, 6), colour="wood")
    leaves, spread, height = int(s.rng.integers(7, 11)), s.between(0.24, 0.36), s.between(0.2, 0.34)
    start = s.between(0.0, 1.0)
    for i in range(leaves):
        t = 2 * math.pi * (i + start) / leaves
        reach, lift = spread * s.between(0.85, 1.0), height * s.between(0.25, 0.75)
        c, n = math.cos(t), math.sin(t)
        bend = (c * reach * 0.55, n * reach * 0.55, stem + lift)
        tip = (c * reach, n * reach, stem + lift * 0.8)
        wide = 0.07
        s.add(
            "leaves",
            plate(
                [
                    (0, 0, stem - 0.03),
                    (bend[0] - n * wide, bend[1] + c * wide, bend[2]),
                    tip,
                    (bend[0] + n * wide, bend[1] - c * wide, bend[2]),
                ],
                0.02,
            ),
            colour=s.tint("leaves", s.between(0.75, 1.15)),
        )
    s.add("leaves", cone((0, 0, stem - 0.03), (0, 0, stem + height), 0.07, 0.012, 6))
    s.point("plant top", (0, 0, stem + height))
    s.outline("pot base", (0, 0, 0.01), low)
    s.outline("pot rim", (0, 0, tall), rim * 1.1)
    s.point("stem base", (0, 0, tall + 0.03))
    s.outline("crown", (0, 0, stem + height * 0.45), spread * 0.8)
    s.point("stem top", (0, 0, stem))
    s.outline("pot middle", (0, 0, tall / 2), (low + rim) / 2, reserved=True)
    s.outline("rim bottom", (0, 0, tall - 0.06), rim * 1.1, reserved=True)
    return s.model


def tvmonitor(rng: np.random.Generator) -> ObjectModel:
    """A flat screen on a stand; 13 keypoints."""
    s = Sculptor("tvmonitor", rng)
    w, h, thick = s.between(0.38, 0.55), s.between(0.26, 0.38), s.between(0.05, 0.14)
    low = s.between(0.12, 0.2)
    middle, frame = low + h, s.between(0.035, 0.06)
    s.paint("case", ("black", "black", "gray", "white", "brown"))
    s.add("case", box((0, 0, middle), (thick, 2 * w, 2 * h)))
    s.paint("screen", ("black", "black", "blue", "gray", "green", "cyan"))
    s.add("screen", box((thick / 2, 0, middle), (0.016, 2 * (w - frame), 2 * (h - frame))))
    s.add("vent", box((-thick / 2 - 0.03, 0, middle), (0.06, w, h), (1, 0.8)), colour="iron")
    s.add("stand", box((0, 0, low / 2), (0.05, 0.12, low + 0.04)), colour=s.tint("case", 0.85))
    foot = s.between(0.2, 0.3)
    s.add("foot", box((0.02, 0, 0.015), (0.26, 2 * foot, 0.03), (0.8, 0.9)), colour=s.tint("case", 0.85))
    x = thick / 2 + 0.008
    for z, word in ((1, "top"), (-1, "bottom")):
        s.sides(f"{word} corner", (0.0, w, middle + z * h))
        s.sides(f"screen {word} corner", (x, w - frame, middle + z * (h - frame)))
    s.sides("foot corner", (0.13, foot * 0.95, 0.02))
    s.point("stand front", (0.04, 0, low * 0.6))
    s.sides("side middle", (0.0, w, middle))
    s.point("screen middle", (x, 0.0, middle), reserved=True)
    s.point("top middle", (0.0, 0.0, middle + h), reserved=True)
    s.point("foot front", (0.15, 0.0, 0.02), reserved=True)
    return s.model
