import numpy as np
import pytest
import torch
from layouts import write_picture
from PIL import Image

from sd4match_lib import images
from sd4match_lib.errors import DataError

ORIENTATION = 0x0112
RED, GREEN = (250, 10, 10), (10, 250, 10)


def save(path, image, format="PNG", **options):
    image.save(path, format, **options)
    return path


@pytest.mark.parametrize(
    ("extension", "format"), [("png", "TIFF"), ("jpg", "PNG"), ("tif", "JPEG"), ("x", "PNG")]
)
def test_the_content_decides_not_the_extension(tmp_path, extension, format):
    path = save(tmp_path / f"picture.{extension}", Image.new("RGB", (5, 4), RED), format)

    image = images.read_image(path)

    assert image.mode == "RGB" and image.size == (5, 4)
    np.testing.assert_allclose(image.getpixel((2, 2)), RED, atol=4)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright_and_the_header_agrees(tmp_path, format, orientation):
    upright = Image.new("RGB", (32, 16), GREEN)
    upright.paste(RED, (0, 0, 16, 8))  # top left
    # What a camera held that way stores: the inverse of what the orientation asks the reader to do.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = upright.transpose(stored[orientation]) if orientation in stored else upright
    path = save(tmp_path / "photo", image, format, exif=exif)

    read = images.read_image(path)

    assert images.image_hw(path) == (16, 32) == (read.height, read.width)
    np.testing.assert_allclose(read.getpixel((4, 3)), RED, atol=12)
    np.testing.assert_allclose(read.getpixel((28, 13)), GREEN, atol=12)


def test_transparency_shows_white_paper(tmp_path):
    clear = Image.new("RGBA", (4, 2), (*RED, 0))
    clear.paste((*RED, 255), (0, 0, 2, 2))
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([0, 0, 0, *RED])
    palette.paste(1, (0, 0, 2, 2))
    grey = Image.merge("LA", [Image.new("L", (4, 2), 90), clear.getchannel("A")])
    keyed = Image.new("RGB", (4, 2), GREEN)
    keyed.paste(RED, (0, 0, 2, 2))

    for name, image, options, solid in [
        ("rgba", clear, {}, RED),
        ("palette", palette, {"transparency": 0}, RED),
        ("grey", grey, {}, (90, 90, 90)),
        ("keyed", keyed, {"transparency": GREEN}, RED),
    ]:
        read = images.read_image(save(tmp_path / name, image, **options))
        assert (read.mode, read.getpixel((0, 0)), read.getpixel((3, 0))) == ("RGB", solid, (255, 255, 255)), (
            name
        )


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_keep_their_look(tmp_path, mode):
    look = Image.new("RGB", (8, 8), "white")
    look.paste("black", (0, 0, 4, 8))

    read = images.read_image(save(tmp_path / "picture", look.convert(mode), "TIFF"))

    assert read.mode == "RGB"
    np.testing.assert_allclose(np.asarray(read), np.asarray(look), atol=2)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)

    for format in ("PNG", "TIFF"):
        read = images.read_image(save(tmp_path / format, Image.fromarray(ramp), format))
        assert np.asarray(read)[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]


def test_fractions_run_from_black_to_white_and_other_ranges_are_refused(tmp_path):
    good = save(tmp_path / "good.tif", Image.fromarray(np.array([[0.0, 1.0]], np.float32)), "TIFF")
    bad = save(tmp_path / "bad.tif", Image.fromarray(np.array([[0.0, 300.0]], np.float32)), "TIFF")

    assert np.asarray(images.read_image(good))[0].tolist() == [[0] * 3, [255] * 3]
    with pytest.raises(DataError, match=r"bad\.tif.*from 0 to 300"):
        images.read_image(bad)


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path):
    path = save(
        tmp_path / "photo.jpg", Image.new("RGB", (6, 4), RED), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff"
    )

    assert images.read_image(path).size == (6, 4)
    assert images.image_hw(path) == (4, 6)


def test_stretching_averages_what_falls_together():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255

    small = images.stretch_image(Image.fromarray(stripes), (16, 8))

    assert small.shape == (16, 8, 3) and small.dtype == np.uint8
    np.testing.assert_allclose(small, 127.5, atol=12)  # picking single pixels would give 0 or 255


def test_tensors_are_channels_first_in_minus_one_to_one():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 1] = (255, 0, 51)

    tensor = images.to_tensor(pixels)

    assert tensor.shape == (3, 2, 3) and tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[:, 0, 1], torch.tensor([1.0, -1.0, -0.6]))


def test_the_users_own_photos_can_be_read(shared_data):
    photos = [path for path in (shared_data / "own-photos").rglob("*") if path.suffix in (".png", ".jpg")]

    assert len(photos) >= 8
    for photo in photos:
        image = images.read_image(photo)
        assert image.mode == "RGB" and images.image_hw(photo) == (image.height, image.width)


def test_reading_leaves_no_file_open(tmp_path, recwarn):
    write_picture(tmp_path / "a.png")

    images.read_image(tmp_path / "a.png")
    images.image_hw(tmp_path / "a.png")

    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]
