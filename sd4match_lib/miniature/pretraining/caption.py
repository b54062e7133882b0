"""Captions for pretraining: what the object is, how it stands, its parts and their colours, and its ends."""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

_VIEWS: Final = (
    "front", "front left", "left", "back left", "back", "back right", "right", "front right",
)  # fmt: skip

ENDS: Final = (("back", "front"), ("right", "left"), ("bottom", "top"))
"""The words for the low and the high end of each axis of the object frame."""


def _end_words(axis: int) -> str:
    """Names both ends of an axis; the article tells them from parts such as a chair's back."""
    low, high = ENDS[axis]
    return f"the {high} and the {low}"


_ALL_ENDS: Final = [_end_words(axis) for axis in range(len(ENDS))]


def view_words(azimuth: float) -> str:
    """The octant that the camera stands in, in the object's own words (`azimuth` in radians, 0 = in front, a
    quarter = its left).
    """
    return _VIEWS[round(azimuth / (math.pi / 4)) % 8]


def plain_caption(category: str) -> str:
    """The paper's text prompt (Sec. 3.2): `a photo of a {category}`."""
    return f"a photo of a {category}"


def full_caption(category: str, parts: Iterable[str]) -> str:
    """Names the parts, in no colour, and all ends: the most that a prompt can ask of the features."""
    return f"{plain_caption(category)} with {' and '.join([*parts, *_ALL_ENDS])}"


def ends_caption() -> str:
    """Names all ends of whatever there is to see: the most that one prompt for all pictures can ask."""
    return f"a photo of an object with {' and '.join(_ALL_ENDS)}"


def random_caption(category: str, azimuth: float, colours: dict[str, str], rng: np.random.Generator) -> str:
    """Draws a caption: one in ten empty, two in ten plain, the rest with view, parts and ends.

    Half of those that name parts leave out the colours: a part in its colour can be found without knowing
    what it looks like. One in three speaks of an object instead of its category.
    """
    dice = float(rng.random())
    if dice < 0.1:
        return ""
    words = plain_caption(category)
    if dice < 0.3:
        return words
    if float(rng.random()) < 1 / 3:
        words = "a photo of an object"
    if float(rng.random()) < 0.5:
        words += f" from the {view_words(azimuth)}"
    named: list[str] = []
    if float(rng.random()) < 0.85:
        parts, painted = list(colours.items()), float(rng.random()) < 0.5
        keep = int(rng.integers(1, len(parts) + 1)) if float(rng.random()) < 0.4 else len(parts)
        chosen = [parts[i] for i in rng.permutation(len(parts))[:keep]]
        named += [f"{colour} {part}" if painted else part for part, colour in chosen]
    named += [_end_words(int(axis)) for axis in rng.permutation(len(ENDS)) if float(rng.random()) < 0.5]
    return words + (" with " + " and ".join(named) if named else "")
