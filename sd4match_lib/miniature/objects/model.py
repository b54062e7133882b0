"""What a MiniPair object is: coloured parts made of solids, and named 3-D keypoints."""

from dataclasses import dataclass, field

import numpy as np

from sd4match_lib.miniature.objects.palette import ANY, COLOURS, MATERIALS, Rgb, scaled, varied
from sd4match_lib.miniature.objects.solids import Solid, Vec


@dataclass(frozen=True)
class Keypoint:
    """A named point on the object.

    `xyz` is its place in the object frame. With a `radius` the point is view-dependent, as SPair's bottle
    keypoints are: it lies on the outline, `radius` to the picture's left (`side = -1`) or right (`side = +1`)
    of the vertical axis through `xyz`. A `reserved` one is in no training or validation pair, so that what
    was learned from pairs can be tried on points that it has never seen.
    """

    name: str
    xyz: Vec
    radius: float = 0.0
    side: int = 0
    reserved: bool = False


@dataclass
class ObjectModel:
    """One object: its category, parts (name, sRGB, solid), keypoints, and the colour word of each part that a
    caption may name, the main one first.
    """

    category: str
    parts: list[tuple[str, Rgb, Solid]] = field(default_factory=list)
    keypoints: list[Keypoint] = field(default_factory=list)
    colours: dict[str, str] = field(default_factory=dict)


class Sculptor:
    """Puts an object together from random proportions and colours, all drawn from one generator."""

    def __init__(self, category: str, rng: np.random.Generator) -> None:
        """Begins an object without parts."""
        self.rng = rng
        self.model = ObjectModel(category)
        self._paints: dict[str, Rgb] = {}
        self._materials: dict[str, Rgb] = {}

    def between(self, low: float, high: float) -> float:
        """A proportion drawn evenly from `[low, high)`."""
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self.rng.random()) < probability

    def paint(self, part: str, palette: tuple[str, ...] = ANY) -> Rgb:
        """Draws the colour of a part and records its word for the caption; a part keeps its first colour."""
        if part not in self._paints:
            word = palette[int(self.rng.integers(len(palette)))]
            self.model.colours[part] = word
            self._paints[part] = varied(COLOURS[word], self.rng)
        return self._paints[part]

    def tint(self, part: str, factor: float) -> Rgb:
        """A relative of a painted part's colour: darker below 1, lighter above."""
        return scaled(self._paints[part], factor)

    def material(self, name: str) -> Rgb:
        """What `MATERIALS` says, in this object's own shade of it."""
        if name not in self._materials:
            self._materials[name] = varied(MATERIALS[name], self.rng, 6)
        return self._materials[name]

    def add(self, part: str, *solids: Solid, colour: str | Rgb | None = None) -> None:
        """Adds solids to a part, in its painted colour or, for what no caption names, in another."""
        rgb = self.material(colour) if isinstance(colour, str) else colour or self.paint(part)
        self.model.parts += [(part, rgb, solid) for solid in solids]

    def point(self, name: str, xyz: Vec, *, reserved: bool = False) -> None:
        """Adds one keypoint."""
        self.model.keypoints.append(Keypoint(name, xyz, reserved=reserved))

    def sides(self, name: str, xyz: Vec, *, reserved: bool = False) -> None:
        """Adds the keypoint's left twin at `xyz` and its right twin mirrored across y."""
        x, y, z = xyz
        self.point(f"left {name}", (x, y, z), reserved=reserved)
        self.point(f"right {name}", (x, -y, z), reserved=reserved)

    def outline(self, name: str, xyz: Vec, radius: float, *, reserved: bool = False) -> None:
        """Adds the two view-dependent keypoints `radius` left and right of the axis, as the picture shows
        them.
        """
        for word, side in (("left", -1), ("right", 1)):
            self.model.keypoints.append(Keypoint(f"{name} on the {word}", xyz, radius, side, reserved))
