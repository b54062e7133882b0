"""One MiniPair picture: an object, a camera, a look; rendered with its keypoints, box, mask and flags."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from sd4match_lib.miniature.objects.catalogue import ALL_KINDS
from sd4match_lib.miniature.objects.model import ObjectModel
from sd4match_lib.miniature.objects.palette import varied
from sd4match_lib.miniature.objects.solids import Solid
from sd4match_lib.miniature.render.backdrop import paint_backdrop
from sd4match_lib.miniature.render.raster import FIRST_NEW, SUPERSAMPLE, Camera, Raster, locate, rasterise
from sd4match_lib.miniature.render.style import (
    COMPANIONS,
    OUTDOORS,
    STYLES,
    Look,
    Place,
    draw_place,
    draw_size,
)

Size = tuple[int, int]


@dataclass(frozen=True)
class Render:
    """A rendered picture and all that is known about it.

    `rgb` is `(H, W, 3)` uint8, `mask` `(H, W)` bool (the object's visible pixels), `keypoints` maps a name to
    (x, y) in pixels for those that are seen, `box` is the visible object's (x0, y0, x1, y1) in pixels.
    `truncated`: the frame cuts the object; `occluded`: something stands before it; `companion`: the category
    of what stands beside it.
    """

    rgb: np.ndarray
    mask: np.ndarray
    keypoints: dict[str, tuple[float, float]]
    box: tuple[int, int, int, int]
    truncated: bool
    occluded: bool
    camera: Camera
    model: ObjectModel
    place: Place
    companion: str | None

    @property
    def size(self) -> Size:
        """The picture's (W, H)."""
        return self.rgb.shape[1], self.rgb.shape[0]


def random_camera(
    model: ObjectModel,
    look: Look,
    size: Size,
    rng: np.random.Generator,
    azimuth: tuple[float, float] = (0.0, 2 * math.pi),
) -> Camera:
    """Draws a camera that frames the object as the look likes it; bounds of the azimuth in radians."""
    style = STYLES[look]

    def draw(bounds: tuple[float, float]) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * float(rng.random())

    turn, lift, roll = draw(azimuth), draw(style.elevation), draw((-0.05, 0.05))
    camera = Camera(turn, lift, roll, draw((2.4, 3.6)), 1.0, (0.0, 0.0))
    longer = max(size)
    xy, _ = camera.project(_vertices(model), (longer, longer))
    # In widths and heights, for a focal length of 1, from the middle of the frame.
    xy = (xy - longer / 2) / np.array(size)
    low, high = xy.min(axis=0), xy.max(axis=0)
    focal = draw(style.zoom) / float((high - low).max())
    middle = (low + high) / 2
    shift = [draw((-style.shift, style.shift)) for _ in range(2)]
    offset = (-float(middle[0]) * focal + shift[0], -float(middle[1]) * focal + shift[1])
    return replace(camera, focal=focal, offset=offset)


def take_picture(
    make: Callable[[np.random.Generator], ObjectModel],
    object_rng: np.random.Generator,
    view_rng: np.random.Generator,
    look: Look = Look.SPAIR,
    azimuth: tuple[float, float] = (0.0, 2 * math.pi),
) -> Render:
    """Makes the object from `object_rng`, everything else (shape of the picture, place, camera, light,
    companion, backdrop, noise) from `view_rng`, and renders it.
    """
    model = make(object_rng)
    style, size = STYLES[look], draw_size(view_rng)
    place = draw_place(model.category, look, view_rng)
    camera = random_camera(model, look, size, view_rng, azimuth)
    light = _light(camera, view_rng)
    raster = alone = rasterise(_solids(model), camera, light, size)
    companion = None
    if float(view_rng.random()) < style.companion:
        companion = _companion(model, place, camera, view_rng)
        raster = rasterise(_solids(companion), camera, light, size, alone)
    cover = _occluder(view_rng, style.occluder, place, raster, size)
    models = [model] if companion is None else [model, companion]
    backdrop = paint_backdrop(place, style.clutter, camera, models, light, size, view_rng)
    rgb, seen = _develop(models, raster, backdrop, cover, style.noise, view_rng)
    whole = _pool((alone.part >= 0).astype(np.uint16)) * 2 >= SUPERSAMPLE * SUPERSAMPLE
    hidden = np.zeros(seen.shape, dtype=bool) if cover is None else np.asarray(cover[0])
    keypoints = {}
    for keypoint in model.keypoints:
        (x, y), free = locate(keypoint, camera, raster, size)
        if free and not hidden[min(size[1] - 1, round(y)), min(size[0] - 1, round(x))]:
            keypoints[keypoint.name] = (x, y)
    return Render(
        rgb,
        seen,
        keypoints,
        _box(seen),
        _cut(model, camera, size),
        bool((whole & ~seen).any()),
        camera,
        model,
        place,
        None if companion is None else companion.category,
    )


def _solids(model: ObjectModel) -> list[Solid]:
    """The model's solids, in the order of its parts."""
    return [solid for _, _, solid in model.parts]


def _vertices(model: ObjectModel) -> np.ndarray:
    """All corners `(V, 3)`."""
    return np.concatenate([solid.vertices for solid in _solids(model)])


def _light(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A unit vector towards a light above and somewhere behind the photographer."""
    turn = camera.azimuth + (float(rng.random()) - 0.5) * 2.4
    light = np.array([math.cos(turn), math.sin(turn), 0.7 + 0.7 * float(rng.random())])
    return light / math.sqrt(float((light * light).sum()))


def _companion(model: ObjectModel, place: Place, camera: Camera, rng: np.random.Generator) -> ObjectModel:
    """An object of another category, turned anyhow, beside the first or a little behind or before it."""
    kinds = [kind for kind in COMPANIONS.get(place, OUTDOORS) if kind != model.category]
    other = ALL_KINDS[kinds[int(rng.integers(len(kinds)))]](rng)
    turn, scale = 2 * math.pi * float(rng.random()), 0.6 + 0.4 * float(rng.random())
    side = 1.0 if float(rng.random()) < 0.5 else -1.0
    across, away = side * (0.5 + 0.45 * float(rng.random())), -0.25 + 0.9 * float(rng.random())
    right = np.array([-math.sin(camera.azimuth), math.cos(camera.azimuth), 0.0])
    back = np.array([-math.cos(camera.azimuth), -math.sin(camera.azimuth), 0.0])
    move = across * right + away * back
    c, s = math.cos(turn) * scale, math.sin(turn) * scale

    def placed(solid: Solid) -> Solid:
        x, y, z = solid.vertices.T
        return replace(solid, vertices=np.stack([c * x - s * y, s * x + c * y, scale * z], axis=1) + move)

    return replace(other, parts=[(part, rgb, placed(solid)) for part, rgb, solid in other.parts])


def _occluder(
    rng: np.random.Generator, probability: float, place: Place, raster: Raster, size: Size
) -> tuple[Image.Image, tuple[int, ...]] | None:
    """Now and then something before the object, out of focus: its `(H, W)` stencil and colour. A post or, on
    the ground outdoors, a bush.
    """
    if float(rng.random()) >= probability:
        return None
    rows, columns = np.nonzero(raster.part >= 0)
    pick = int(rng.integers(len(rows)))
    x, y = int(columns[pick]) // SUPERSAMPLE, int(rows[pick]) // SUPERSAMPLE
    stencil = Image.new("1", size)
    draw = ImageDraw.Draw(stencil)
    if place in (Place.GRASS, Place.SAND, Place.ROAD) and int(rng.integers(2)):
        for _ in range(5):
            dx, dy = (int(v) for v in rng.integers(-size[0] // 10, size[0] // 10, size=2))
            r = int(rng.integers(size[0] // 20, size[0] // 9))
            bottom = size[1] - size[1] // 6 + dy
            draw.ellipse((x + dx - r, bottom - r, x + dx + r, bottom + 3 * r), fill=1)
        return stencil, varied((84, 112, 62), rng)
    half = int(rng.integers(size[0] // 40 + 1, size[0] // 14))
    draw.rectangle((x - half, 0 if int(rng.integers(2)) else y - size[1] // 6, x + half, size[1]), fill=1)
    return stencil, varied(((120, 96, 74), (130, 132, 138))[int(rng.integers(2))], rng)


def _develop(
    models: list[ObjectModel],
    raster: Raster,
    backdrop: np.ndarray,
    cover: tuple[Image.Image, tuple[int, ...]] | None,
    noise: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Paints the parts over the backdrop, adds cover and noise: the picture, and the first model's mask."""
    paints = np.zeros((2 * FIRST_NEW, 3), dtype=np.uint16)
    for start, model in zip((0, FIRST_NEW), models, strict=False):
        paints[start : start + len(model.parts)] = [rgb for _, rgb, _ in model.parts]
    drawn = raster.part >= 0
    painted = (paints[raster.part] * raster.shade[:, :, None].astype(np.uint16)) >> 8
    full = SUPERSAMPLE * SUPERSAMPLE
    coverage = _pool(drawn.astype(np.uint16))
    rgb = (_pool(painted) + backdrop.astype(np.uint16) * (full - coverage)[:, :, None]) // full
    mask = _pool((drawn & (raster.part < FIRST_NEW)).astype(np.uint16)) * 2 >= full
    if cover is not None:
        hidden = np.asarray(cover[0])
        rgb[hidden] = cover[1]
        mask &= ~hidden
    grain = rng.integers(-noise, noise + 1, size=rgb.shape, dtype=np.int16)
    return np.clip(rgb.astype(np.int16) + grain, 0, 255).astype(np.uint8), mask


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


def _cut(model: ObjectModel, camera: Camera, size: Size) -> bool:
    """Whether the frame cuts the object off."""
    xy, _ = camera.project(_vertices(model), size)
    return bool((xy < -0.5).any() or (xy > np.array(size) + 0.5).any())
