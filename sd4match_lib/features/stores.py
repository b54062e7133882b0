"""What is computed once per image, kept on disk between runs and in memory during one: latents and tokens.

An entry is found again by the content of the picture and of the weights, not by any name, so data sets may
move and share pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sd4match_lib.backbones.base import DiffusionBackbone
from sd4match_lib.backbones.latents import Latents
from sd4match_lib.backbones.vision import VisionFeatures, VisionTokens
from sd4match_lib.backbones.weights import FoundModel
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.features.cache import DiskCache, MemoryCache, Shapes, Tensors
from sd4match_lib.geometry import HW
from sd4match_lib.images import stretch_image, to_tensor

KEEP_BYTES = 2 * 2**30
"""What each store holds in memory: of SPair-71k's 1,800 pictures the latents at 768 take 0.53 GB, the tokens
of DINOv2-base 1.4 GB."""


class LatentStore:
    """The VAE's latents of pictures, each encoded once.

    Attributes:
        encoded: how many pictures have gone through the VAE here.
    """

    def __init__(self, model: DiffusionBackbone, found: FoundModel, image_hw: HW, cache_dir: Path) -> None:
        """Keep latents of pictures stretched to `image_hw` below `cache_dir`."""
        self._model = model
        self._image_hw = image_hw
        vae = [found.files[name] for name in model.encoder_files]
        settings = {"what": "latents", "vae": vae, "image_hw": image_hw, "dtype": str(model.dtype)}
        shape = model.latent_shape(image_hw)
        self._kept = _Kept(cache_dir / "latents", settings, {"mean": shape, "std": shape})
        self.encoded = 0

    def get(self, records: Sequence[ImageRecord]) -> Latents:
        """Return the latents of `B` pictures.

        Raises:
            DataError: a picture cannot be read.
        """
        found = [self._kept.get(record, self._encode) for record in records]
        return Latents(
            torch.stack([item["mean"] for item in found]), torch.stack([item["std"] for item in found])
        )

    def _encode(self, record: ImageRecord) -> Tensors:
        self.encoded += 1
        latents = self._model.encode(to_tensor(stretch_image(record.read(), self._image_hw))[None])
        return {"mean": latents.mean[0], "std": latents.std[0]}


class VisionStore:
    """The vision model's tokens of pictures, as prompts see them, each computed once."""

    def __init__(self, model: VisionFeatures, found: FoundModel, cache_dir: Path) -> None:
        """Keep tokens below `cache_dir`."""
        self._model = model
        sizes = [model.config.resize, model.config.crop]
        settings = {"what": "tokens", "model": found.sha256, "sizes": sizes}
        patches = (model.config.crop // model.patch) ** 2
        shapes = {"patches": (patches, model.width), "cls": (model.width,)}
        self._kept = _Kept(cache_dir / "vision", settings, shapes)

    def get(self, records: Sequence[ImageRecord]) -> VisionTokens:
        """Return the tokens of `B` pictures.

        Raises:
            DataError: a picture cannot be read.
        """
        found = [self._kept.get(record, self._look) for record in records]
        return VisionTokens(
            torch.stack([item["patches"] for item in found]), torch.stack([item["cls"] for item in found])
        )

    def _look(self, record: ImageRecord) -> Tensors:
        tokens = self._model.tokens([record.read()])
        return {"patches": tokens.patches[0], "cls": tokens.cls[0]}


class _Kept:
    """Tensors of pictures: all of them on disk, and in memory the last ones that were asked for."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], shapes: Shapes) -> None:
        self._disk = DiskCache(folder, settings, shapes)
        self._memory = MemoryCache(KEEP_BYTES, self._disk)

    def get(self, record: ImageRecord, compute: Callable[[ImageRecord], Tensors]) -> Tensors:
        """Return a picture's tensors, computed where nobody has them yet."""
        key = record.content_key()
        found = self._memory.get(key)
        if found is None:
            found = compute(record)
            self._disk.put(key, found)
            self._memory.put(key, found)
        return found
