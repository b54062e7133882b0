"""Pictures of a user's own: a path, a PIL picture, an array or a tensor becomes one record with pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sd4match_lib.data.categories import DEFAULT_CATEGORY
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.errors import DataError
from sd4match_lib.images import read_image, to_rgb
from sd4match_lib.utils.paths import user_path

if TYPE_CHECKING:
    import torch

PictureLike: TypeAlias = Union[str, "PathLike[str]", Image.Image, npt.NDArray, "torch.Tensor", ImageRecord]
"""What `open_picture` accepts."""

_OWN = "picture/"
"""What the ids of pictures begin with that belong to no data set."""


@dataclass(frozen=True, eq=False)
class Picture(ImageRecord):
    """A picture with its pixels in memory.

    Its id is made of its pixels: the same picture gets the same noise, and with it the same features,
    whatever it is called and however it came in.

    Attributes:
        pixels: RGB and upright; not yet mirrored.
        content: says which pixels these are.
    """

    pixels: Image.Image = field(kw_only=True)
    content: str = field(kw_only=True)

    def read(self) -> Image.Image:
        """Return the pixels, mirrored when `flip` says so."""
        return ImageOps.mirror(self.pixels) if self.flip else self.pixels

    def content_key(self) -> str:
        """Say which picture this is; see `ImageRecord.content_key`."""
        return f"{self.content}{'#flip' if self.flip else ''}"

    def mirrored(self) -> Picture:
        """Return the left-right mirrored twin, with an id and so a noise of its own."""
        return replace(self, image_id=f"{self.image_id}#flip", flip=not self.flip)


def open_picture(picture: PictureLike, category: str = DEFAULT_CATEGORY, *, what: str = "picture") -> Picture:
    """Read any kind of picture.

    Args:
        picture: a path; a PIL picture; an array ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)``; a tensor
            ``(3, H, W)``, ``(4, H, W)`` or ``(1, H, W)``; or the record of a data set's picture, which keeps
            its id, category and noise. Arrays and tensors hold 0..255 in uint8 or 0..1 in floats. Transparent
            pixels show white, and the EXIF orientation is applied (`images.to_rgb`).
        category: what it shows, for prompts that say so.
        what: what to call a picture without a path in messages.

    Raises:
        DataError: the file is missing or damaged, or the array is not a picture.
    """
    if isinstance(picture, Picture):
        return replace(picture, category=category) if picture.image_id.startswith(_OWN) else picture
    if isinstance(picture, ImageRecord):
        # The record's pixels are already mirrored where it says so, hence no flip here.
        known: dict[str, Any] = {
            "image_id": picture.image_id,
            "category": picture.category,
            "path": picture.path,
        }
        return Picture(**known, **_pixels(picture.read(), picture.content_key()))
    if isinstance(picture, str | PathLike):
        path = user_path(picture)
        image = read_image(path)
    else:
        path = Path(what)
        image = to_rgb(picture) if isinstance(picture, Image.Image) else _from_array(picture, what)
    content = pixel_hash(image)
    return Picture(
        image_id=f"{_OWN}{content[:16]}",
        category=category,
        path=path,
        **_pixels(image, f"pixels:{content}"),
    )


def pixel_hash(image: Image.Image) -> str:
    """Return the SHA-256 over a picture's mode, size and pixels."""
    digest = hashlib.sha256(f"{image.mode} {image.size}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _pixels(image: Image.Image, content: str) -> dict[str, Any]:
    return {"pixels": image, "content": content, "hw_px": (image.height, image.width)}


def _from_array(picture: Any, what: str) -> Image.Image:
    """An RGB picture from an array (H, W[, C]) or a tensor (C, H, W)."""
    if hasattr(picture, "detach"):
        values = np.asarray(picture.detach().cpu().float() if _is_half(picture) else picture.detach().cpu())
        layout = "(3, H, W)"
        if values.ndim == 3 and values.shape[0] in (1, 3, 4):
            values = np.moveaxis(values, 0, 2)
        elif values.ndim != 2:
            raise DataError(
                f"{what}: a tensor must be one picture {layout}, not {tuple(values.shape)}; "
                "take one out of its batch, or permute its axes."
            )
    else:
        values = np.asarray(picture)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))) or 0 in values.shape:
        raise DataError(
            f"{what}: an array must be one picture (H, W, 3), not {values.shape}; a path, a PIL picture or a "
            "tensor (3, H, W) will do as well."
        )
    return to_rgb(Image.fromarray(np.ascontiguousarray(_to_8_bit(values, what))))


def _is_half(tensor: object) -> bool:
    return str(getattr(tensor, "dtype", "")) == "torch.bfloat16"  # which numpy does not know


def _to_8_bit(values: npt.NDArray, what: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if np.issubdtype(values.dtype, np.floating) and values.min() >= 0 and values.max() <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.number):
        raise DataError(f"{what}: an array of {values.dtype} is not a picture; give uint8 or floats.")
    raise DataError(
        f"{what}: values of {values.dtype} run from {values.min():g} to {values.max():g}; give 0 to 255 in "
        "uint8 or 0 to 1 in floats."
    )
