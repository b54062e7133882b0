"""Reading pictures of any kind as upright RGB, and stretching them to the network's input."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from sd4match_lib.errors import DataError, reason, why
from sd4match_lib.geometry import HW

if TYPE_CHECKING:
    import torch

UInt8Image = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)
_FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
"""What Pillow may open: pictures only. Left to itself it would start Ghostscript on a PostScript file."""
_MOST_PIXELS = 120 * 10**6
_ROWS = 256
_SIDEWAYS = {5, 6, 7, 8}
"""EXIF orientations that exchange width and height."""


def read_image(path: Path | str) -> Image.Image:
    """Read a picture as RGB, the right way up.

    The content decides, not the extension: PNG, JPEG, TIFF and the others of `_FORMATS`; greyscale, palette,
    CMYK and 16 bit; of an animation the first frame. See `to_rgb` for transparency and depth.

    Args:
        path: the file.

    Returns:
        A fully decoded RGB picture of size (W, H).

    Raises:
        DataError: the file is missing, is no picture, is cut off, or has pixels that have no agreed look.
    """
    image = _open(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what is told below, or does no harm
            image.load()
        return to_rgb(image)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise DataError(
            f"{path}: the picture is damaged or cut off ({reason(error)}); copy it again."
        ) from error


def image_hw(path: Path | str) -> HW:
    """Read a picture's upright size (H, W) from its header, without decoding it.

    Raises:
        DataError: the file is missing or is no picture.
    """
    with _open(path) as image:
        width, height = image.size
        sideways = _orientation(image) in _SIDEWAYS
        # Pillow has already turned the size of a TIFF, but leaves the tag until it has turned the pixels.
        return (width, height) if sideways and image.format != "TIFF" else (height, width)


def picture_suffixes() -> set[str]:
    """Return the endings, such as ".png", of the kinds of pictures that are read."""
    return {ending for ending, kind in Image.registered_extensions().items() if kind in _FORMATS}


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn any Pillow picture into 8-bit RGB, the right way up.

    The EXIF orientation is applied; transparent pixels show the white of the paper behind them; 16-bit grey
    is scaled (65535 becomes 255), not clipped; floating-point grey runs from 0 to 1.

    Raises:
        DataError: whole numbers above 65535 or fractions outside 0..1, of which nobody can say what is white.
    """
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey_to_8_bit(image)).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        paper = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(paper, coloured).convert("RGB")
    return image.convert("RGB")


def stretch_image(image: Image.Image, hw: HW) -> UInt8Image:
    """Stretch a picture to the network's input: no padding, no crop, antialiased bilinear filter.

    Args:
        image: any picture; see `to_rgb`.
        hw: the size wanted.

    Returns:
        The pixels, ``(H, W, 3)``.
    """
    stretched = to_rgb(image).resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
    return np.array(stretched)


def to_tensor(pixels: UInt8Image) -> torch.Tensor:
    """Turn pixels ``(H, W, 3)`` of 0..255 into float32 ``(3, H, W)`` in [-1, 1]."""
    import torch  # here, so that reading data does not cost the second that torch takes to import

    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous().float() / 127.5 - 1.0


def _open(path: Path | str) -> Image.Image:
    """Open a picture's header, with every way of failing told in one sentence."""
    Image.init()
    try:
        # A pipe would be waited for.
        if Path(path).exists() and not Path(path).is_file():
            raise DataError(f"{path}: this is a folder or a pipe, not a picture; name a picture's file.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of odd EXIF blocks
            image = Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such picture; check the path.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: the picture is too large ({reason(error)}); make it smaller.") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        said = why(error) if isinstance(error, OSError) and error.errno else f"not {', '.join(_FORMATS)}"
        raise DataError(f"{path}: this is not a picture that can be read ({said}); convert it.") from error
    width, height = image.size
    if width * height > _MOST_PIXELS:
        image.close()
        raise DataError(
            f"{path}: the picture is too large ({width} x {height} pixels, {_MOST_PIXELS // 10**6} million "
            "are read); make it smaller."
        )
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or its block is damaged."""
    try:
        value: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # a damaged EXIF block says nothing about the pixels
        _log.debug("ignoring a damaged EXIF block: %s", error)
        return 1
    return value if value in range(1, 9) else 1


def _grey_to_8_bit(image: Image.Image) -> UInt8Image:
    """Scale 16-bit, whole-number and floating-point grey to 0..255."""
    values = np.asarray(image)
    low, high = (0.0, 1.0) if image.mode == "F" else (0.0, 65535.0)
    if not (values.min() >= low and values.max() <= high):
        raise DataError(
            f"its pixels run from {values.min():g} to {values.max():g} instead of {low:g} to {high:g}; "
            "save it with 8 or 16 bits."
        )
    grey = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), _ROWS):  # a whole large picture in float64 would fill the memory
        part = values[first : first + _ROWS].astype(np.float64)
        grey[first : first + _ROWS] = np.rint(part / high * 255).astype(np.uint8)
    return grey
