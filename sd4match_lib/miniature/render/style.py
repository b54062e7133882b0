"""The looks of MiniPair, and the backgrounds that come with them."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageDraw

from sd4match_lib.miniature.objects.palette import COLOURS


class Look(StrEnum):
    """Which real dataset a picture takes after."""

    SPAIR = "spair"
    PF_PASCAL = "pf_pascal"
    PF_WILLOW = "pf_willow"
    PF_WILLOW_CLUTTERED = "pf_willow_cluttered"


@dataclass(frozen=True)
class Style:
    """How pictures of one look are taken: clutter, noise, framing and how often something stands in front."""

    clutter: int
    noise: int
    zoom: tuple[float, float]
    shift: float
    elevation: tuple[float, float]
    occluder: float


STYLES = {
    Look.SPAIR: Style(8, 6, (0.62, 1.12), 0.1, (0.02, 0.5), 0.2),
    Look.PF_PASCAL: Style(4, 9, (0.75, 1.0), 0.06, (0.05, 0.3), 0.08),
    Look.PF_WILLOW: Style(2, 4, (0.8, 0.95), 0.03, (0.08, 0.25), 0.0),
    Look.PF_WILLOW_CLUTTERED: Style(9, 4, (0.8, 0.95), 0.03, (0.08, 0.25), 0.0),
}


def background(look: Look, rng: np.random.Generator, size: int) -> Image.Image:
    """A cluttered backdrop: soft colour clouds (SPair), sky over ground (PF-Pascal) or a pale studio
    (PF-Willow).
    """
    if look is Look.SPAIR:
        clouds = rng.integers(30, 226, size=(4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(clouds).resize((size, size), Image.Resampling.BICUBIC)
    elif look is Look.PF_PASCAL:
        image = _landscape(rng, size)
    else:
        corners = rng.integers(190, 250, size=(2, 2, 1), dtype=np.uint8).repeat(3, axis=2)
        image = Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
    _clutter(ImageDraw.Draw(image), rng, size, int(rng.integers(0, STYLES[look].clutter + 1)))
    return image


def _landscape(rng: np.random.Generator, size: int) -> Image.Image:
    """Two tinted bands that meet at a horizon."""
    words = list(COLOURS)
    bands = []
    for _ in range(2):
        base = np.array(COLOURS[words[int(rng.integers(len(words)))]]) // 2 + 90
        tint = np.clip(base + rng.integers(-25, 26, size=(3, 3, 3)), 0, 255).astype(np.uint8)
        bands.append(Image.fromarray(tint).resize((size, size), Image.Resampling.BICUBIC))
    horizon = int(rng.integers(size * 2 // 5, size * 4 // 5))
    bands[0].paste(bands[1].crop((0, horizon, size, size)), (0, horizon))
    return bands[0]


def _clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int, count: int) -> None:
    """Flat shapes of any colour behind the object: triangles, boxes, discs and bars."""
    for _ in range(count):
        colour = tuple(int(v) for v in rng.integers(20, 236, size=3))
        x, y = (int(v) for v in rng.integers(-size // 8, size * 9 // 8, size=2))
        w, h = (int(v) for v in rng.integers(size // 16, size // 3, size=2))
        match int(rng.integers(4)):
            case 0:
                points = rng.integers(-size // 4, size // 4, size=(3, 2)) + np.array([x, y])
                draw.polygon([(int(a), int(b)) for a, b in points], fill=colour)
            case 1:
                draw.rectangle((x, y, x + w, y + h), fill=colour)
            case 2:
                draw.ellipse((x, y, x + w, y + h), fill=colour)
            case _:
                draw.line(
                    (x, y, x + 2 * w - size // 3, y + 2 * h - size // 3), fill=colour, width=size // 32 + 1
                )
