"""One MiniPair picture: an object, a camera, a look; rendered with its keypoints, box, mask and flags."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from sd4match_lib.miniature.objects.model import ObjectModel
from sd4match_lib.miniature.objects.palette import COLOURS
from sd4match_lib.miniature.render.raster import SUPERSAMPLE, Camera, Raster, locate, rasterise
from sd4match_lib.miniature.render.style import STYLES, Look, background

IMAGE_SIZE = 128


@dataclass(frozen=True)
class Picture:
    """A rendered picture and all that is known about it.

    `rgb` is `(S, S, 3)` uint8, `mask` `(S, S)` bool (the object's visible pixels), `parts` `(S, S)` int16 the
    index in `model.parts` of what each pixel shows (-1: none of the object), `points` `(S, S, 3)` its place
    in the object frame (NaN: none, whatever stands before it), `keypoints` maps a name to (x,
    y) in pixels for those that are seen, `box` is the visible object's (x0, y0, x1, y1) in pixels.
    `truncated`: the frame cuts the object; `occluded`: something stands before it.
    """

    rgb: np.ndarray
    mask: np.ndarray
    parts: np.ndarray
    points: np.ndarray
    keypoints: dict[str, tuple[float, float]]
    box: tuple[int, int, int, int]
    truncated: bool
    occluded: bool
    camera: Camera
    model: ObjectModel


def random_camera(
    model: ObjectModel,
    look: Look,
    rng: np.random.Generator,
    azimuth: tuple[float, float] = (0.0, 2 * math.pi),
) -> Camera:
    """Draws a camera that frames the object as the look likes it; bounds of the azimuth in radians."""
    style = STYLES[look]

    def draw(bounds: tuple[float, float]) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * float(rng.random())

    turn, lift, roll = draw(azimuth), draw(style.elevation), draw((-0.08, 0.08))
    camera = Camera(turn, lift, roll, draw((2.4, 3.6)), 1.0, (0.0, 0.0))
    xy, _ = camera.project(np.concatenate([solid.vertices for _, _, solid in model.parts]), 1)
    low, high = xy.min(axis=0), xy.max(axis=0)
    extent = float((high - low).max())
    zoom, middle = draw(style.zoom), (low + high) / 2 - 0.5
    shift = [draw((-style.shift, style.shift)) for _ in range(2)]
    offset = (-float(middle[0]) * zoom / extent + shift[0], -float(middle[1]) * zoom / extent + shift[1])
    return replace(camera, focal=zoom / extent, offset=offset)


def take_picture(
    make: Callable[[np.random.Generator], ObjectModel],
    object_rng: np.random.Generator,
    view_rng: np.random.Generator,
    look: Look = Look.SPAIR,
    azimuth: tuple[float, float] = (0.0, 2 * math.pi),
    size: int = IMAGE_SIZE,
) -> Picture:
    """Makes the object from `object_rng`, everything else (camera, light, backdrop, noise) from `view_rng`,
    and renders it.
    """
    model = make(object_rng)
    camera = random_camera(model, look, view_rng, azimuth)
    raster = rasterise(model, camera, _light(camera, view_rng), size)
    cover = _occluder(view_rng, STYLES[look].occluder, raster, size)
    return _develop(model, camera, raster, cover, look, view_rng, size)


def _light(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A unit vector towards a light above and somewhere behind the photographer."""
    turn = camera.azimuth + (float(rng.random()) - 0.5) * 2.4
    light = np.array([math.cos(turn), math.sin(turn), 0.5 + 0.7 * float(rng.random())])
    return light / math.sqrt(float((light * light).sum()))


def _occluder(
    rng: np.random.Generator, probability: float, raster: Raster, size: int
) -> tuple[Image.Image, tuple[int, ...]] | None:
    """Now and then, a flat shape before the object: its `(S, S)` stencil and colour."""
    if float(rng.random()) >= probability:
        return None
    rows, columns = np.nonzero(raster.part >= 0)
    pick = int(rng.integers(len(rows)))
    x, y = int(columns[pick]) // SUPERSAMPLE, int(rows[pick]) // SUPERSAMPLE
    points = rng.integers(-size // 5, size // 5, size=(5, 2)) + np.array([x, y])
    stencil = Image.new("1", (size, size))
    ImageDraw.Draw(stencil).polygon([(int(a), int(b)) for a, b in points], fill=1)
    return stencil, tuple(int(v) for v in rng.integers(20, 236, size=3))


def _develop(
    model: ObjectModel,
    camera: Camera,
    raster: Raster,
    cover: tuple[Image.Image, tuple[int, ...]] | None,
    look: Look,
    rng: np.random.Generator,
    size: int,
) -> Picture:
    """Paints the parts over the backdrop, adds cover and noise, and reads off the annotations."""
    colours = np.array([COLOURS[word] for _, word, _ in model.parts] + [(0, 0, 0)], dtype=np.uint16)
    painted = (colours[raster.part] * raster.shade[:, :, None].astype(np.uint16)) >> 8
    full = SUPERSAMPLE * SUPERSAMPLE
    coverage = _pool((raster.part >= 0).astype(np.uint16))
    backdrop = np.asarray(background(look, rng, size), dtype=np.uint16)
    rgb = (_pool(painted) + backdrop * (full - coverage)[:, :, None]) // full
    mask = coverage * 2 >= full
    hidden = np.zeros((size, size), dtype=bool)
    if cover is not None:
        hidden = np.asarray(cover[0])
        rgb[hidden] = cover[1]
    noise = STYLES[look].noise
    grain = rng.integers(-noise, noise + 1, size=rgb.shape, dtype=np.int16)
    rgb = np.clip(rgb.astype(np.int16) + grain, 0, 255).astype(np.uint8)
    keypoints = {}
    for keypoint in model.keypoints:
        (x, y), seen = locate(keypoint, camera, raster, size)
        if seen and not hidden[min(size - 1, round(y)), min(size - 1, round(x))]:
            keypoints[keypoint.name] = (x, y)
    occluded = bool((mask & hidden).any())
    mask = mask & ~hidden
    parts = np.where(hidden, np.int16(-1), raster.part[::SUPERSAMPLE, ::SUPERSAMPLE])
    cut = _cut(model, camera, size)
    points = raster.points(camera)
    return Picture(rgb, mask, parts, points, keypoints, _box(mask), cut, occluded, camera, model)


def _pool(values: np.ndarray) -> np.ndarray:
    """Sums each `SUPERSAMPLE` x `SUPERSAMPLE` block of the first two axes."""
    steps = range(SUPERSAMPLE)
    return sum(
        (values[i::SUPERSAMPLE, j::SUPERSAMPLE] for i in steps for j in steps), np.zeros((), values.dtype)
    )


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The mask's bounding box (x0, y0, x1, y1), last pixels included; the whole frame for an empty mask."""
    if not mask.any():
        return (0, 0, mask.shape[1] - 1, mask.shape[0] - 1)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _cut(model: ObjectModel, camera: Camera, size: int) -> bool:
    """Whether the frame cuts the object off."""
    xy, _ = camera.project(np.concatenate([solid.vertices for _, _, solid in model.parts]), size)
    return bool((xy < -0.5).any() or (xy > size + 0.5).any())
