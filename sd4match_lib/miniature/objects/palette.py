"""The colours of MiniPair: words that a caption can say, what things are usually made of, and tints."""

from typing import Final

import numpy as np

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (190, 48, 44),
    "orange": (224, 130, 48),
    "yellow": (232, 200, 76),
    "green": (70, 138, 74),
    "cyan": (92, 178, 186),
    "blue": (54, 92, 172),
    "purple": (120, 76, 148),
    "pink": (224, 152, 170),
    "brown": (122, 84, 54),
    "beige": (212, 190, 154),
    "white": (236, 235, 230),
    "gray": (142, 144, 148),
    "black": (46, 46, 50),
}
"""sRGB of each colour word."""

MATERIALS: Final[dict[str, Rgb]] = {
    "rubber": (40, 40, 44),
    "window": (150, 186, 204),
    "steel": (150, 154, 160),
    "iron": (74, 76, 82),
    "brass": (200, 164, 82),
    "lamp": (248, 238, 190),
    "tail lamp": (176, 36, 34),
    "wood": (150, 106, 66),
    "soil": (84, 62, 46),
    "horn": (226, 170, 76),
    "hoof": (70, 60, 54),
    "nose": (88, 66, 62),
    "muzzle": (222, 176, 164),
    "eye": (26, 24, 26),
    "sail": (240, 236, 222),
}
"""sRGB of what no caption names because it nearly always looks the same."""

ANY: Final = tuple(COLOURS)
PAINT: Final = ("red", "blue", "white", "green", "yellow", "gray", "black", "orange", "cyan")
METAL: Final = ("gray", "white", "black")
FUR: Final = ("brown", "black", "white", "gray", "orange", "beige")
WOOL: Final = ("white", "white", "beige", "gray", "brown", "black")
PLUMAGE: Final = ("brown", "gray", "black", "white", "blue", "red", "yellow", "green", "orange")
SKIN: Final = ((236, 196, 166), (222, 172, 136), (186, 130, 92), (134, 90, 64), (92, 62, 48))
HAIR: Final = ("black", "brown", "brown", "yellow", "orange", "gray")
CLOTH: Final = (
    "red", "blue", "white", "green", "yellow", "gray", "black", "orange",
    "pink", "purple", "cyan",
)  # fmt: skip
TROUSERS: Final = ("blue", "blue", "black", "gray", "brown", "beige", "green")
PLANT: Final = ("green", "green", "green", "green", "yellow", "red")
POT: Final = ("orange", "orange", "white", "brown", "gray", "blue", "red", "yellow")
WOOD: Final = ("brown", "brown", "beige", "white", "black", "red", "blue", "green")
BOTTLE: Final = ("green", "green", "brown", "blue", "white", "cyan", "red", "orange", "black")


def scaled(rgb: Rgb, factor: float) -> Rgb:
    """Darker below 1; above 1 lighter, half-way to white at 1.5."""
    if factor <= 1.0:
        red, green, blue = (round(value * factor) for value in rgb)
    else:
        red, green, blue = (round(value + (255 - value) * min(1.0, factor - 1.0)) for value in rgb)
    return red, green, blue


def varied(rgb: Rgb, rng: np.random.Generator, spread: int = 12) -> Rgb:
    """The colour a little lighter or darker, and each channel off by up to `spread`."""
    bright = 0.86 + 0.26 * float(rng.random())
    offsets = rng.integers(-spread, spread + 1, size=3).tolist()
    red, green, blue = (max(0, min(255, round(v * bright) + o)) for v, o in zip(rgb, offsets, strict=True))
    return red, green, blue
