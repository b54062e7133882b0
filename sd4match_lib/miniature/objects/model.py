"""What a MiniPair object is: coloured parts made of solids, and named 3-D keypoints."""

from dataclasses import dataclass, field

import numpy as np

from sd4match_lib.miniature.objects.palette import ANY
from sd4match_lib.miniature.objects.solids import Solid, Vec


@dataclass(frozen=True)
class Keypoint:
    """A named point on the object.

    `xyz` is its place in the object frame. With a `radius` the point is view-dependent, as SPair's bottle
    keypoints are: it lies on the outline, `radius` to the picture's left (`side = -1`) or right (`side = +1`)
    of the vertical axis through `xyz`.
    """

    name: str
    xyz: Vec
    radius: float = 0.0
    side: int = 0


@dataclass
class ObjectModel:
    """One object: its category, parts (name, colour word, solid), keypoints, and the colours a caption may
    name.
    """

    category: str
    parts: list[tuple[str, str, Solid]] = field(default_factory=list)
    keypoints: list[Keypoint] = field(default_factory=list)
    colours: dict[str, str] = field(default_factory=dict)


class Sculptor:
    """Puts an object together from random proportions and colours, all drawn from one generator."""

    def __init__(self, category: str, rng: np.random.Generator) -> None:
        """Begins an object without parts."""
        self.rng = rng
        self.model = ObjectModel(category)

    def between(self, low: float, high: float) -> float:
        """A proportion drawn evenly from `[low, high)`."""
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self.rng.random()) < probability

    def paint(self, part: str, palette: tuple[str, ...] = ANY) -> str:
        """Draws the colour word of a part and records it for the caption; a part keeps its first colour."""
        if part not in self.model.colours:
            self.model.colours[part] = palette[int(self.rng.integers(len(palette)))]
        return self.model.colours[part]

    def add(self, part: str, *solids: Solid, colour: str | None = None) -> None:
        """Adds solids to a part, in its painted colour or, for details no caption names, in a given one."""
        word = self.paint(part) if colour is None else colour
        self.model.parts += [(part, word, solid) for solid in solids]

    def point(self, name: str, xyz: Vec) -> None:
        """Adds one keypoint."""
        self.model.keypoints.append(Keypoint(name, xyz))

    def sides(self, name: str, xyz: Vec) -> None:
        """Adds the keypoint's left twin at `xyz` and its right twin mirrored across y."""
        x, y, z = xyz
        self.point(f"left {name}", (x, y, z))
        self.point(f"right {name}", (x, -y, z))

    def outline(self, name: str, xyz: Vec, radius: float) -> None:
        """Adds the two view-dependent keypoints `radius` left and right of the axis, as the picture shows
        them.
        """
        self.model.keypoints.append(Keypoint(f"{name} on the left", xyz, radius, -1))
        self.model.keypoints.append(Keypoint(f"{name} on the right", xyz, radius, 1))
