"""Captions for pretraining: what the whole picture shows, in words; never where in it."""

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from sd4match_lib.miniature.pretraining.renders import Facts

_VIEWS: Final = (
    "front", "front left", "left", "back left", "back", "back right", "right", "front right",
)  # fmt: skip
_OPENINGS: Final = ("a photo of a", "a photo of a", "a picture of a", "an image of a", "a")
_NO_MAIN_COLOUR: Final = ("person", "pottedplant", "chair")
"""Of these nobody would say that they are of one colour."""


def view_words(azimuth: float) -> str:
    """The octant that the camera stands in, in the object's own words (`azimuth` in radians, 0 = in front, a
    quarter = its left).
    """
    return _VIEWS[round(azimuth / (math.pi / 4)) % 8]


def plain_caption(category: str) -> str:
    """The paper's text prompt (Sec. 3.2): `a photo of a {category}`."""
    return f"a photo of a {category}"


def full_caption(facts: "Facts") -> str:
    """Says all that there is to say."""
    parts = list(facts.colours.items())
    named = "" if facts.category in _NO_MAIN_COLOUR else f"{parts.pop(0)[1]} "
    words = f"a photo of a {named}{facts.category}"
    if parts:
        words += " with " + " and ".join(f"{colour} {part}" for part, colour in parts)
    words += f" seen from the {facts.view} {facts.place}"
    return words + (f" beside a {facts.companion}" if facts.companion else "")


def random_caption(facts: "Facts", rng: np.random.Generator) -> str:
    """Draws a caption: one in ten empty, one in four plain, the rest with colours, view, place and what
    stands beside the object, each as often left out as said.
    """
    dice = float(rng.random())
    if dice < 0.1:
        return ""
    if dice < 0.35:
        return plain_caption(facts.category)

    def says(probability: float) -> bool:
        return float(rng.random()) < probability

    words, parts = _OPENINGS[int(rng.integers(len(_OPENINGS)))], list(facts.colours.items())
    if facts.category not in _NO_MAIN_COLOUR:
        main = parts.pop(0)[1]
        words += f" {main}" if says(0.65) else ""
    words += f" {facts.category}"
    if parts and says(0.4):
        kept = [parts[i] for i in rng.permutation(len(parts))[: int(rng.integers(1, len(parts) + 1))]]
        words += " with " + " and ".join(f"{colour} {part}" for part, colour in kept)
    words += f" seen from the {facts.view}" if says(0.45) else ""
    words += f" {facts.place}" if says(0.5) else ""
    return words + (f" beside a {facts.companion}" if facts.companion and says(0.5) else "")
