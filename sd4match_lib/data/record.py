"""One picture of a data set: where it lies and what is known of it."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sd4match_lib.errors import DataError
from sd4match_lib.geometry import HW
from sd4match_lib.images import read_image
from sd4match_lib.utils.files import sha256_file

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the original picture."""


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One picture of a data set, not yet read.

    Attributes:
        image_id: ``"<category>/<stem>"``, with ``"#flip"`` at the end for the mirrored twin.
        category: the object's category in the data set's own words.
        path: the file.
        hw_px: upright size (H, W), from the file's header.
        box_px: the object's box in this record's (flipped, where it is) picture, or None where there is none.
        mask_path: a PNG of class indices, or None.
        flip: whether the picture is mirrored left to right after reading.
        mask_value: the class index of the object in the mask, or None.
    """

    image_id: str
    category: str
    path: Path
    hw_px: HW
    box_px: Box | None = None
    mask_path: Path | None = None
    flip: bool = False
    mask_value: int | None = None

    def read(self) -> Image.Image:
        """Read the picture: RGB, upright, mirrored when `flip` says so.

        Raises:
            DataError: the file cannot be read.
        """
        image = read_image(self.path)
        return ImageOps.mirror(image) if self.flip else image

    def content_key(self) -> str:
        """Say which picture this is, wherever it lies: what is computed of it is kept under this key."""
        # A missing picture is for `read` to complain about, in its own words.
        content = "missing"
        if self.path.is_file():
            about = self.path.stat()
            content = _content(self.path, about.st_mtime_ns, about.st_size)
        return f"{content}{'#flip' if self.flip else ''}"

    def read_mask(self) -> npt.NDArray[np.bool_] | None:
        """Read the object's mask ``(H, W)``, mirrored with the picture; None where there is none.

        Raises:
            DataError: the file cannot be read, or does not hold one class index per pixel of the picture.
        """
        if self.mask_path is None:
            return None
        try:
            with Image.open(self.mask_path, formats=["PNG"]) as image:
                classes = np.asarray(image)
        except Exception as error:  # Pillow's readers raise nearly anything on damaged files
            raise DataError(
                f"{self.mask_path}: the mask cannot be read ({error}); fetch it again."
            ) from error
        if classes.shape != self.hw_px:
            raise DataError(
                f"{self.mask_path}: the mask's shape is {classes.shape}, its picture's {self.hw_px}; "
                "fetch both again."
            )
        mask = classes == self.mask_value
        return mask[:, ::-1] if self.flip else mask


@lru_cache(maxsize=2**16)
def _content(path: Path, _modified_ns: int, _size: int) -> str:
    """The hash of a file, read again only once it was changed: a training asks in every step."""
    return sha256_file(path)
