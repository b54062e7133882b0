import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from sd4match_lib.backbones.vision import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VisionFeatures,
    centre_crop,
    normalise,
    resize_shorter,
    seen_box,
)
from sd4match_lib.config.schema import VisionConfig
from sd4match_lib.errors import UserError


def config(folder, *, resize=64, crop=56, dense_hw=(84, 56)):
    return VisionConfig(sources=(str(folder),), resize=resize, crop=crop, dense_hw=dense_hw)


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory):
    return tiny.write_dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def dinov2(dinov2_folder):
    return VisionFeatures.from_folder(dinov2_folder, config(dinov2_folder))


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    folder = tiny.write_dino(tmp_path_factory.mktemp("dino"))
    return VisionFeatures.from_folder(folder, config(folder, resize=40, crop=32, dense_hw=(48, 40)))


@pytest.mark.parametrize("size", [(90, 70), (70, 90), (64, 64), (333, 101), (30, 41)])
def test_preprocessing_equals_the_vision_models_stock_processor(size):
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    image = picture(*size)
    stock = BitImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size={"height": 56, "width": 56},
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )(image, return_tensors="pt")["pixel_values"][0]
    ours = normalise(centre_crop(resize_shorter(image, 64), 56))
    torch.testing.assert_close(ours, stock.float(), atol=1e-5, rtol=1e-5)


def test_tokens_are_the_stock_models_final_tokens_without_and_with_cls(dinov2):
    image = picture(80, 60)
    tokens = dinov2.tokens([image])
    with torch.no_grad():
        pixels = normalise(centre_crop(resize_shorter(image, 64), 56))[None]
        stock = dinov2.model(pixels).last_hidden_state
    assert tokens.patches.shape == (1, 16, 12)
    assert torch.equal(tokens.patches, stock[:, 1:]) and torch.equal(tokens.cls, stock[:, 0])
    # After the final norm: the stock model's pooled output is its normed CLS.
    assert torch.equal(tokens.cls, dinov2.model(pixels).pooler_output)


def test_tokens_do_not_depend_on_the_batch(dinov2):
    images = [picture(80, 60, seed) for seed in range(3)]
    together = dinov2.tokens(images)
    assert len(together) == 3
    for index, image in enumerate(images):
        assert torch.equal(dinov2.tokens([image]).patches[0], together.patches[index])
    assert torch.equal(together.select([2, 0]).cls, together.cls[[2, 0]])


@pytest.mark.parametrize("name", ["dinov2", "dino"])
def test_dense_features_see_the_whole_image_in_reading_order(name, request):
    model = request.getfixturevalue(name)
    height, width = model.config.dense_hw
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    grid = model.dense([Image.fromarray(pixels)])
    assert grid.shape == (1, 12, height // model.patch, width // model.patch)
    assert grid.shape[2:] == model.grid_hw
    # Changing one patch of pixels changes that patch's feature most.
    pixels[model.patch : 2 * model.patch, -model.patch :] = (255, 0, 30)
    change = (model.dense([Image.fromarray(pixels)]) - grid).norm(dim=1)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert (row, column) == (1, change.shape[1] - 1)


def test_sizes_that_patches_do_not_fill_are_errors(dinov2_folder):
    for wrong, message in [
        ({"crop": 60}, "vision.crop is 60"),
        ({"dense_hw": (84, 57)}, "vision.dense_hw is 57"),
        ({"resize": 42}, "larger than vision.resize"),
    ]:
        with pytest.raises(UserError, match=message):
            VisionFeatures.from_folder(dinov2_folder, config(dinov2_folder, **wrong))


def test_a_folder_without_a_vision_model_is_an_error(tmp_path):
    tiny.write_diffusion(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        VisionFeatures.from_folder(tmp_path, config(tmp_path))
    with pytest.raises(UserError, match="holds a 'clip_text_model' model"):
        VisionFeatures.from_folder(tmp_path / "text_encoder", config(tmp_path))


def test_register_tokens_are_no_patches(tmp_path):
    folder = tiny.write_dinov2(tmp_path, registers=4)
    vision = VisionFeatures.from_folder(folder, config(folder))
    image = picture(80, 60)
    tokens = vision.tokens([image])
    pixels = normalise(centre_crop(resize_shorter(image, 64), 56))[None]
    stock = vision.model(pixels).last_hidden_state
    assert stock.shape[1] == 1 + 4 + 16 and tokens.patches.shape == (1, 16, 12)
    torch.testing.assert_close(tokens.patches, stock[:, 5:])
    torch.testing.assert_close(tokens.cls, stock[:, 0])
    assert vision.dense([image]).shape == (1, 12, 6, 4)


def test_dinov3s_register_tokens_are_no_patches_either(tmp_path):
    folder = tiny.write_dinov3(tmp_path)
    vision = VisionFeatures.from_folder(folder, config(folder, crop=48, dense_hw=(96, 48)))
    image = picture(80, 60)
    tokens = vision.tokens([image])
    stock = vision.model(normalise(centre_crop(resize_shorter(image, 64), 48))[None]).last_hidden_state
    assert stock.shape[1] == 1 + 4 + 9 and tokens.patches.shape == (1, 9, 16)
    torch.testing.assert_close(tokens.patches, stock[:, 5:])
    torch.testing.assert_close(tokens.cls, stock[:, 0])
    assert vision.dense([image]).shape == (1, 16, 6, 3)


@pytest.mark.parametrize("size", [(300, 200), (128, 128), (90, 333)])
def test_the_box_that_is_seen_is_what_the_crop_holds(size):
    fed = config("", resize=256, crop=224)
    left, right, top, bottom = seen_box(Image.new("RGB", size), fed)
    side = min(size) * 224 / 256
    assert right - left == pytest.approx(side, abs=2) and bottom - top == pytest.approx(side, abs=2)
    # White where a pixel's centre is inside the box: what is cropped is white but for its rim.
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    inside = (left < x) & (x < right) & (top < y) & (y < bottom)
    painted = Image.fromarray(np.where(inside[..., None], [255] * 3, [0] * 3).astype(np.uint8))
    crop = centre_crop(resize_shorter(painted, 256), 224)
    assert (crop[8:-8, 8:-8] > 250).all()
    beyond = np.asarray(resize_shorter(painted, 256)) > 128
    assert beyond.mean() * beyond[..., 0].size == pytest.approx(224 * 224, rel=0.03)
