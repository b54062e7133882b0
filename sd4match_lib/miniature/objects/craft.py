"""MiniPair's craft of air and water: aeroplane and boat."""

import numpy as np

from sd4match_lib.miniature.objects.model import ObjectModel, Sculptor
from sd4match_lib.miniature.objects.palette import PAINT
from sd4match_lib.miniature.objects.solids import across, along, box, cone, hexahedron, plate, rod


def aeroplane(rng: np.random.Generator) -> ObjectModel:
    """An airliner with swept wings and two engines; 12 keypoints."""
    s = Sculptor("aeroplane", rng)
    half, r = s.between(0.5, 0.6), s.between(0.065, 0.085)
    s.paint("body", ("white", "white", "white", "gray", "blue", "red", "yellow"))
    s.paint("fin", PAINT)
    wing = s.tint("body", 0.9)
    s.add("body", rod((-half * 0.55, 0, 0), (half * 0.75, 0, 0), r, 10))
    s.add("body", cone((half * 0.75, 0, 0), (half, 0, -0.01), r, r * 0.25, 10))
    s.add("body", cone((-half, 0, r * 0.7), (-half * 0.55, 0, 0), r * 0.25, r, 10))
    s.add("window", box((half * 0.78, 0, r * 0.75), (0.1, r * 1.1, r * 0.5), (0.5, 0.8)), colour=(58, 70, 84))
    span, sweep, chord = s.between(0.45, 0.62), s.between(0.1, 0.25), s.between(0.17, 0.24)
    rise, fin, tail = s.between(0.0, 0.08), s.between(0.2, 0.28), s.between(0.19, 0.25)
    for side in (1, -1):
        y, tip = side * r * 0.8, (0.12 - sweep, side * span, rise)
        s.add(
            "wings",
            plate([(0.16, y, 0), tip, (tip[0] - 0.08, tip[1], rise), (0.16 - chord, y, 0)], 0.03),
            colour=wing,
        )
        engine = (0.12 - sweep * 0.35, side * span * 0.45, -0.05)
        s.add("engines", cone(engine, (engine[0] - 0.16, engine[1], -0.05), 0.05, 0.035, 8), colour="steel")
        s.add(
            "tailplane",
            plate(
                [
                    (-half * 0.75, side * 0.02, 0.06),
                    (-half * 0.98, side * tail, 0.08),
                    (-half * 1.08, side * tail, 0.08),
                    (-half, side * 0.02, 0.06),
                ],
                0.025,
            ),
            colour=wing,
        )
    s.add("fin", plate([(-half * 0.68, 0, r * 0.8), (-half * 0.98, 0, fin), (-half * 1.1, 0, fin),
                        (-half, 0, r * 0.6)], 0.025))  # fmt: skip
    s.point("nose", (half, 0, -0.01))
    s.point("tail end", (-half, 0, r * 0.7))
    s.point("fin top", (-half * 1.04, 0, fin))
    s.point("cockpit", (half * 0.78, 0, r * 1.0))
    s.sides("wing tip", (0.08 - sweep, span, rise))
    s.sides("wing root", (0.16, r, 0.01))
    s.sides("engine", (0.12 - sweep * 0.35, span * 0.45, -0.05))
    s.sides("tailplane tip", (-half * 1.03, tail, 0.08))
    s.point("belly", (0.0, 0.0, -r), reserved=True)
    s.point("back", (0.0, 0.0, r), reserved=True)
    s.sides("wing middle", (0.1 - sweep / 2, span / 2, rise / 2), reserved=True)
    return s.model


def boat(rng: np.random.Generator) -> ObjectModel:
    """A sailing or a motor boat; 11 keypoints."""
    s = Sculptor("boat", rng)
    half, wide, deep = s.between(0.42, 0.55), s.between(0.14, 0.2), s.between(0.16, 0.24)
    keel = 0.6
    s.paint("hull", ("white", "white", "blue", "red", "green", "brown", "black", "yellow"))
    s.add(
        "hull",
        hexahedron(
            along((half * 0.3, wide * keel, 0), (-half * 0.92, wide * keel, 0)),
            along((half * 0.4, wide, deep), (-half, wide, deep)),
        ),
    )
    bow = (half, 0.0, deep + 0.05)
    s.add(
        "hull",
        hexahedron(
            across((half * 0.3, wide * keel, 0), (half * 0.7, 0.01, 0)),
            across((half * 0.4, wide, deep), (half, 0.01, bow[2])),
        ),
    )
    s.add("deck", box((-half * 0.3, 0, deep + 0.005), (half * 1.3, wide * 1.8, 0.02)), colour="wood")
    s.paint("cabin", ("white", "white", "brown", "beige", "gray"))
    cabin, tall = (-half * 0.35, 0.0, deep + 0.08), s.between(0.12, 0.18)
    s.add("cabin", box((cabin[0], 0, deep + tall / 2), (half * 0.6, wide * 1.2, tall), (0.8, 0.85), -0.02))
    s.add(
        "windows",
        box((cabin[0], 0, deep + tall * 0.55), (half * 0.45, wide * 1.22, tall * 0.35)),
        colour=(62, 78, 94),
    )
    mast = s.between(0.55, 0.8)
    mx = half * 0.05
    s.add(
        "mast",
        cone((mx, 0, deep), (mx, 0, deep + mast), 0.022, 0.015, 6),
        colour="wood" if s.chance(0.5) else "steel",
    )
    if s.chance(0.7):
        s.paint("sail", ("white", "white", "white", "red", "blue", "orange"))
        s.add(
            "sail",
            plate(
                [
                    (mx - 0.03, 0, deep + 0.12),
                    (mx - 0.03, 0, deep + mast * 0.95),
                    (mx - 0.08, 0, deep + mast * 0.95),
                    (-half * 0.85, 0, deep + 0.15),
                ],
                0.015,
            ),
        )
    s.point("bow", bow)
    s.point("bow bottom", (half * 0.7, 0, 0))
    s.point("mast top", (mx, 0, deep + mast))
    s.sides("stern top", (-half, wide, deep))
    s.sides("stern bottom", (-half * 0.92, wide * keel, 0))
    s.sides("cabin roof front", (cabin[0] - 0.02 + half * 0.24, wide * 0.51, deep + tall))
    s.sides("cabin roof back", (cabin[0] - 0.02 - half * 0.24, wide * 0.51, deep + tall))
    s.sides("hull side", (-half * 0.3, wide * 0.9, deep * 0.6), reserved=True)
    s.point("mast middle", (mx, 0.0, deep + mast * 0.5), reserved=True)
    return s.model
