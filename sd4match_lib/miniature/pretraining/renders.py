"""The pretraining pictures: rendered once, kept in chunks on disk, the same for a seed on any machine.

What leaves this module is pictures and what whole captions may say of them; the renderer's masks, cameras
and keypoints stay in it. The objects are drawn from seeds that no MiniPair split uses.
"""

import json
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from sd4match_lib.errors import DataError
from sd4match_lib.images import stretch_image
from sd4match_lib.miniature.objects.catalogue import ALL_KINDS, EXTRA
from sd4match_lib.miniature.pretraining.caption import view_words
from sd4match_lib.miniature.render.scene import Render, take_picture
from sd4match_lib.miniature.render.style import Look
from sd4match_lib.utils.files import atomic_write_bytes, atomic_write_text
from sd4match_lib.utils.processes import WorkerPool
from sd4match_lib.utils.progress import progress
from sd4match_lib.utils.reading import read_json

INPUT_SIZE: Final = 128
"""Height and width that every picture is stretched to, as the miniature sees it."""
CHUNK: Final = 512
_SEED: Final = 20261124
_LOOKS: Final = (Look.SPAIR, Look.SPAIR, Look.SPAIR, Look.SPAIR, Look.PF_PASCAL, Look.PF_WILLOW)


@dataclass(frozen=True)
class Facts:
    """What a caption may say about a whole picture.

    Attributes:
        category: the object's, in SPair-71k's words.
        colours: the colour word of each of its painted parts, the main one first.
        view: the octant that it is seen from, in words.
        place: where it is, in words.
        companion: the category of what stands beside it, if anything does.
    """

    category: str
    colours: dict[str, str]
    view: str
    place: str
    companion: str | None


@dataclass(frozen=True)
class RenderedObjects:
    """`images` is `(N, S, S, 3)` uint8, `facts` what may be said of each."""

    images: np.ndarray
    facts: list[Facts]


def facts_of(render: Render, category: str) -> Facts:
    """Returns what a caption may say about a render."""
    view = view_words(render.camera.azimuth)
    return Facts(category, render.model.colours, view, str(render.place), render.companion)


def render_object(index: int, seed: int = _SEED) -> tuple[np.ndarray, Facts]:
    """Renders picture `index`, stretched to the network's input, and notes what may be said of it."""
    rng = np.random.default_rng([seed, index])
    kinds = list(ALL_KINDS)
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind in EXTRA and float(rng.random()) < 0.5:
        kind = "bird" if kind == "duck" else "bottle"
    look = _LOOKS[int(rng.integers(len(_LOOKS)))]
    views = np.random.default_rng([seed, index, 1])
    render = take_picture(ALL_KINDS[kind], np.random.default_rng([seed, index, 0]), views, look)
    image = stretch_image(Image.fromarray(render.rgb), (INPUT_SIZE, INPUT_SIZE))
    return image, facts_of(render, kind)


def _render_chunk(folder: Path, chunk: int) -> None:
    """Writes one chunk's pictures and facts; the facts last, so that they vouch for the pictures."""
    rendered = [render_object(index) for index in range(chunk * CHUNK, (chunk + 1) * CHUNK)]
    atomic_write_bytes(folder / f"{chunk:05d}.rgb", np.stack([image for image, _ in rendered]).tobytes())
    atomic_write_text(folder / f"{chunk:05d}.json", json.dumps([astuple(facts) for _, facts in rendered]))


def render_objects(folder: Path, count: int) -> RenderedObjects:
    """Renders what is missing of the first `count` pictures (rounded up to whole chunks), and opens them."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = -(-count // CHUNK)
    missing = [c for c in range(chunks) if not _is_there(folder, c)]
    if missing:
        with WorkerPool() as pool:
            jobs = [pool.submit(_render_chunk, folder, chunk) for chunk in missing]
            for job in progress(jobs, description="rendering pretraining pictures", unit="chunk"):
                job.result()
    images = np.empty((CHUNK * chunks, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
    facts: list[Facts] = []
    for chunk in range(chunks):
        flat = np.fromfile(folder / f"{chunk:05d}.rgb", dtype=np.uint8)
        images[CHUNK * chunk : CHUNK * (chunk + 1)] = flat.reshape(CHUNK, *images.shape[1:])
        path, again = folder / f"{chunk:05d}.json", "delete it to have it made again"
        try:
            facts += [Facts(*row) for row in read_json(path, fix=again)]
        except TypeError as error:
            raise DataError(f"{path}: this is not what {CHUNK} pictures show; {again}.") from error
    return RenderedObjects(images, facts)


def _is_there(folder: Path, chunk: int) -> bool:
    pictures, facts = (folder / f"{chunk:05d}.{end}" for end in ("rgb", "json"))
    return facts.exists() and pictures.is_file() and pictures.stat().st_size == CHUNK * 3 * INPUT_SIZE**2
