"""The kinds of object that MiniPair knows, by name."""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from sd4match_lib.miniature.objects import craft, creatures, cycles, things, vehicles
from sd4match_lib.miniature.objects.model import ObjectModel

Maker = Callable[[np.random.Generator], ObjectModel]

CATEGORIES: Final[dict[str, Maker]] = {
    "aeroplane": craft.aeroplane,
    "bicycle": cycles.bicycle,
    "bird": creatures.bird,
    "boat": craft.boat,
    "bottle": things.bottle,
    "bus": vehicles.bus,
    "car": vehicles.car,
    "cat": partial(creatures.quadruped, "cat"),
    "chair": things.chair,
    "cow": partial(creatures.quadruped, "cow"),
    "dog": partial(creatures.quadruped, "dog"),
    "horse": partial(creatures.quadruped, "horse"),
    "motorbike": cycles.motorbike,
    "person": creatures.person,
    "pottedplant": things.pottedplant,
    "sheep": partial(creatures.quadruped, "sheep"),
    "train": vehicles.train,
    "tvmonitor": things.tvmonitor,
}
"""SPair-71k's 18 categories, in its own words and order."""

EXTRA: Final[dict[str, Maker]] = {
    "duck": partial(creatures.bird, duck=True),
    "winebottle": partial(things.bottle, wine=True),
}
"""PF-Willow's two kinds that SPair-71k lacks."""

ALL_KINDS: Final[dict[str, Maker]] = {**CATEGORIES, **EXTRA}
