"""The looks of MiniPair: which real dataset a picture takes after, its framing, and where things stand."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np


class Look(StrEnum):
    """Which real dataset a picture takes after."""

    SPAIR = "spair"
    PF_PASCAL = "pf_pascal"
    PF_WILLOW = "pf_willow"
    PF_WILLOW_CLUTTERED = "pf_willow_cluttered"


class Place(StrEnum):
    """Where a picture is taken; the value is what a caption says of it."""

    GRASS = "on grass"
    ROAD = "on a road"
    STREET = "in a street"
    SAND = "on sand"
    SNOW = "in the snow"
    WATER = "on the water"
    ROOM = "in a room"
    SKY = "in the sky"
    STUDIO = "in a studio"


@dataclass(frozen=True)
class Style:
    """How pictures of one look are taken.

    Attributes:
        clutter: the most shapes that stand on the horizon or hang on the wall.
        noise: the most that a channel of a pixel is off.
        zoom: bounds of the share of the frame that the object fills, along its longer side.
        shift: the most that it is off the middle, in widths and heights.
        elevation: bounds of the camera's, in radians.
        occluder: how often something stands before the object.
        companion: how often an object of another category stands beside it.
    """

    clutter: int
    noise: int
    zoom: tuple[float, float]
    shift: float
    elevation: tuple[float, float]
    occluder: float
    companion: float


STYLES = {
    Look.SPAIR: Style(7, 4, (0.6, 1.08), 0.08, (0.02, 0.5), 0.12, 0.2),
    Look.PF_PASCAL: Style(4, 6, (0.72, 1.0), 0.05, (0.05, 0.3), 0.06, 0.0),
    Look.PF_WILLOW: Style(1, 3, (0.8, 0.95), 0.03, (0.08, 0.25), 0.0, 0.0),
    Look.PF_WILLOW_CLUTTERED: Style(8, 3, (0.8, 0.95), 0.03, (0.08, 0.25), 0.0, 0.0),
}

_ANIMAL = (Place.GRASS, Place.GRASS, Place.GRASS, Place.SAND, Place.SNOW, Place.ROAD)
_PET = (Place.GRASS, Place.GRASS, Place.ROOM, Place.ROOM, Place.SAND, Place.STREET)
_ENGINE = (Place.ROAD, Place.ROAD, Place.STREET, Place.STREET, Place.GRASS, Place.SNOW)
_THING = (Place.ROOM, Place.ROOM, Place.ROOM, Place.STUDIO, Place.GRASS)

PLACES: Final[dict[str, tuple[Place, ...]]] = {
    "aeroplane": (Place.SKY, Place.SKY, Place.SKY, Place.ROAD, Place.GRASS),
    "bicycle": _ENGINE,
    "bird": (Place.SKY, Place.SKY, Place.GRASS, Place.SAND, Place.SNOW, Place.STREET),
    "boat": (Place.WATER,) * 8 + (Place.SAND,),
    "bottle": _THING,
    "bus": _ENGINE,
    "car": _ENGINE,
    "cat": _PET,
    "chair": _THING,
    "cow": _ANIMAL,
    "dog": _PET,
    "horse": _ANIMAL,
    "motorbike": _ENGINE,
    "person": (Place.STREET, Place.GRASS, Place.ROOM, Place.SAND, Place.ROAD, Place.SNOW),
    "pottedplant": _THING,
    "sheep": _ANIMAL,
    "train": (Place.GRASS, Place.GRASS, Place.SNOW, Place.STREET, Place.SAND),
    "tvmonitor": (Place.ROOM,) * 4 + (Place.STUDIO,),
    "duck": (Place.WATER, Place.WATER, Place.WATER, Place.GRASS),
    "winebottle": _THING,
}
"""Where each kind is usually seen; the more often the likelier."""

COMPANIONS: Final[dict[Place, tuple[str, ...]]] = {
    Place.WATER: ("bird", "boat", "duck"),
    Place.SKY: ("bird", "aeroplane"),
    Place.ROOM: ("cat", "dog", "chair", "person", "pottedplant", "tvmonitor", "bottle"),
    Place.STUDIO: ("bottle", "chair", "pottedplant", "cat"),
}
"""What stands beside the object in some places; elsewhere `OUTDOORS`."""

OUTDOORS: Final = (
    "person", "dog", "car", "bicycle", "horse", "cow", "sheep", "bird",
    "motorbike", "cat", "bus",
)  # fmt: skip

SIZES: Final[tuple[tuple[tuple[int, int], float], ...]] = (
    ((160, 120), 0.48),
    ((160, 107), 0.22),
    ((120, 160), 0.14),
    ((107, 160), 0.06),
    ((160, 128), 0.04),
    ((160, 144), 0.03),
    ((144, 160), 0.03),
)
"""Widths and heights of the pictures in pixels, and how often: SPair-71k's shapes at a third of its size."""


def draw_place(kind: str, look: Look, rng: np.random.Generator) -> Place:
    """Where the kind is seen: its usual places, now and then any that is not the sky or the water."""
    if look in (Look.PF_WILLOW, Look.PF_WILLOW_CLUTTERED):
        return (
            Place.STUDIO if float(rng.random()) < 0.6 else PLACES[kind][int(rng.integers(len(PLACES[kind])))]
        )
    usual = PLACES[kind]
    others = (Place.GRASS, Place.ROAD, Place.SAND, Place.SNOW, Place.STREET, Place.ROOM)
    options = others if kind != "boat" and float(rng.random()) < 0.1 else usual
    return options[int(rng.integers(len(options)))]


def draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """A picture's (W, H)."""
    dice = float(rng.random())
    for size, share in SIZES:
        dice -= share
        if dice < 0:
            return size
    return SIZES[0][0]
