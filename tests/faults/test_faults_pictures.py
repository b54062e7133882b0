"""Damaged, huge and false pictures: refused on one line, without running code or filling the memory."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from refusal import refused

from sd4match_lib.images import image_hw, read_image


def encoded(kind, size=(40, 30), mode="RGB", **options):
    stream = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, data=b"", depth=8, colour=2):
    """A PNG whose header promises any size."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/tmp/owned) (w) file\nshowpage\n"

FILES = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"this is a picture, believe me",
    "html": b"<html><body>404 Not Found</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "postscript": EPS,
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "zip": b"PK\x03\x04" + bytes(100),
    "random": np.random.default_rng(1).bytes(3000),
    "png, header only": encoded("PNG")[:33],
    "png, cut off": encoded("PNG")[:-400],
    "png without pixels": png(40, 30),
    "png of no width": png(0, 30),
    "png of no height": png(40, 0),
    "png bomb": png(60_000, 60_000),
    "png bomb of 4 GB": png(2**31 - 1, 1),
    "png, 130 million pixels": png(13_000, 10_000),
    "png, wrong checksum": encoded("PNG")[:40] + b"\0\0\0\0" + encoded("PNG")[44:],
    "png, unknown depth": png(4, 4, depth=3),
    "png, unknown colour": png(4, 4, colour=9),
    "jpeg, header only": encoded("JPEG")[:20],
    "jpeg, cut off": encoded("JPEG", (200, 200))[:3000],
    "jpeg, half": encoded("JPEG", (200, 200))[: len(encoded("JPEG", (200, 200))) // 2],
    "jpeg, start alone": b"\xff\xd8",
    "jpeg behind spaces": b"  " + encoded("JPEG"),
    "tiff, header only": encoded("TIFF")[:8],
    "tiff, cut off": encoded("TIFF")[:500],
    "webp, cut off": encoded("WEBP")[:60],
    "bmp, cut off": encoded("BMP")[:100],
    "gif, header only": encoded("GIF")[:13],
    "ppm of words": b"P6\nwide high\n255\n",
    "ppm, huge": b"P6\n100000 100000\n255\n",
    "ppm, cut off": b"P6\n40 30\n255\nabc",
    "fits": b"SIMPLE  =                    T".ljust(2880),
    "wmf": b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(100),
    "pcx": b"\x0a\x05\x01\x08" + bytes(200),
    "psd": b"8BPS\x00\x01" + bytes(100),
}


SAID = {"empty": "not a picture", "text": "not a picture", "jpeg, half": "cut off"}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_picture_is_refused(tmp_path, name):
    path = tmp_path / "picture.jpg"
    path.write_bytes(FILES[name])
    assert SAID.get(name, "") in refused(lambda: read_image(path), "picture.jpg")
    # The header may be whole where the pixels are not; whatever it says, it is our error or a size.
    try:
        height, width = image_hw(path)
    except Exception:
        refused(lambda: image_hw(path), "picture.jpg")
    else:
        assert 0 < height * width < 2 * 10**8


def test_no_postscript_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    for name in ("picture.jpg", "picture.eps"):
        (tmp_path / name).write_bytes(EPS)
        refused(lambda name=name: read_image(tmp_path / name), name)


@pytest.mark.parametrize(
    "place", ["gone.png", "folder", "pipe", "gone/gone.png", "x" * 300, "nul\0byte", "file.png/x"]
)
def test_what_is_no_file_is_refused(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.png").write_bytes(encoded("PNG"))
    os.mkfifo(tmp_path / "pipe")
    for read in (read_image, image_hw):
        said = refused(lambda read=read: read(tmp_path / place))
        assert place != "gone.png" or "gone.png: there is no such picture" in said


def test_a_missing_picture_is_not_told_to_be_fetched(tmp_path):
    assert "fetch" not in refused(lambda: read_image(tmp_path / "cat.jpg"), "cat.jpg", "check the path")


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.full((30, 40), 70_000, np.int32)),
        Image.fromarray(np.full((30, 40), -1, np.int32)),
        Image.fromarray(np.full((30, 40), 2.0, np.float32)),
        Image.fromarray(np.full((30, 40), np.nan, np.float32)),
        Image.fromarray(np.full((30, 40), np.inf, np.float32)),
    ],
    ids=["above 16 bits", "negative", "bright", "nan", "infinite"],
)
def test_pixels_that_nobody_can_show_are_refused(tmp_path, image):
    image.save(tmp_path / "depth.tiff")
    refused(lambda: read_image(tmp_path / "depth.tiff"), "depth.tiff", "pixels run from")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "TGA"])
def test_whole_pictures_are_still_read(tmp_path, kind):
    (tmp_path / "whole.png").write_bytes(encoded(kind))
    assert read_image(tmp_path / "whole.png").size == (40, 30)
