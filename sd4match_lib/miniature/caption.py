"""Captions for pretraining: what the object is, how it stands, and the colours of its parts."""

import math
from typing import Final

import numpy as np

_VIEWS: Final = (
    "front", "front left", "left", "back left", "back", "back right", "right", "front right",
)  # fmt: skip


def view_words(azimuth: float) -> str:
    """The octant that the camera stands in, in the object's own words (`azimuth` in radians, 0 = in front, a
    quarter = its left).
    """
    return _VIEWS[round(azimuth / (math.pi / 4)) % 8]


def plain_caption(category: str) -> str:
    """The paper's text prompt (Sec. 3.2): `a photo of a {category}`."""
    return f"a photo of a {category}"


def random_caption(category: str, azimuth: float, colours: dict[str, str], rng: np.random.Generator) -> str:
    """Draws a caption: one in ten empty, two in ten plain, the rest with view, coloured parts, or both."""
    dice = float(rng.random())
    if dice < 0.1:
        return ""
    words = plain_caption(category)
    if dice < 0.3:
        return words
    if float(rng.random()) < 0.6:
        words += f" from the {view_words(azimuth)}"
    if float(rng.random()) < 0.9:
        parts = list(colours.items())
        keep = int(rng.integers(1, len(parts) + 1)) if float(rng.random()) < 0.4 else len(parts)
        chosen = [parts[i] for i in rng.permutation(len(parts))[:keep]]
        words += " with " + " and ".join(f"{colour} {part}" for part, colour in chosen)
    return words
