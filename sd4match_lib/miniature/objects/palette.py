"""The named colours that MiniPair paints parts with, so that a caption can say what a picture shows."""

from typing import Final

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (204, 36, 40),
    "orange": (240, 132, 30),
    "yellow": (244, 210, 50),
    "green": (48, 150, 62),
    "cyan": (60, 190, 200),
    "blue": (40, 84, 196),
    "purple": (122, 58, 170),
    "pink": (238, 140, 176),
    "brown": (126, 82, 48),
    "white": (240, 240, 236),
    "gray": (136, 138, 144),
    "black": (34, 34, 40),
}
"""sRGB of each colour word."""

ANY: Final = tuple(COLOURS)
METAL: Final = ("gray", "white", "black")
FUR: Final = ("brown", "black", "white", "gray", "orange", "yellow")
PLANT: Final = ("green", "green", "green", "yellow", "red")
WOOD: Final = ("brown", "white", "black", "red", "blue", "green", "yellow")
