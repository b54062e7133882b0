"""What lies behind and below the object: sky or wall, floor, its shadow, and what stands on the horizon."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sd4match_lib.miniature.objects.model import ObjectModel
from sd4match_lib.miniature.objects.palette import Rgb, varied
from sd4match_lib.miniature.objects.solids import Solid
from sd4match_lib.miniature.render.raster import Camera
from sd4match_lib.miniature.render.style import Place

_SKY: tuple[Rgb, ...] = ((150, 188, 224), (126, 170, 214), (188, 206, 220), (204, 208, 212), (226, 200, 178))
_WALL: tuple[Rgb, ...] = (
    (222, 214, 198), (200, 208, 206), (214, 196, 176), (186, 200, 214), (206, 204, 214), (176, 190, 172),
    (226, 226, 220), (196, 170, 154),
)  # fmt: skip
_FLOORS: dict[Place, tuple[Rgb, ...]] = {
    Place.GRASS: ((112, 146, 76), (92, 130, 66), (138, 152, 84), (126, 138, 92)),
    Place.ROAD: ((124, 124, 126), (104, 106, 110), (144, 140, 134)),
    Place.STREET: ((138, 136, 134), (118, 118, 120), (158, 148, 138)),
    Place.SAND: ((218, 198, 156), (204, 180, 140), (226, 212, 178)),
    Place.SNOW: ((232, 236, 242), (222, 228, 236)),
    Place.WATER: ((88, 130, 160), (70, 118, 142), (104, 150, 168), (60, 98, 128)),
    Place.ROOM: ((176, 134, 92), (148, 108, 74), (196, 164, 124), (158, 154, 150), (140, 120, 112)),
}
_TREES: tuple[Rgb, ...] = ((74, 106, 64), (90, 120, 74), (104, 116, 66), (62, 92, 66))
_HOUSES: tuple[Rgb, ...] = (
    (182, 160, 140), (164, 130, 112), (196, 190, 180), (150, 152, 160), (206, 186, 150), (138, 116, 104),
)  # fmt: skip


def _pick(options: tuple[Rgb, ...], rng: np.random.Generator, spread: int = 8) -> Rgb:
    """One of the colours, a little off."""
    return varied(options[int(rng.integers(len(options)))], rng, spread)


def _mottled(
    colour: Rgb, rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int], depth: int
) -> np.ndarray:
    """The colour with soft spots up to `depth` lighter and darker, `(H, W, 3)` int16."""
    grid = rng.integers(128 - depth, 129 + depth, size=cells, dtype=np.uint8)
    spots = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), dtype=np.int16) - 128
    return np.array(colour, dtype=np.int16) + spots[:, :, None]


def paint_backdrop(
    place: Place,
    clutter: int,
    camera: Camera,
    models: list[ObjectModel],
    light: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Paints all but the objects, `(H, W, 3)` uint8.

    Args:
        place: what to paint.
        clutter: the most shapes on the horizon or the wall.
        camera: where the picture is taken from; the floor is z = 0.
        models: what throws shadows on the floor, in the camera's frame of reference.
        light: unit vector towards the light.
        size: the picture's (W, H).
        rng: decides colours, spots and clutter.
    """
    width, height = size
    if place is Place.STUDIO:
        return _studio(camera, models, light, size, rng)
    if place is Place.SKY:
        return _sky(size, rng, clouds=int(rng.integers(0, 5)))
    indoors = place is Place.ROOM
    line = _floor_line(camera, size, float(rng.uniform(0.6, 1.6)) if indoors else 60.0)
    upper = _wall(size, rng) if indoors else _sky(size, rng, clouds=int(rng.integers(0, 3)))
    image = Image.fromarray(upper)
    count = int(rng.integers(0, clutter + 1))
    _stand(ImageDraw.Draw(image), place, line, size, count, rng)
    floor = _floor(place, line, size, rng)
    shadow = _shadow(camera, models, light, size).astype(np.int32)
    strength = 70 if place is Place.WATER else 120
    floor = floor - ((floor * shadow[:, :, None] // 256) * strength // 256)
    columns, rows = np.arange(width), np.arange(height)
    edge = np.round(line[0] + (line[1] - line[0]) * columns / max(1, width - 1))
    below = rows[:, None] >= edge[None]
    whole = np.where(below[:, :, None], floor, np.asarray(image, dtype=np.int16))
    return np.clip(whole, 0, 255).astype(np.uint8)


def _floor_line(camera: Camera, size: tuple[int, int], behind: float) -> tuple[float, float]:
    """Heights in pixels, at the picture's left and right edge, of the floor `behind` object units behind the
    object.
    """
    away = -np.array([np.cos(camera.azimuth), np.sin(camera.azimuth), 0.0])
    right = np.array([-np.sin(camera.azimuth), np.cos(camera.azimuth), 0.0])
    (xy, _) = camera.project(np.stack([away * behind - right * behind, away * behind + right * behind]), size)
    (x0, y0), (x1, y1) = np.round(xy * 64).tolist()
    slope = (y1 - y0) / (x1 - x0)
    left = (y0 - slope * x0) / 64
    return left, left + slope * size[0]


def _sky(size: tuple[int, int], rng: np.random.Generator, clouds: int) -> np.ndarray:
    """Paler towards the bottom, with soft clouds, `(H, W, 3)` uint8."""
    width, height = size
    top = np.array(_pick(_SKY, rng), dtype=np.int32)
    low = (top + 2 * np.array((236, 234, 226))) // 3
    share = (np.arange(height) * 256 // height)[:, None]
    bands = (top * (256 - share) + low * share) // 256
    image = Image.fromarray(np.broadcast_to(bands[:, None], (height, width, 3)).astype(np.uint8))
    if clouds:
        stencil = Image.new("L", size)
        draw = ImageDraw.Draw(stencil)
        for _ in range(clouds):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height * 2 // 3))
            for _ in range(3):
                w, h = (
                    int(rng.integers(width // 10, width // 4)),
                    int(rng.integers(height // 24, height // 9)),
                )
                dx, dy = int(rng.integers(-width // 8, width // 8)), int(rng.integers(-h, h + 1))
                draw.ellipse((x + dx - w, y + dy - h, x + dx + w, y + dy + h), fill=170)
        image.paste((248, 248, 246), mask=stencil.filter(ImageFilter.BoxBlur(width // 40)))
    return np.asarray(image)


def _wall(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A wall in one colour, lit from one side, `(H, W, 3)` uint8."""
    colour = _pick(_WALL, rng)
    return np.clip(_mottled(colour, rng, size, (2, 3), 14), 0, 255).astype(np.uint8)


def _studio(
    camera: Camera,
    models: list[ObjectModel],
    light: np.ndarray,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """A pale seamless ground with the objects' shadow, `(H, W, 3)` uint8."""
    tone = int(rng.integers(196, 244))
    tint = rng.integers(-8, 9, size=3).tolist()
    ground = _mottled((tone + tint[0], tone + tint[1], tone + tint[2]), rng, size, (2, 2), 14)
    shadow = _shadow(camera, models, light, size).astype(np.int32)
    return np.clip(ground - (ground * shadow[:, :, None] // 256) * 90 // 256, 0, 255).astype(np.uint8)


def _floor(
    place: Place, line: tuple[float, float], size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """The floor all over the picture, `(H, W, 3)` int16: finer far away, hazier outdoors."""
    height = size[1]
    colour = _pick(_FLOORS[place], rng)
    flat = place in (Place.WATER, Place.ROOM)
    cells = (16 if flat else 9, 3 if place is Place.WATER else 7)
    floor = _mottled(colour, rng, size, cells, 7 if flat else 10)
    if place in (Place.ROAD, Place.STREET, Place.SAND, Place.SNOW):
        floor = _mottled(colour, rng, size, (6, 4), 6)
    middle = (line[0] + line[1]) / 2
    share = np.clip((np.arange(height) - middle) * 512 / height, 0, 256).astype(np.int16)[:, None, None]
    haze = np.array((216, 220, 222), dtype=np.int16)
    far = (2 * floor + haze) // 3 if place is not Place.ROOM else floor * 9 // 10
    return ((far.astype(np.int32) * (256 - share) + floor.astype(np.int32) * share) // 256).astype(np.int16)


def _shadow(
    camera: Camera, models: list[ObjectModel], light: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """How dark the models' shadow on the floor is, `(H, W)` uint8."""
    stencil = Image.new("L", size)
    draw = ImageDraw.Draw(stencil)
    for model in models:
        for _, _, solid in model.parts:
            _drop(draw, solid, camera, light, size)
    return np.asarray(stencil.filter(ImageFilter.BoxBlur(max(size) // 50)))


def _drop(
    draw: ImageDraw.ImageDraw, solid: Solid, camera: Camera, light: np.ndarray, size: tuple[int, int]
) -> None:
    """Draws one solid's shadow as the hull of its corners' shadows."""
    vertices = solid.vertices
    height = np.maximum(vertices[:, 2], 0.0)
    ground = np.stack(
        [vertices[:, i] - height * light[i] / light[2] * 0.6 for i in (0, 1)] + [np.zeros(len(vertices))],
        axis=1,
    )
    xy, depth = camera.project(ground, size)
    if float(depth.min()) <= 0.1:
        return
    hull = _hull(np.round(xy).astype(np.int64).tolist())
    if len(hull) > 2:
        draw.polygon(hull, fill=255)


def _hull(points: list[list[int]]) -> list[tuple[int, int]]:
    """The convex hull of whole-number points (Andrew's monotone chain)."""
    ordered = sorted({(x, y) for x, y in points})
    halves: list[list[tuple[int, int]]] = []
    for run in (ordered, ordered[::-1]):
        half: list[tuple[int, int]] = []
        for p in run:
            while len(half) > 1 and (
                (half[-1][0] - half[-2][0]) * (p[1] - half[-2][1])
                <= (half[-1][1] - half[-2][1]) * (p[0] - half[-2][0])
            ):
                half.pop()
            half.append(p)
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _stand(
    draw: ImageDraw.ImageDraw,
    place: Place,
    line: tuple[float, float],
    size: tuple[int, int],
    count: int,
    rng: np.random.Generator,
) -> None:
    """Trees, houses, hills or, in a room, pictures and shelves: muted, and never below the line."""
    width, height = size
    for _ in range(count):
        x = int(rng.integers(-width // 10, width))
        w, h = int(rng.integers(width // 12, width // 4)), int(rng.integers(height // 10, height // 3))
        foot = int(line[0] + (line[1] - line[0]) * (x + w / 2) / width)
        if place is Place.ROOM:
            top = foot - h - int(rng.integers(height // 8, height // 2))
            frame, inner = _pick(_HOUSES, rng), _pick(_WALL, rng)
            draw.rectangle((x, top, x + w, top + h), fill=frame)
            draw.rectangle((x + 2, top + 2, x + w - 2, top + h - 2), fill=inner)
        elif place is Place.STREET:
            colour = _pick(_HOUSES, rng)
            draw.rectangle((x, foot - 2 * h, x + w, foot + 4), fill=colour)
            pane = tuple(value * 3 // 4 for value in colour)
            for row in range(foot - 2 * h + 4, foot - 6, 10):
                for column in range(x + 4, x + w - 4, 9):
                    draw.rectangle((column, row, column + 4, row + 5), fill=pane)
        elif place in (Place.SAND, Place.WATER) or int(rng.integers(3)) == 0:
            far = tuple((a + 2 * b) // 3 for a, b in zip(_pick(_TREES, rng), (176, 190, 198), strict=True))
            draw.ellipse((x - w, foot - h // 3, x + 2 * w, foot + h), fill=far)
        else:
            colour = _pick(_TREES, rng)
            pale = tuple((2 * a + b) // 3 for a, b in zip(colour, (200, 206, 208), strict=True))
            draw.ellipse((x, foot - h, x + w // 2, foot + h // 8), fill=pale)
            draw.rectangle((x + w // 4 - 1, foot - h // 3, x + w // 4 + 1, foot + 3), fill=(104, 90, 76))
