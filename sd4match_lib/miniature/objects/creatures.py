"""MiniPair's living things: four-legged animals, the bird and the person."""

from dataclasses import dataclass

import numpy as np

from sd4match_lib.miniature.objects.model import ObjectModel, Sculptor
from sd4match_lib.miniature.objects.palette import (
    CLOTH,
    COLOURS,
    FUR,
    HAIR,
    PLUMAGE,
    SKIN,
    TROUSERS,
    WOOL,
    scaled,
    varied,
)
from sd4match_lib.miniature.objects.solids import along, ball, box, cone, ellipsoid, plate, rod


@dataclass(frozen=True)
class _Build:
    """Proportions of a four-legged animal; each is varied by a fifth when an individual is made."""

    length: float
    girth: float
    leg: float
    leg_width: float
    neck: float
    neck_rise: float
    head: float
    snout: float
    ear: float
    tail: float
    tail_rise: float


_BUILDS = {
    "cat": _Build(0.62, 0.15, 0.26, 0.045, 0.10, 0.14, 0.18, 0.05, 0.15, 0.48, 0.95),
    "dog": _Build(0.66, 0.17, 0.34, 0.05, 0.17, 0.22, 0.14, 0.17, 0.13, 0.32, 0.7),
    "cow": _Build(0.95, 0.25, 0.36, 0.06, 0.20, 0.10, 0.16, 0.18, 0.10, 0.42, -0.9),
    "horse": _Build(0.85, 0.19, 0.52, 0.05, 0.36, 0.42, 0.13, 0.24, 0.09, 0.50, -0.75),
    "sheep": _Build(0.66, 0.24, 0.25, 0.045, 0.10, 0.10, 0.12, 0.12, 0.09, 0.12, -0.5),
}


def quadruped(category: str, rng: np.random.Generator) -> ObjectModel:
    """A cat, cow, dog, horse or sheep: 12 keypoints, and two horn tips more for the cow."""
    s, b = Sculptor(category, rng), _BUILDS[category]

    def vary(value: float) -> float:
        return value * s.between(0.82, 1.18)

    half, girth, leg = vary(b.length) / 2, vary(b.girth), vary(b.leg)
    width = girth * s.between(0.7, 0.85)
    s.paint("body", WOOL if category == "sheep" else FUR)
    if category == "sheep":
        for x in (-0.6, 0.0, 0.6):
            s.add(
                "body", ellipsoid((x * half, 0, leg + girth), (half * 0.62, width * 1.1, girth * 1.05), 9, 4)
            )
    elif category == "cow":
        s.add(
            "body", ellipsoid((half * 0.45, 0, leg + girth), (half * 0.6, width * 0.92, girth * 0.98), 10, 5)
        )
        s.add("body", cone((half * 0.5, 0, leg + girth), (-half * 0.7, 0, leg + girth * 1.02), girth * 0.86,
                           girth * 0.82, 12))  # fmt: skip
        s.add(
            "body", ellipsoid((-half * 0.62, 0, leg + girth), (half * 0.42, width * 0.9, girth * 0.94), 10, 5)
        )
        s.add(
            "udder",
            ellipsoid((-half * 0.45, 0, leg + girth * 0.15), (0.1, 0.08, 0.08), 8, 4),
            colour="muzzle",
        )
        if s.chance(0.5):
            _patches(s, half, width, leg, girth)
    else:
        s.add("body", ellipsoid((0, 0, leg + girth), (half * 1.12, width, girth), 10, 5))
    _legs(s, category, half, width, leg, girth, vary(b.leg_width))
    neck_base = (half * 0.8, 0.0, leg + girth * 1.35)
    head = vary(b.head) / 2 * 1.15
    hx, hz = neck_base[0] + vary(b.neck), neck_base[2] + vary(b.neck_rise)
    s.add("body", cone(neck_base, (hx, 0, hz), girth * 0.55, head * 0.75))
    _head(s, b, category, hx, hz, head, vary(b.snout), vary(b.ear))
    if category == "horse":
        s.paint("mane", ("black", "brown", "beige", "white"))
        s.add("mane", plate([(hx - head, 0, hz + head), (neck_base[0] - 0.12, 0, neck_base[2] + 0.02),
                             (neck_base[0], 0, neck_base[2]), (hx, 0, hz)], 0.05))  # fmt: skip
    tail, rise = vary(b.tail), b.tail_rise
    woolly = category == "sheep"
    base = (-half * (1.22 if woolly else 1.05), 0.0, leg + girth * (1.2 if woolly else 1.45))
    tip = (base[0] - tail * (1 - abs(rise)) - 0.05, 0.0, base[2] + tail * rise)
    fat = {"horse": 0.07, "sheep": 0.05}.get(category, 0.032)
    s.add(
        "tail", cone(base, tip, 0.03, fat, 6), colour=s.tint("mane" if category == "horse" else "body", 0.88)
    )
    s.point("tail base", base)
    s.point("tail tip", tip)
    s.point("withers", (half * 0.55, 0.0, leg + girth * (2.03 if woolly else 1.92)))
    s.sides("shoulder", (half * 0.4, width * 0.98, leg + girth), reserved=True)
    s.sides("haunch", (-half * 0.45, width * 0.98, leg + girth), reserved=True)
    s.point("loin", (-half * 0.25, 0.0, leg + girth * 1.97), reserved=True)
    return s.model


def _patches(s: Sculptor, half: float, width: float, leg: float, girth: float) -> None:
    """A cow's spots: flat ellipsoids on both flanks."""
    dark = scaled(COLOURS["brown" if s.chance(0.3) else "black"], 0.9)
    patch = (234, 232, 226) if s.model.colours["body"] in ("black", "brown") else dark
    for _ in range(int(s.rng.integers(3, 6))):
        x, z, side = s.between(-0.75, 0.6) * half, s.between(-0.3, 0.5) * girth, 1 if s.chance(0.5) else -1
        spot = (s.between(0.09, 0.17), 0.04, s.between(0.07, 0.13))
        y = side * (width * 0.94 - 0.14 * abs(z))
        s.add("patches", ellipsoid((x, y, leg + girth + z), spot, 8, 4), colour=patch)


def _legs(
    s: Sculptor, category: str, half: float, width: float, leg: float, girth: float, thick: float
) -> None:
    """Four legs with feet, in the body's colour or dark ones."""
    factor = 0.96 if category != "sheep" else 1.0
    dark = s.tint("body", s.between(0.4, 0.6)) if s.chance(0.35) or category == "sheep" else None
    socks = (228, 226, 220) if s.chance(0.3) else s.tint("body", 0.8)
    feet = s.material("hoof") if category in ("cow", "horse", "sheep") else socks
    for end, x in (("front", half * 0.78), ("back", -half * 0.82)):
        for y in (width * 0.62, -width * 0.62):
            s.add("legs", cone((x, y, leg + girth * 0.6), (x, y, 0.05), thick * 1.25, thick * 0.8, 7),
                  colour=dark or s.tint("body", factor))  # fmt: skip
            s.add("feet", box((x + 0.015, y, 0.03), (thick * 2.4, thick * 1.9, 0.06)), colour=feet)
        s.sides(f"{end} foot", (x + 0.015 + thick * 1.2, width * 0.62, 0.02))


def _head(
    s: Sculptor, b: _Build, category: str, x: float, z: float, head: float, snout: float, ear: float
) -> None:
    """Skull, snout, eyes, ears and, on a cow, horns."""
    dark = category == "sheep" or s.chance(0.15)
    face = s.tint("body", 0.4 if dark else s.between(0.9, 1.1))
    s.add("head", ellipsoid((x, 0, z), (head * 1.1, head * 0.85, head), 10, 5), colour=face)
    drop = 0.35 * snout
    s.add(
        "snout",
        cone(
            (x + head * 0.5, 0, z - head * 0.2),
            (x + head + snout, 0, z - head * 0.3 - drop),
            head * 0.62,
            head * 0.42,
            8,
        ),
        colour=s.material("muzzle") if category == "cow" and not dark else scaled(face, 1.12),
    )
    tip = (x + head + snout, 0.0, z - head * 0.22 - drop)
    s.add("nose", ellipsoid(tip, (head * 0.16, head * 0.3, head * 0.22), 6, 4), colour="nose")
    s.point("nose", (x + head + snout, 0, z - head * 0.3 - drop))
    for side in (1, -1):
        y = side * head * 0.62
        s.add("eye", ball((x + head * 0.6, y, z + head * 0.35), 0.028, 6, 3), colour="eye")
        floppy = category in ("dog", "sheep", "cow")
        lift, out = (-0.45, 0.55) if floppy else (0.9, 0.15)
        root = (x - head * 0.25, side * head * 0.6, z + head * 0.6)
        tip = (root[0] - 0.02, root[1] + side * out * ear, root[2] + lift * ear)
        s.add("ears", cone(root, tip, ear * 0.34, ear * 0.1, 5), colour=scaled(face, 0.82))
        if category == "cow":
            horn = (root[0] + 0.06, root[1] + side * 0.09, root[2] + 0.2)
            s.add(
                "horns",
                cone((root[0] + 0.02, root[1] * 0.7, root[2]), horn, 0.03, 0.008, 5),
                colour=(226, 214, 186),
            )
        if side == 1:
            s.sides("eye", (x + head * 0.6, head * 0.68, z + head * 0.35))
            s.sides("ear tip", tip)
            if category == "cow":
                s.sides("horn tip", horn)


def bird(rng: np.random.Generator, duck: bool = False) -> ObjectModel:
    """A perching bird with folded or spread wings, or a floating duck; 12 and 14 keypoints."""
    s = Sculptor("duck" if duck else "bird", rng)
    length, girth = s.between(0.26, 0.34), s.between(0.14, 0.19)
    pitch = 0.0 if duck else s.between(0.1, 0.55)
    base = 0.14 if duck else s.between(0.28, 0.36)
    s.paint("body", ("white", "white", "brown", "gray", "yellow", "green") if duck else PLUMAGE)
    s.add("body", ellipsoid((0, 0, base), (length, girth, girth), 12, 6, pitch))
    hx = length * (0.8 if duck else 0.85)
    hz = base + (girth * 1.9 if duck else girth * 0.9 + length * 0.5 * pitch)
    head = s.between(0.10, 0.13)
    s.add("body", cone((length * 0.6, 0, base), (hx, 0, hz), girth * 0.6, head * 0.7, 8))
    crown = s.paint("head", PLUMAGE) if s.chance(0.35) else s.tint("body", s.between(0.8, 1.15))
    s.add("head", ellipsoid((hx, 0, hz), (head, head * 0.9, head), 10, 5), colour=crown)
    beak = s.between(0.12, 0.2)
    flat = 0.5 if duck else 0.1
    s.add(
        "beak",
        cone((hx + head * 0.7, 0, hz - 0.01), (hx + head + beak, 0, hz - 0.03), 0.05, 0.05 * flat, 6),
        colour="horn",
    )
    s.point("beak tip", (hx + head + beak, 0, hz - 0.03))
    s.point("crown", (hx, 0, hz + head))
    s.sides("eye", (hx + head * 0.5, head * 0.75, hz + head * 0.35))
    spread = s.between(0.25, 0.55) if not duck and s.chance(0.5) else 0.0
    wing = s.paint("wings", PLUMAGE) if s.chance(0.25) else s.tint("body", s.between(0.6, 0.85))
    for side in (1, -1):
        s.add("eye", ball((hx + head * 0.5, side * head * 0.7, hz + head * 0.35), 0.025, 6, 3),
              colour="eye")  # fmt: skip
        root, y = (length * 0.35, side * girth * 0.8, base + girth * 0.55), side * girth
        tip = (-length * 0.9, y * 1.1 + side * spread, base + girth * 0.35 + spread * 0.5)
        back = (-length * 0.35, side * girth * 0.9, base - girth * 0.15)
        s.add("wings", plate([root, tip, (tip[0] - 0.02, tip[1], tip[2] - 0.04), back], 0.05), colour=wing)
        if side == 1:
            s.sides("wing tip", tip)
            s.sides("wing root", (root[0], root[1] + 0.03, root[2]))
        if not duck:
            foot = (length * 0.15, side * girth * 0.45, 0.0)
            s.add("legs", rod((0, side * girth * 0.4, base - girth * 0.5), foot, 0.02, 5), colour="horn")
            s.add("legs", box((foot[0] + 0.04, foot[1], 0.01), (0.13, 0.07, 0.025)), colour="horn")
    tail = (-length * 1.55, 0.0, base - length * 0.9 * pitch + (0.1 if duck else 0.0))
    root_z = base - length * 0.6 * pitch
    s.add(
        "tail",
        plate(along((-length * 0.6, 0.06, root_z), (tail[0], 0.1, tail[2])), 0.04),
        colour=s.tint("body", 0.7),
    )
    s.point("tail tip", tail)
    s.point("breast", (length * 0.93, 0, base + length * 0.2 * pitch))
    if duck:
        s.point("beak base", (hx + head * 0.95, 0, hz + 0.03))
        s.point("nape", (hx - head, 0, hz))
        s.sides("wing back", (-length * 0.35, girth * 0.9 + 0.02, base - girth * 0.15))
    else:
        s.sides("foot", (length * 0.15 + 0.04, girth * 0.45, 0.02))
    s.sides("flank", (length * 0.3, girth * 0.96, base - girth * 0.2), reserved=True)
    s.point("back", (0.0, 0.0, base + girth), reserved=True)
    s.point("belly", (length * 0.3, 0.0, base - girth * 0.9 + length * 0.3 * pitch), reserved=True)
    return s.model


def person(rng: np.random.Generator) -> ObjectModel:
    """A standing or walking person; 14 keypoints."""
    s = Sculptor("person", rng)
    leg, torso, wide = s.between(0.46, 0.56), s.between(0.36, 0.44), s.between(0.13, 0.18)
    hip, neck = leg, leg + torso
    s.paint("shirt", CLOTH)
    s.paint("trousers", TROUSERS)
    s.add("shirt", box((0, 0, hip + torso / 2), (0.17, 2 * wide * 0.8, torso), (1.0, 1.25)))
    s.add("trousers", box((0, 0, hip), (0.175, 2 * wide * 0.85, 0.12)))
    skin = varied(SKIN[int(s.rng.integers(len(SKIN)))], s.rng, 5)
    hair = varied(COLOURS[HAIR[int(s.rng.integers(len(HAIR)))]], s.rng, 6)
    shoe = s.tint("trousers", 0.5) if s.chance(0.5) else (60, 52, 50)
    s.add("skin", rod((0, 0, neck), (0, 0, neck + 0.09), 0.045, 6), colour=skin)
    hz = neck + 0.18
    s.add("skin", ellipsoid((0, 0, hz), (0.1, 0.09, 0.12), 10, 5), colour=skin)
    s.add(
        "skin", cone((0.08, 0, hz - 0.01), (0.13, 0, hz - 0.025), 0.02, 0.015, 5), colour=scaled(skin, 0.93)
    )
    s.add("hair", ball((-0.025, 0, hz + 0.045), 0.1, 10, 5), colour=hair)
    for side in (1, -1):
        s.add("eye", ball((0.088, side * 0.04, hz + 0.025), 0.016, 6, 3), colour="eye")
    s.point("head top", (-0.01, 0, hz + 0.14))
    s.point("nose", (0.13, 0, hz - 0.025))
    stride, swing, lift = s.between(0.0, 0.16), s.between(-0.15, 0.2), s.between(0.0, 0.35)
    for name, side in (("left", 1), ("right", -1)):
        y, step = side * wide * 0.5, side * stride
        knee, foot = (step * 0.6 + 0.02, y, leg * 0.5), (step, y, 0.03)
        s.add(
            "trousers", cone((0, y, hip), knee, 0.075, 0.06, 7), cone(knee, (step, y, 0.06), 0.06, 0.045, 7)
        )
        s.add("shoes", box((step + 0.04, y, 0.03), (0.19, 0.08, 0.07), (0.7, 0.9), -0.02), colour=shoe)
        shoulder = (0.0, side * wide * 1.08, neck - 0.05)
        elbow = (-side * swing * 0.6, shoulder[1] + side * 0.05, neck - 0.24 + lift * 0.1)
        hand = (elbow[0] + 0.12 + lift * 0.2, elbow[1] + side * 0.02, elbow[2] - 0.16 + lift * 0.6)
        s.add("shirt", cone(shoulder, elbow, 0.055, 0.045, 6))
        s.add(
            "skin",
            cone(elbow, hand, 0.04, 0.03, 6),
            ellipsoid(hand, (0.042, 0.035, 0.042), 6, 4),
            colour=skin,
        )
        for joint, place in (("shoulder", shoulder), ("elbow", elbow), ("hand", hand)):
            s.point(f"{name} {joint}", place)
        s.point(f"{name} knee", (knee[0] + 0.05, knee[1], knee[2]))
        s.point(f"{name} foot", (foot[0] + 0.1, y, 0.03))
        s.point(f"{name} hip", (0.0, side * wide * 0.75, hip + 0.03))
    s.point("chest", (0.085, 0.0, hip + torso * 0.72), reserved=True)
    s.point("belly", (0.085, 0.0, hip + torso * 0.28), reserved=True)
    s.point("back", (-0.085, 0.0, hip + torso * 0.6), reserved=True)
    return s.model
