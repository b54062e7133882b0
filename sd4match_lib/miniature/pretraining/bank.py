"""The pretraining pictures: rendered once with all cores, kept in chunks on disk, the same for a seed on any
machine.

Every object is photographed twice, the second time from elsewhere and in other colours. The objects are drawn
from seeds that no MiniPair split uses.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from sd4match_lib.miniature.objects.catalogue import ALL_KINDS, EXTRA
from sd4match_lib.miniature.objects.model import ObjectModel
from sd4match_lib.miniature.objects.palette import ANY
from sd4match_lib.miniature.render.scene import IMAGE_SIZE, Picture, take_picture
from sd4match_lib.miniature.render.style import Look
from sd4match_lib.utils.files import atomic_write_bytes, atomic_write_text
from sd4match_lib.utils.progress import progress

CHUNK: Final = 256
PART_GRID: Final = 32
SHAPE_GRID: Final = 8
NINTHS: Final = 9
UNNAMED: Final = 255
_SEED: Final = 20231017
_LOOKS: Final = (Look.SPAIR, Look.SPAIR, Look.SPAIR, Look.PF_PASCAL, Look.PF_WILLOW)


@dataclass(frozen=True)
class Entry:
    """What the captions may say about one picture; `azimuth` in radians."""

    category: str
    azimuth: float
    colours: dict[str, str]


@dataclass(frozen=True)
class Bank:
    """`images` is `(2 N, S, S, 3)` uint8: picture `2 i` and its twin `2 i + 1` show the same object.

    `parts` `(2 N, 32, 32)` uint8 says which part a cell shows: 0 none, `k` the `k`-th of the entry's colours,
    255 a detail that no caption names. `places` `(2 N, 3, 32, 32)` uint8 says where on the object it lies, in
    the words of `place_map`.
    """

    images: np.ndarray
    parts: np.ndarray
    places: np.ndarray
    entries: list[Entry]


def recolour(model: ObjectModel, rng: np.random.Generator) -> ObjectModel:
    """The same object with every named colour drawn anew."""
    colours = {part: ANY[int(rng.integers(len(ANY)))] for part in model.colours}
    old = model.colours
    parts = [(p, colours[p] if old.get(p) == word else word, solid) for p, word, solid in model.parts]
    return replace(model, parts=parts, colours=colours)


def _kind(index: int) -> tuple[str, np.random.Generator]:
    """Which kind object `index` is, and the generator that drew it."""
    rng = np.random.default_rng([_SEED, index])
    kinds = list(ALL_KINDS)
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind in EXTRA and float(rng.random()) < 0.5:
        kind = "bird" if kind == "duck" else "bottle"
    return kind, rng


def _twins(index: int) -> tuple[str, list[Picture]]:
    """Renders object `index` twice."""
    kind, rng = _kind(index)
    make = ALL_KINDS[kind]
    pictures = []
    for twin in (0, 1):
        look = _LOOKS[int(rng.integers(len(_LOOKS)))]
        view, paint = np.random.default_rng([_SEED, index, 1, twin]), np.random.default_rng([_SEED, index, 2])
        built = make if twin == 0 else (lambda r, paint=paint: recolour(make(r), paint))
        pictures.append(take_picture(built, np.random.default_rng([_SEED, index, 0]), view, look))
    return kind, pictures


def shape_of(model: ObjectModel) -> np.ndarray:
    """Which cells of a cube around the object hold some of it, `(512,)` bool: 8 along each axis, front last
    in the first, left last in the second, top last in the third.
    """
    rng = np.random.default_rng(0)
    corners = np.concatenate([solid.vertices for _, _, solid in model.parts])
    # Points of a convex solid are mixtures of its corners; uneven weights reach out to its ends.
    weights = [rng.exponential(size=(60, len(solid.vertices))) ** 2 for _, _, solid in model.parts]
    inside = [
        w / w.sum(axis=1, keepdims=True) @ solid.vertices
        for w, (_, _, solid) in zip(weights, model.parts, strict=True)
    ]
    low, high = corners.min(axis=0), corners.max(axis=0)
    places = (np.concatenate([corners, *inside]) - (low + high) / 2) / (high - low).max() + 0.5
    cube = np.zeros((SHAPE_GRID,) * 3, dtype=bool)
    cube[tuple((places * SHAPE_GRID).astype(int).clip(0, SHAPE_GRID - 1).T)] = True
    return cube.ravel()


def bank_shapes(objects: int) -> np.ndarray:
    """The shapes of the bank's first objects, `(objects, 512)` bool."""
    models = (ALL_KINDS[_kind(i)[0]](np.random.default_rng([_SEED, i, 0])) for i in range(objects))
    return np.stack([shape_of(model) for model in models])


def part_map(picture: Picture) -> np.ndarray:
    """What the cells of the picture show, `(32, 32)` uint8, in the words of `Bank.parts`."""
    names = list(picture.model.colours)
    codes = [names.index(part) + 1 if part in names else UNNAMED for part, _, _ in picture.model.parts]
    step = IMAGE_SIZE // PART_GRID
    # The index -1 of a pixel beside the object finds the zero at the end.
    return np.array([*codes, 0], dtype=np.uint8)[picture.parts[step // 2 :: step, step // 2 :: step]]


def place_map(picture: Picture) -> np.ndarray:
    """Where on the object the cells lie, `(3, 32, 32)` uint8: along each axis of the object's frame the ninth
    of its extent, 1 (back, right, bottom) to 9 (front, left, top); 0 is beside the object.

    An object that looks alike all around, such as a bottle, has a bottom and a top only.
    """
    step = IMAGE_SIZE // PART_GRID
    points = picture.points[step // 2 :: step, step // 2 :: step]
    seen = picture.parts[step // 2 :: step, step // 2 :: step] >= 0
    vertices = np.concatenate([solid.vertices for _, _, solid in picture.model.parts])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    ninth = np.floor(NINTHS * (np.nan_to_num(points) - low) / (high - low)).clip(0, NINTHS - 1) + 1
    if any(keypoint.radius for keypoint in picture.model.keypoints):
        ninth[..., :2] = 0
    return np.where(seen, np.moveaxis(ninth, -1, 0), 0).astype(np.uint8)


def _render_chunk(folder: Path, chunk: int) -> None:
    """Writes one chunk's pictures and entries; the entries last, so that they vouch for the pictures."""
    images, parts, places, entries = [], [], [], []
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        kind, pictures = _twins(index)
        images += [picture.rgb for picture in pictures]
        parts += [part_map(picture) for picture in pictures]
        places += [place_map(picture) for picture in pictures]
        entries += [[kind, picture.camera.azimuth, picture.model.colours] for picture in pictures]
    atomic_write_bytes(folder / f"{chunk:05d}.rgb", np.stack(images).tobytes())
    atomic_write_bytes(folder / f"{chunk:05d}.parts", np.stack(parts).tobytes())
    atomic_write_bytes(folder / f"{chunk:05d}.places", np.stack(places).tobytes())
    atomic_write_text(folder / f"{chunk:05d}.json", json.dumps(entries))


def build_bank(folder: Path, objects: int) -> Bank:
    """Renders what is missing of the first `objects` objects (rounded up to whole chunks); opens the bank."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = -(-objects // CHUNK)
    missing = [c for c in range(chunks) if not (folder / f"{c:05d}.json").is_file()]
    if missing:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_render_chunk, folder, chunk) for chunk in missing]
            for job in progress(jobs, description="rendering pretraining pictures", unit="chunk"):
                job.result()
    shape = (2 * CHUNK * chunks, IMAGE_SIZE, IMAGE_SIZE, 3)
    images = np.empty(shape, dtype=np.uint8)
    parts = np.empty((len(images), PART_GRID, PART_GRID), dtype=np.uint8)
    places = np.empty((len(images), 3, PART_GRID, PART_GRID), dtype=np.uint8)
    entries: list[Entry] = []
    for chunk in range(chunks):
        rows = slice(2 * CHUNK * chunk, 2 * CHUNK * (chunk + 1))
        for whole, kind in ((images, "rgb"), (parts, "parts"), (places, "places")):
            flat = np.fromfile(folder / f"{chunk:05d}.{kind}", dtype=np.uint8)
            whole[rows] = flat.reshape(-1, *whole.shape[1:])
        entries += [Entry(*entry) for entry in json.loads((folder / f"{chunk:05d}.json").read_text())]
    return Bank(images, parts, places, entries)
