"""Vision transformers: DINOv2 and DINO as what a prompt looks with, and as dense features of their own.

Both are read after the final norm. For DINO (v1) that means its tokens, not the keys of layer 9 that some
papers use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd4match_lib.backbones.loading import check_kind, importing, load_part, quiet_loading
from sd4match_lib.config.schema import VisionConfig
from sd4match_lib.errors import UserError
from sd4match_lib.geometry import HW
from sd4match_lib.images import stretch_image, to_rgb

_KINDS = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "vit": "ViTModel",
}
"""What transformers calls the models that are known here, and their classes."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class VisionTokens:
    """What a vision model says about a batch of images.

    Attributes:
        patches: (B, P, Dv) float32 patch tokens in reading order, after the final norm.
        cls: (B, Dv) float32, the global descriptor.
    """

    patches: Tensor
    cls: Tensor

    def __len__(self) -> int:
        """How many images."""
        return len(self.cls)

    def select(self, rows: Sequence[int]) -> VisionTokens:
        """Return the tokens of some of the images."""
        return VisionTokens(self.patches[list(rows)], self.cls[list(rows)])


class VisionFeatures:
    """A frozen vision transformer with its own preprocessing.

    Attributes:
        width: `Dv`, the token width.
        patch: side of a patch in pixels.
    """

    def __init__(self, model: Any, config: VisionConfig) -> None:
        """Freeze a stock DINOv2, DINOv3 or `ViTModel` and feed it as `config` says.

        Raises:
            UserError: a size of the configuration is no multiple of the patch, or the crop is larger than the
                image.
        """
        self.model = model.eval().requires_grad_(False)
        self.config = config
        self.width: int = self.model.config.hidden_size
        self.patch: int = self.model.config.patch_size
        for name, side in (("crop", config.crop), *(("dense_hw", side) for side in config.dense_hw)):
            if side % self.patch:
                raise UserError(
                    f"vision.{name} is {side}, which patches of {self.patch} pixels do not fill evenly."
                )
        if config.crop > config.resize:
            raise UserError(f"vision.crop is {config.crop}, larger than vision.resize, {config.resize}.")

    @classmethod
    def from_folder(
        cls, folder: Path | str, config: VisionConfig, *, device: torch.device | str = "cpu"
    ) -> Self:
        """Load a model in transformers layout (`config.json`, `model.safetensors`), in float32.

        Args:
            folder: a local folder; see `weights.find_vision` for hub ids and mirrors.
            config: how it is fed.
            device: where it lies.

        Raises:
            UserError: the model is unreadable, of another kind, or does not fit the configuration.
        """
        with importing("transformers"):
            import transformers

        kind = check_kind(Path(folder) / "config.json", tuple(_KINDS))
        # A plain ViT would otherwise get a randomly initialised pooler that nobody reads.
        options = {"add_pooling_layer": False} if kind == "vit" else {}
        with quiet_loading():
            model = load_part(getattr(transformers, _KINDS[kind]), folder, "", dtype=torch.float32, **options)
        return cls(model.to(device), config)

    @property
    def grid_hw(self) -> HW:
        """Size (h, w) of the dense feature map."""
        height, width = self.config.dense_hw
        return height // self.patch, width // self.patch

    def tokens(self, images: Sequence[Image.Image]) -> VisionTokens:
        """Look at images as a prompt does (method, section 3): shorter side `resize`, middle `crop` cut out.

        Args:
            images: `B` pictures of any size.

        Returns:
            `P = (crop / patch) ** 2` patch tokens each, on the CPU.
        """
        crops = [centre_crop(resize_shorter(image, self.config.resize), self.config.crop) for image in images]
        return self._run(crops)

    def dense(self, images: Sequence[Image.Image]) -> Tensor:
        """Return dense features of whole images, stretched to `dense_hw` as to the diffusion model's input.

        Args:
            images: `B` pictures of any size.

        Returns:
            (B, Dv, h, w) float32 on the CPU, with (h, w) = `grid_hw`.
        """
        stretched = [stretch_image(image, self.config.dense_hw) for image in images]
        patches = self._run(stretched).patches
        return patches.transpose(1, 2).unflatten(2, self.grid_hw)

    def _run(self, pixels: Sequence[np.ndarray]) -> VisionTokens:
        found = []
        with torch.no_grad():
            for image in pixels:
                # One at a time: what is said of an image must not depend, in the last bit, on its batch.
                batch = normalise(image)[None].to(self.model.device)
                found.append(self._hidden(batch).float().cpu())
        hidden = torch.cat(found)
        # The CLS token comes first; models with registers put these between it and the patches.
        first = 1 + getattr(self.model.config, "num_register_tokens", 0)
        return VisionTokens(hidden[:, first:], hidden[:, 0])

    def _hidden(self, pixel_values: Tensor) -> Tensor:
        if self.model.config.model_type == "vit":
            return self.model(pixel_values, interpolate_pos_encoding=True).last_hidden_state
        return self.model(pixel_values).last_hidden_state


def resize_shorter(image: Image.Image, side: int) -> Image.Image:
    """Scale a picture (bicubic, antialiased) to a shorter side of `side` pixels, keeping its shape."""
    return to_rgb(image).resize(_resized(image, side), Image.Resampling.BICUBIC)


def centre_crop(image: Image.Image, side: int) -> np.ndarray:
    """Cut the middle (side, side, 3) uint8 out of a picture that is at least as large."""
    width, height = image.size
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def seen_box(image: Image.Image, config: VisionConfig) -> tuple[float, float, float, float]:
    """Return the part of a picture that `VisionFeatures.tokens` looks at: less than its middle square.

    Args:
        image: the picture.
        config: how the vision model is fed.

    Returns:
        (left, right, top, bottom) edges in pixels of the picture, whose top left pixel has its centre at
        (0, 0).
    """
    edges = []
    for side, resized in zip(image.size, _resized(image, config.resize), strict=True):
        first = (resized - config.crop) // 2
        edges += [pixel * side / resized - 0.5 for pixel in (first, first + config.crop)]
    return edges[0], edges[1], edges[2], edges[3]


def _resized(image: Image.Image, side: int) -> tuple[int, int]:
    """The size (width, height) of a picture with a shorter side of `side` pixels."""
    width, height = image.size
    shorter = min(width, height)
    return int(side * width / shorter), int(side * height / shorter)


def normalise(pixels: np.ndarray) -> Tensor:
    """Turn pixels (H, W, 3) of 0..255 into float32 (3, H, W) with ImageNet's mean and deviation taken out."""
    values = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255
    return (values - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
