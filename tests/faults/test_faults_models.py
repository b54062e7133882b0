"""Models, caches and training states that are damaged: found before a number is computed from them."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel
from refusal import refused
from safetensors.torch import load_file, save_file

from sd4match_lib.backbones.pixart import PixArt
from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.backbones.weights import VISION_FILES, file_hash, find_diffusion, find_vision
from sd4match_lib.config.schema import ModelConfig, VisionConfig
from sd4match_lib.features.cache import DiskCache
from sd4match_lib.matching.points import match_points
from sd4match_lib.training.log import TrainingLog
from sd4match_lib.training.state import Progress, load_state, save_state

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
WEIGHTS = [
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
]
CONFIGS = ["unet/config.json", "vae/config.json", "text_encoder/config.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.write_diffusion(folder / "sd")
    tiny.write_dinov2(folder / "dino")
    return folder


@pytest.fixture
def models(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "models")
    return tmp_path / "models"


def find(models):
    return find_diffusion(ModelConfig(sources=(str(models / "sd"),), image_hw=(64, 64)))


def find_dino(models):
    return find_vision(VisionConfig(sources=(str(models / "dino"),), resize=56, crop=56, dense_hw=(56, 56)))


def load(models):
    return StableDiffusion.from_folder(find(models).folder, layers=("up_blocks.1",))


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("content", [b"", b"x" * 7, LFS, b"\xff" * 300, None, "folder", "half"])
def test_weights_that_are_none_are_named_without_loading_anything(models, name, content):
    path = models / "sd" / name
    if content == "half":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
    refused(lambda: find(models), name)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        "{",
        '{"auto_map": {"AutoModel": "code.Model"}}',
        '{"num_hidden_layers": 1000000}',
        "[" * 100_000,
    ],
)
def test_configurations_that_are_none_or_ask_for_code_are_named(models, name, content):
    (models / "sd" / name).write_text(content)
    refused(lambda: find(models), name)


SCHEDULERS = [{}, {"num_train_timesteps": 10}, {"num_train_timesteps": 10**8}, {"beta_start": 0.1}]


@pytest.mark.parametrize("content", SCHEDULERS)
def test_a_scheduler_that_does_not_say_the_noise_is_named(models, content):
    (models / "sd" / "scheduler" / "scheduler_config.json").write_text(json.dumps(content))
    refused(lambda: find(models), "scheduler_config.json")


@pytest.mark.parametrize(
    ("part", "key"),
    [("unet", "block_out_channels"), ("vae", "block_out_channels"), ("text_encoder", "hidden_size")],
)
def test_a_size_that_no_tensor_has_is_refused_before_anything_is_allocated(models, part, key):
    path = models / "sd" / part / "config.json"
    config = json.loads(path.read_text())
    config[key] = [20_000] * len(config[key]) if isinstance(config[key], list) else 20_000
    path.write_text(json.dumps(config))
    refused(lambda: load(models), key, "20000")


@pytest.mark.parametrize("name", VISION_FILES)
@pytest.mark.parametrize("content", [b"", LFS, b"\x00" * 100, b'{"auto_map": {}}'])
def test_a_vision_model_that_is_none_is_named(models, name, content):
    (models / "dino" / name).write_bytes(content)
    refused(lambda: find_dino(models), name)


@pytest.mark.parametrize("number", ["\u0661", "\u00b2", "-1", "3", "", "1.5"])
def test_a_layer_whose_number_is_none_is_named(tmp_path, number):
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
    (tmp_path / "transformer/config.json").write_text('{"num_layers": 3, "patch_size": 2}')
    (tmp_path / "vae/config.json").write_text('{"block_out_channels": [8, 8, 8]}')
    layer = f"transformer_blocks.{number}"
    refused(lambda: PixArt.grid_hw(tmp_path, image_hw=(64, 64), layer=layer), repr(layer))
    assert PixArt.grid_hw(tmp_path, image_hw=(64, 64), layer="transformer_blocks.2") == (8, 8)


def change(path, alter):
    tensors = load_file(path)
    alter(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_missing_tensor_is_not_replaced_by_random_numbers(models, name):
    change(models / "sd" / name, lambda tensors: tensors.pop(sorted(tensors)[3]))
    refused(lambda: load(models), name.split("/")[0])


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_tensor_that_is_not_finite_is_named(models, name):
    def alter(tensors):
        tensors[sorted(tensors)[3]].view(-1)[0] = float("nan")

    change(models / "sd" / name, alter)
    refused(lambda: load(models), "not finite")


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_tensor_of_another_shape_is_refused(models, name):
    def alter(tensors):
        first = sorted(tensors)[3]
        tensors[first] = torch.zeros(*tensors[first].shape, 2)

    change(models / "sd" / name, alter)
    refused(lambda: load(models), name.split("/")[0])


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("kind", [torch.complex64, torch.int8, torch.int64, torch.bool], ids=str)
def test_weights_that_are_complex_or_quantised_are_refused(models, name, kind):
    def alter(tensors):
        first = sorted(tensors)[3]
        tensors[first] = tensors[first].to(kind)

    change(models / "sd" / name, alter)
    refused(lambda: load(models), name, "neither quantised nor complex")


DINO = VisionConfig(sources=(), resize=56, crop=56, dense_hw=(56, 56))
ONE_STAGE = {"out_features": ["stage1"], "out_indices": [1], "stage_names": ["stem", "stage1"]}
FEWER_BLOCKS = {"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"]}
OTHERS = [
    ("sd/text_encoder", {"num_attention_heads": 3}, "no multiple of 'num_attention_heads' 3"),
    ("dino", {"num_attention_heads": 5}, "no multiple of 'num_attention_heads' 5"),
    ("sd/text_encoder", {"num_hidden_layers": 1}, "layers.1."),
    ("dino", {"num_hidden_layers": 1} | ONE_STAGE, "layer.1."),
    ("sd/unet", FEWER_BLOCKS, "down_blocks.1."),
]


@pytest.mark.parametrize(("part", "changes", "named"), OTHERS, ids=lambda value: str(value)[:24])
def test_heads_that_do_not_divide_the_width_and_layers_that_nobody_counts_are_named(
    models, part, changes, named
):
    path = models / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(
        lambda: VisionFeatures.from_folder(models / part, DINO) if part == "dino" else load(models), named
    )


@pytest.mark.parametrize(("field", "number"), [("cross_attention_dim", 24), ("in_channels", 8)])
def test_parts_of_different_models_are_refused(models, field, number):
    folder = models / "sd/unet"
    other = {**UNet2DConditionModel.load_config(folder), field: number}
    UNet2DConditionModel.from_config(other).save_pretrained(folder)
    refused(lambda: load(models), "unet/config.json", f"field {field!r}: {number} is not")


def test_a_tokenizer_that_knows_no_limit_is_legal_and_one_that_says_none_is_not(models):
    path = models / "sd/tokenizer/tokenizer_config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"model_max_length": 10**30}))
    assert load(models).text.token_ids(["a cat"]).shape == (1, 77)
    del said["model_max_length"]
    path.write_text(json.dumps(said))
    refused(lambda: load(models), "tokenizer_config.json", "'model_max_length'")


@pytest.mark.parametrize("kind", ["bert", "resnet", None, 3])
def test_another_architecture_is_refused_by_its_name(models, kind):
    path = models / "dino" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": kind}))
    refused(lambda: VisionFeatures.from_folder(models / "dino", DINO), repr(kind))


def test_a_vision_model_without_a_tensor_is_refused(models):
    change(models / "dino" / "model.safetensors", lambda tensors: tensors.pop(sorted(tensors)[3]))
    refused(lambda: VisionFeatures.from_folder(models / "dino", DINO), "lacks 1 of the model's tensors")


def test_other_weights_of_equal_size_and_time_have_another_hash(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before, first = path.stat(), file_hash(path, tmp_path / "cache")
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert file_hash(path, tmp_path / "cache") != first


def test_a_hash_is_not_noted_through_a_link(tmp_path):
    (tmp_path / "weights").write_bytes(b"one")
    digest = file_hash(tmp_path / "weights", tmp_path / "cache")
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.unlink()
    (tmp_path / "elsewhere.txt").write_text("mine")
    note.symlink_to(tmp_path / "elsewhere.txt")
    assert file_hash(tmp_path / "weights", tmp_path / "cache") == digest
    assert (tmp_path / "elsewhere.txt").read_text() == "mine"
    assert json.loads(note.read_text())["sha256"] == digest and not note.is_symlink()
    shutil.rmtree(note.parent)
    (tmp_path / "folder").mkdir()
    note.parent.symlink_to(tmp_path / "folder")
    assert file_hash(tmp_path / "weights", tmp_path / "cache") == digest
    assert not list((tmp_path / "folder").iterdir()) and note.is_file()


def test_features_that_are_not_finite_are_no_answer():
    maps = torch.rand(1, 4, 5, 5)
    for bad in (maps * float("nan"), maps / 0):
        for pair in ((bad, maps), (maps, bad)):
            refused(lambda pair=pair: match_points(*pair, torch.ones(1, 2, 2), matcher="nn"), "not finite")


ENTRIES = {
    "empty": b"",
    "text": b"no tensors",
    "cut off": None,
    "another name": {"average": torch.ones(2, 3)},
    "another shape": {"mean": torch.ones(3, 2), "std": torch.ones(2, 3)},
    "a name too few": {"mean": torch.ones(2, 3)},
    "a name too many": {"mean": torch.ones(2, 3), "std": torch.ones(2, 3), "x": torch.ones(1)},
    "nan": {"mean": torch.ones(2, 3) * float("nan"), "std": torch.ones(2, 3)},
    "nothing": {},
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_of_the_cache_that_does_not_fit_is_computed_again(tmp_path, name, caplog):
    cache = DiskCache(tmp_path, {}, {"mean": (2, 3), "std": (2, 3)})
    cache.put("key", {"mean": torch.ones(2, 3), "std": torch.zeros(2, 3)})
    path, content = cache.path("key"), ENTRIES[name]
    if content is None:
        path.write_bytes(path.read_bytes()[:-4])
    elif isinstance(content, dict):
        save_file(content, path)
    else:
        path.write_bytes(content)
    assert cache.get("key") is None and "is damaged" in caplog.text and "computed again" in caplog.text
    cache.put("key", {"mean": torch.ones(2, 3), "std": torch.zeros(2, 3)})
    assert torch.equal(cache.get("key")["std"], torch.zeros(2, 3))
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("place", ["entry", "folder"])
def test_a_cache_that_cannot_be_used_stops_nothing(tmp_path, place, caplog):
    cache = DiskCache(tmp_path / "cache", {})
    if place == "entry":
        cache.path("key").mkdir(parents=True)
    else:
        (tmp_path / "cache").write_text("in the way")
    assert cache.get("key") is None
    cache.put("key", {"x": torch.ones(1)})
    assert "could not be kept" in caplog.text


def optimizer(values=(1.0, 2.0)):
    parameter = torch.nn.Parameter(torch.tensor(values))
    made = torch.optim.Adam([parameter])
    parameter.grad = torch.ones_like(parameter)
    made.step()
    return made


def saved_state(path):
    made = optimizer()
    save_state(path, None, made, torch.amp.GradScaler("cpu", enabled=False), Progress(3, 1.0, 0.5, 2))
    return path


def restore(path):
    return load_state(path, optimizer(), torch.amp.GradScaler("cpu", enabled=False))


STATES = {
    "empty": b"",
    "text": b"step 3",
    "random": np.random.default_rng(0).bytes(400),
    "a Git LFS pointer": LFS,
    "cut off": slice(None, -4),
    "half": slice(None, 100),
}
PROGRESS = [
    "",
    "{",
    "[]",
    "3",
    '{"step": -1}',
    '{"step": "3"}',
    '{"step": 1e3}',
    '{"surprise": 1}',
    '{"best_pck": NaN}',
    '{"elapsed_s": Infinity}',
    "[" * 100_000,
    '{"step": ' + "9" * 5000 + "}",
]
TENSORS = {
    "no weight": lambda tensors: tensors.pop("weight.0"),
    "another shape": lambda tensors: tensors.update({"weight.0": torch.ones(1)}),
    "nan": lambda tensors: tensors.update({"weight.0": torch.tensor([1.0, float("nan")])}),
    "moments of another shape": lambda tensors: tensors.update({"exp_avg.0": torch.ones(1)}),
    "no second moment": lambda tensors: tensors.pop("exp_avg_sq.0"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_none_is_named(tmp_path, name):
    path, content = saved_state(tmp_path / "state.safetensors"), STATES[name]
    path.write_bytes(path.read_bytes()[content] if isinstance(content, slice) else content)
    refused(lambda: restore(path), "state.safetensors")


@pytest.mark.parametrize("progress", PROGRESS, ids=lambda text: text[:20])
def test_a_state_whose_progress_means_nothing_is_named(tmp_path, progress):
    path = saved_state(tmp_path / "state.safetensors")
    save_file(load_file(path), path, metadata={"progress": progress, "scaler": "{}"})
    refused(lambda: restore(path), "state.safetensors")


@pytest.mark.parametrize("alter", TENSORS.values(), ids=TENSORS)
def test_a_state_whose_tensors_do_not_fit_is_named(tmp_path, alter):
    path = saved_state(tmp_path / "state.safetensors")
    tensors = load_file(path)
    alter(tensors)
    save_file(tensors, path, metadata={"progress": '{"step": 3}', "scaler": "{}"})
    refused(lambda: restore(path), "state.safetensors")


def test_the_state_that_is_damaged_above_is_whole(tmp_path):
    assert restore(saved_state(tmp_path / "state.safetensors")) == Progress(3, 1.0, 0.5, 2)


LOGS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "ragged": b"step,seconds,loss,pck\n1,2\n",
    "words": b"step,seconds,loss,pck\none,2,3,\n",
    "other columns": b"a,b\n1,2\n",
    "nul": b"step,seconds,loss,pck\n\0,1,2,3\n",
    "5,000 digits": b"step,seconds,loss,pck\n" + b"9" * 5000 + b",1,2,3\n",
}


@pytest.mark.parametrize("content", LOGS.values(), ids=LOGS)
def test_a_log_that_is_none_is_named(tmp_path, content):
    (tmp_path / "log.csv").write_bytes(content)
    refused(lambda: TrainingLog(tmp_path / "log.csv", 10), "log.csv", "delete it")


def test_a_log_goes_on_as_if_it_had_never_stopped(tmp_path):
    straight, resumed = tmp_path / "straight.csv", tmp_path / "resumed.csv"
    one, first = TrainingLog(straight, 0), TrainingLog(resumed, 0)
    for log in (one, first):
        log.add(1, 0.5, 2.25, None)
        log.add(2, 1.0, 2.0, 0.5)
    first.add(3, 9.0, 9.0, None)  # after the state that is gone on from
    second = TrainingLog(resumed, 2)
    for log in (one, second):
        log.add(3, 1.5, 1.5, None)
    assert straight.read_bytes() == resumed.read_bytes()
