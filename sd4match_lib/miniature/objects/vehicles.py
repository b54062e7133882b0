"""MiniPair's vehicles on four wheels or more: bus, car and train."""

import numpy as np

from sd4match_lib.miniature.objects.model import ObjectModel, Sculptor
from sd4match_lib.miniature.objects.palette import PAINT
from sd4match_lib.miniature.objects.solids import across, along, ball, box, cone, hexahedron, rod, wheel


def _wheels(s: Sculptor, front: float, back: float, y: float, r: float, width: float) -> None:
    """Four wheels with hub caps, and a keypoint on the outside of each."""
    for end, x in (("front", front), ("back", back)):
        for side in (1, -1):
            s.add("tyres", wheel((x, side * (y - width / 2), r), r, width), colour="rubber")
            s.add("hubs", wheel((x, side * (y - width / 2), r), r * 0.5, width + 0.02, 8), colour="steel")
        s.sides(f"{end} wheel", (x, y + 0.01, r))


def _lamps(s: Sculptor, x: float, y: float, z: float, size: float, kind: str, colour: str) -> None:
    """A pair of lamps at one end, and their keypoints."""
    for side in (1, -1):
        s.add(kind, box((x, side * y, z), (0.03, size * 1.3, size)), colour=colour)
    s.sides(kind, (x + (0.015 if x > 0 else -0.015), y, z))


def car(rng: np.random.Generator) -> ObjectModel:
    """A saloon, hatchback or estate; 14 keypoints."""
    s = Sculptor("car", rng)
    half, wide = s.between(0.46, 0.54), s.between(0.2, 0.24)
    r, floor, waist = s.between(0.085, 0.105), 0.07, s.between(0.22, 0.26)
    s.paint("body", PAINT)
    s.add("body", box((0, 0, (floor + waist) / 2), (2 * half, 2 * wide, waist - floor), (0.97, 0.94)))
    roof, front, back = waist + s.between(0.14, 0.2), s.between(0.12, 0.24), -half * s.between(0.65, 0.95)
    slope_f, slope_b = s.between(0.08, 0.16), s.between(0.03, 0.12)
    y0, y1 = wide * 0.92, wide * 0.74
    bottom = along((front, y0, waist), (back, y0, waist))
    top = along((front - slope_f, y1, roof), (back + slope_b, y1, roof))
    s.add("windows", hexahedron(bottom, top), colour="window" if s.chance(0.6) else (70, 84, 96))
    s.add(
        "roof",
        box(
            ((front - slope_f + back + slope_b) / 2, 0, roof + 0.01),
            (front - slope_f - back - slope_b, 2 * y1, 0.03),
        ),
        colour=s.tint("body", 0.94),
    )
    s.add(
        "pillars",
        box(((front + back) / 2, 0, (waist + roof) / 2), (0.03, 2 * (y0 + y1) / 2 + 0.015, roof - waist)),
        colour=s.tint("body", 0.94),
    )
    _wheels(s, half * 0.62, -half * 0.62, wide + 0.01, r, 0.09)
    _lamps(s, half * 0.985, wide * 0.7, waist - 0.05, 0.055, "headlight", "lamp")
    _lamps(s, -half * 0.985, wide * 0.7, waist - 0.05, 0.055, "tail light", "tail lamp")
    bumper = s.material("iron") if s.chance(0.5) else s.tint("body", 0.8)
    s.add("bumper", box((half, 0, floor + 0.035), (0.05, 2 * wide * 0.98, 0.05)), colour=bumper)
    s.add("bumper", box((-half, 0, floor + 0.035), (0.05, 2 * wide * 0.98, 0.05)), colour=bumper)
    s.sides("roof front", (front - slope_f, y1, roof + 0.02))
    s.sides("roof back", (back + slope_b, y1, roof + 0.02))
    s.point("bonnet front", (half * 0.97, 0, waist))
    s.point("boot back", (-half * 0.97, 0, waist))
    s.sides("door", (0.0, wide, (floor + waist) / 2), reserved=True)
    s.point("roof middle", ((front - slope_f + back + slope_b) / 2, 0.0, roof + 0.02), reserved=True)
    s.point("bonnet middle", ((half + front) / 2, 0.0, waist), reserved=True)
    return s.model


def bus(rng: np.random.Generator) -> ObjectModel:
    """A city bus; 14 keypoints."""
    s = Sculptor("bus", rng)
    half, wide, tall = s.between(0.55, 0.66), s.between(0.15, 0.18), s.between(0.36, 0.46)
    floor, r = 0.07, s.between(0.07, 0.09)
    middle = floor + tall / 2
    s.paint("body", PAINT)
    s.paint("stripe", PAINT)
    s.add("body", box((0, 0, middle), (2 * half, 2 * wide, tall)))
    s.add(
        "roof",
        box((0, 0, floor + tall + 0.015), (2 * half * 0.97, 2 * wide * 0.95, 0.04)),
        colour=s.tint("body", 1.25) if s.chance(0.5) else (226, 226, 222),
    )
    glass = s.material("window") if s.chance(0.6) else (70, 84, 96)
    panes = int(s.rng.integers(4, 7))
    step = 2 * half * 0.84 / panes
    for i in range(panes):
        x = -half * 0.84 + step * (i + 0.5)
        s.add(
            "windows",
            box((x, 0, middle + tall * 0.18), (step * 0.78, 2 * wide + 0.012, tall * 0.34)),
            colour=glass,
        )
    s.add(
        "windscreen",
        box((half, 0, middle + tall * 0.15), (0.015, 2 * wide * 0.86, tall * 0.45)),
        colour=glass,
    )
    s.add("doors", box((half * 0.82, -wide, middle - tall * 0.08), (0.11, 0.02, tall * 0.75)), colour="iron")
    s.add("stripe", box((0, 0, middle - tall * 0.2), (2 * half + 0.008, 2 * wide + 0.008, tall * 0.12)))
    _wheels(s, half * 0.58, -half * 0.58, wide + 0.008, r, 0.07)
    _lamps(s, half + 0.005, wide * 0.7, floor + 0.06, 0.05, "headlight", "lamp")
    for z, word in ((floor + tall, "top"), (floor, "bottom")):
        s.sides(f"front {word}", (half, wide, z))
        s.sides(f"back {word}", (-half, wide, z))
    s.sides("side middle", (0.0, wide, middle - tall * 0.05), reserved=True)
    s.point("roof middle", (0.0, 0.0, floor + tall + 0.03), reserved=True)
    s.point("windscreen middle", (half, 0.0, middle + tall * 0.15), reserved=True)
    return s.model


def train(rng: np.random.Generator) -> ObjectModel:
    """A steam engine; 13 keypoints."""
    s = Sculptor("train", rng)
    half, wide, r = s.between(0.52, 0.62), s.between(0.14, 0.17), s.between(0.075, 0.095)
    deck = r * 1.7
    s.add("frame", box((0, 0, deck), (2 * half, 2 * wide * 0.95, 0.06)), colour="iron")
    s.paint("boiler", ("green", "black", "blue", "red", "gray", "brown"))
    boiler, top = s.between(0.11, 0.14), deck + 0.03
    s.add("boiler", rod((-half * 0.3, 0, top + boiler), (half * 0.88, 0, top + boiler), boiler, 10))
    s.add(
        "boiler",
        cone((half * 0.88, 0, top + boiler), (half * 0.94, 0, top + boiler), boiler * 0.8, boiler * 0.7, 10),
        colour=s.tint("boiler", 0.6),
    )
    s.add(
        "bands",
        rod((half * 0.2, 0, top + boiler), (half * 0.27, 0, top + boiler), boiler * 1.06, 10),
        colour="brass",
    )
    stack, sx = top + 2 * boiler + s.between(0.12, 0.2), half * 0.66
    s.add("chimney", cone((sx, 0, top + 2 * boiler - 0.03), (sx, 0, stack), 0.045, 0.075, 8), colour="rubber")
    s.add("dome", ball((half * 0.08, 0, top + 2 * boiler), 0.07, 8, 4), colour="brass")
    roof = top + 2 * boiler + s.between(0.06, 0.14)
    back, front = -half * 0.95, -half * 0.3
    s.paint(
        "cab",
        ("green", "black", "blue", "red", "brown", "beige")
        if s.chance(0.4)
        else (s.model.colours["boiler"],),
    )
    s.add("cab", box(((back + front) / 2, 0, (top + roof) / 2), (front - back, 2 * wide, roof - top)))
    s.add("windows", box(((back + front) / 2, 0, roof - 0.1), ((front - back) * 0.6, 2 * wide + 0.012, 0.1)),
          colour="window")  # fmt: skip
    s.add(
        "roof",
        box(((back + front) / 2, 0, roof + 0.02), ((front - back) * 1.15, 2 * wide * 1.15, 0.04)),
        colour=s.tint("cab", 0.7),
    )
    s.add(
        "catcher",
        hexahedron(
            across((half, wide, 0.03), (half + 0.14, wide * 0.5, 0.03)),
            across((half, wide, deck), (half + 0.02, wide * 0.6, deck)),
        ),
        colour="iron",
    )
    s.paint("wheels", ("red", "black", "black", "gray"))
    for x in (half * 0.75, half * 0.33, -half * 0.1, -half * 0.6):
        for side in (1, -1):
            s.add("wheels", wheel((x, side * wide * 0.95, r), r, 0.05, 10))
    s.point("chimney top", (sx, 0, stack))
    s.point("boiler front", (half * 0.95, 0, top + boiler))
    s.point("dome top", (half * 0.08, 0, top + 2 * boiler + 0.07))
    s.sides("catcher tip", (half + 0.14, wide * 0.5, 0.04))
    s.sides("front wheel", (half * 0.75, wide * 0.95 + 0.03, r))
    s.sides("back wheel", (-half * 0.6, wide * 0.95 + 0.03, r))
    s.sides("roof front", ((back + front) / 2 + (front - back) * 0.575, wide * 1.15, roof + 0.03))
    s.sides("roof back", ((back + front) / 2 - (front - back) * 0.575, wide * 1.15, roof + 0.03))
    s.sides("cab side", ((back + front) / 2, wide, (top + roof) / 2 - 0.05), reserved=True)
    s.sides("boiler side", (half * 0.3, boiler, top + boiler), reserved=True)
    return s.model
