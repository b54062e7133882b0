"""Writing MiniPair's files: the same bytes for the same content on any machine, and a hash of each."""

import hashlib
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from sd4match_lib.miniature.render.scene import Render
from sd4match_lib.utils.files import write_bytes

_MAT_TEXT = b"MATLAB 5.0 MAT-file, rendered by sd4match (MiniPair)".ljust(116)


def seeded(*names: object) -> np.random.Generator:
    """A generator that belongs to a named thing alone: seeded from the SHA-256 of its names."""
    text = "/".join(str(name) for name in ("minipair", *names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


class Ledger:
    """Writes files under one folder and remembers their SHA-256 by relative POSIX path in `files`."""

    def __init__(self, root: Path) -> None:
        """Begins with no file written."""
        self.root = root
        self.files: dict[str, str] = {}

    def put(self, name: str, data: bytes) -> None:
        """Writes one file, making its folder. Not flushed to the disk: the manifest, written last, tells.

        Raises:
            WriteError: the disk is full, or the folder cannot be written.
        """
        write_bytes(self.root / name, data)
        self.files[name] = hashlib.sha256(data).hexdigest()

    def put_text(self, name: str, lines: list[str]) -> None:
        """Writes lines as UTF-8, each ended by a single newline character."""
        self.put(name, "".join(f"{line}\n" for line in lines).encode())

    def put_json(self, name: str, value: Any) -> None:
        """Writes compact JSON."""
        self.put(name, json.dumps(value).encode())

    def put_mat(self, name: str, **fields: np.ndarray) -> None:
        """Writes a MATLAB 5 file of float64 matrices, without the date that scipy puts into its header."""
        stream = io.BytesIO()
        savemat(stream, {key: np.asarray(value, dtype="<f8") for key, value in fields.items()})
        self.put(name, _MAT_TEXT + stream.getvalue()[len(_MAT_TEXT) :])

    def put_jpeg(self, name: str, rgb: np.ndarray) -> None:
        """Writes `(S, S, 3)` uint8 as JPEG, quality 95, colours at full resolution."""
        stream = io.BytesIO()
        Image.fromarray(rgb).save(stream, "JPEG", quality=95, subsampling=0)
        self.put(name, stream.getvalue())

    def put_png(self, name: str, pixels: np.ndarray) -> None:
        """Writes `(S, S)` or `(S, S, 3)` uint8 as PNG."""
        stream = io.BytesIO()
        # Run lengths only: zlib's search for longer matches may choose differently on another processor.
        Image.fromarray(pixels).save(stream, "PNG", compress_type=zlib.Z_RLE)
        self.put(name, stream.getvalue())


def keypoint_names(render: Render, *, reserved: bool = False) -> list[str]:
    """The object's keypoints, seen or not, in the order that numbers them: all but the reserved ones, or
    these alone.
    """
    return [keypoint.name for keypoint in render.model.keypoints if keypoint.reserved == reserved]


def shared_names(src: Render, trg: Render, *, reserved: bool = False) -> list[str]:
    """Those of them that are seen in both pictures, in the object's order."""
    names = keypoint_names(src, reserved=reserved)
    return [name for name in names if name in src.keypoints and name in trg.keypoints]
