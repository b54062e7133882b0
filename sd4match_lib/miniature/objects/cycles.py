"""MiniPair's two-wheelers: bicycle and motorbike."""

import numpy as np

from sd4match_lib.miniature.objects.model import ObjectModel, Sculptor
from sd4match_lib.miniature.objects.palette import PAINT
from sd4match_lib.miniature.objects.solids import along, box, cone, ellipsoid, plate, ring, rod, wheel


def _cycle_front(s: Sculptor, x: float, top: float, wide: float) -> None:
    """Handlebar with two grips, and their keypoints."""
    s.add("handlebar", rod((x, -wide, top), (x, wide, top), 0.022, 5), colour="steel")
    for side in (1, -1):
        s.add(
            "grips", rod((x - 0.09, side * wide, top), (x + 0.02, side * wide, top), 0.03, 5), colour="rubber"
        )
    s.sides("grip", (x - 0.08, wide, top))


def bicycle(rng: np.random.Generator) -> ObjectModel:
    """A bicycle with open wheels; 12 keypoints."""
    s = Sculptor("bicycle", rng)
    r, base = s.between(0.24, 0.29), s.between(0.33, 0.38)
    tyre = s.between(0.04, 0.06)
    s.paint("frame", PAINT)
    for x in (base, -base):
        s.add("tyres", *ring((x, 0, r), r, tyre), colour="rubber")
        s.add("hub", wheel((x, 0, r), 0.05, 0.09, 8), colour="steel")
    saddle, head, crank = (-0.16, 0.0, r * 2 + 0.12), (0.22, 0.0, r * 2 + 0.02), (-0.04, 0.0, r * 0.85)
    tube = s.between(0.02, 0.03)
    joints = [
        ((-base, 0.0, r), crank),
        (crank, head),
        ((-0.15, 0.0, r * 2), head),
        (crank, (-0.16, 0.0, r * 2 + 0.1)),
        ((-base, 0.0, r), (-0.15, 0.0, r * 2)),
        ((base, 0.0, r), (0.2, 0.0, r * 2 + 0.14)),
    ]
    s.add("frame", *(rod(a, b, tube, 5) for a, b in joints))
    s.add(
        "saddle",
        box(saddle, (0.22, 0.12, 0.05), (0.85, 0.6)),
        colour=(66, 48, 38) if s.chance(0.4) else "rubber",
    )
    _cycle_front(s, 0.19, r * 2 + 0.16, s.between(0.17, 0.22))
    s.add("pedals", wheel(crank, 0.07, 0.05, 8), colour="steel")
    for side, dz in ((1, 0.1), (-1, -0.1)):
        s.add("pedals", box((crank[0], side * 0.12, crank[2] + dz), (0.1, 0.08, 0.03)), colour="steel")
    s.point("left pedal", (crank[0], 0.13, crank[2] + 0.1))
    s.point("right pedal", (crank[0], -0.13, crank[2] - 0.1))
    s.point("saddle front", (0.11 - 0.16, 0, saddle[2] + 0.02))
    s.point("saddle back", (-0.27, 0, saddle[2] + 0.02))
    s.point("front hub", (base, 0, r))
    s.point("back hub", (-base, 0, r))
    s.point("front tyre front", (base + r, 0, r))
    s.point("front tyre bottom", (base, 0, 0))
    s.point("back tyre back", (-base - r, 0, r))
    s.point("back tyre bottom", (-base, 0, 0))
    s.point("crank", crank, reserved=True)
    s.point("frame head", head, reserved=True)
    s.point("handlebar middle", (0.19, 0.0, r * 2 + 0.16), reserved=True)
    return s.model


def motorbike(rng: np.random.Generator) -> ObjectModel:
    """A motorbike with thick wheels, tank, seat and exhaust; 12 keypoints."""
    s = Sculptor("motorbike", rng)
    r, base, fat = s.between(0.2, 0.24), s.between(0.36, 0.42), s.between(0.1, 0.14)
    s.paint("tank", PAINT)
    for x in (base, -base):
        s.add("tyres", wheel((x, 0, r), r, fat, 14), colour="rubber")
        s.add("rims", wheel((x, 0, r), r * 0.55, fat + 0.02, 10), colour="steel")
    s.add("engine", box((0.0, 0, r * 1.1), (0.36, 0.2, 0.24), (0.8, 0.8)), colour="iron")
    top = r * 2 + s.between(0.06, 0.12)
    s.add("tank", ellipsoid((0.1, 0, top), (0.2, 0.11, 0.11), 8, 5, 0.15))
    s.add("seat", box((-0.2, 0, top - 0.02), (0.36, 0.17, 0.07), (0.9, 0.8), -0.03), colour="rubber")
    s.add("tail", box((-0.42, 0, top), (0.16, 0.14, 0.1), (0.5, 0.8), -0.06), colour=s.tint("tank", 0.9))
    fork = (0.24, 0.0, top + 0.1)
    for side in (1, -1):
        s.add("fork", rod((base, side * 0.08, r), (fork[0], side * 0.06, fork[2]), 0.025, 5), colour="steel")
    fender = along((base + 0.2, 0.06, r * 1.7), (base - 0.12, 0.06, r * 2.1))
    s.add("fender", plate(fender, 0.03), colour=s.tint("tank", 0.95))
    s.add("headlight", cone((0.3, 0, top + 0.03), (0.38, 0, top + 0.02), 0.06, 0.08, 8), colour="lamp")
    s.add(
        "exhaust",
        cone((0.05, -0.12, r * 0.75), (-base - 0.18, -0.14, r * 0.95), 0.035, 0.06, 7),
        colour="steel",
    )
    _cycle_front(s, 0.22, top + 0.16, s.between(0.18, 0.24))
    s.point("headlight", (0.38, 0, top + 0.02))
    s.point("tank top", (0.1, 0, top + 0.12))
    s.point("seat back", (-0.38, 0, top + 0.02))
    s.point("tail tip", (-0.53, 0, top + 0.04))
    s.point("exhaust end", (-base - 0.18, -0.14, r * 0.95))
    s.point("front tyre front", (base + r, 0, r))
    s.point("front tyre bottom", (base, 0, 0))
    s.point("back tyre back", (-base - r, 0, r))
    s.point("back tyre bottom", (-base, 0, 0))
    s.point("engine bottom", (0.0, 0, r * 1.1 - 0.12))
    s.sides("tank side", (0.1, 0.11, top), reserved=True)
    s.point("seat front", (-0.03, 0.0, top + 0.02), reserved=True)
    s.sides("engine side", (0.0, 0.09, r * 1.1), reserved=True)
    return s.model
