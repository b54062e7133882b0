"""CONTRIBUTING.md, line by line: a toy of each kind is added without touching the library's files."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from PIL import Image
from tiny_notebooks import write_notebook

from sd4match_lib.backbones.base import DiffusionBackbone, TextEncoder
from sd4match_lib.backbones.latents import Latents
from sd4match_lib.config.names import BACKBONES, DATASETS, LEARNED_PROMPTS, MATCHERS, PROMPTS
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.types import Pair, PairDataset, ThresholdRule
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.matching.correlation import best_cells
from sd4match_lib.prompts.base import Scope
from sd4match_lib.prompts.learned import LearnedPrompt
from sd4match_lib.prompts.text import StringPrompt
from sd4match_lib.report.items import Item
from sd4match_lib.report.page import write_report
from sd4match_lib.report.tables import write_table
from sd4match_lib.reproduce.reproduce import reproduce
from sd4match_lib.runs.store import finish_notebook
from sd4match_lib.training.train import train


@pytest.fixture
def profile(tmp_path):
    """Tiny models, and four pictures in a folder that no reader of the library knows."""
    path = tiny.write_profile(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "toys").mkdir()
    for name in "abcd":
        blobs = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        blobs.resize((60, 48), Image.Resampling.BICUBIC).save(tmp_path / "toys" / f"{name}.png")
    path.write_text(
        f'{path.read_text()}[datasets.toys]\nkind = "toy"\nroot = "{tmp_path.as_posix()}/toys"\n'
        "[training]\nsteps = 2\nbatch_size = 2\nvalidate_every = 2\n"
    )
    DATASETS.register("toy", ToyDataset)
    yield load_profile(path)
    DATASETS.unregister("toy")


class ToyDataset(PairDataset):
    """Every picture of a folder with the next one; one point, at the same place."""

    threshold = ThresholdRule.IMAGE
    how_to_get = "paint pictures into {root}"

    def __init__(self, root, split, max_pairs=None):
        super().__init__("toy", split, root)
        self._paths = sorted(root.glob("*.png"))[:max_pairs]

    def __len__(self):
        return len(self._paths)

    def _image_ids(self, place):
        return tuple(f"blob/{self._paths[(place + step) % len(self)].stem}" for step in (0, 1))

    def _pair(self, place):
        ids, xy = self._image_ids(place), np.array([[20, 30], [40, 10]], np.float32)
        src, trg = (self._image(name, "blob", self.root / f"{name[5:]}.png") for name in ids)
        return Pair(f"{place}", "blob", src, trg, xy, xy, ("1", "2"), self.threshold)

    def _pair_keys(self):
        return map(str, range(len(self)))

    def _files(self):
        return self._paths


def run(profile, **request):
    return evaluate(profile, dataset="toys", device="cpu", **request)


def test_a_dataset_is_a_class_and_a_line(profile):
    found = run(profile, extractor="raw_pixels")
    assert found.keypoints["pair_id"].nunique() == 4 and found.record.config["dataset"] == "toys"


class LoudPrompt(StringPrompt):
    scope = Scope.IMAGE

    def strings(self, batch):
        return [f"a red {category}" for category in batch.categories]

    def identity(self):
        return {"kind": "loud"}


def test_a_prompt_is_a_class_and_a_line(profile):
    PROMPTS.register("loud", LoudPrompt)
    try:
        found, text = run(profile, prompt="loud"), run(profile, prompt="text")
    finally:
        PROMPTS.unregister("loud")
    assert found.record.config["prompt"]["kind"] == "loud" and found.folder.name.startswith(
        "toys-test-sd-loud"
    )
    assert (found.keypoints["pred_x_px"] != text.keypoints["pred_x_px"]).any()


class ScaledPrompt(LearnedPrompt):
    """One row, repeated at learned strengths."""

    kind = "scaled"
    scope = Scope.DATASET

    def __init__(self, token_width, *, length=3, space="tokens"):
        super().__init__(space)
        self.row = torch.nn.Parameter(torch.ones(token_width))
        self.strength = torch.nn.Parameter(torch.zeros(length))

    def embeddings(self, batch):
        return (self.strength[:, None] * self.row).expand(len(batch), -1, -1)

    def config(self):
        return {"token_width": len(self.row), "length": len(self.strength), "space": str(self.space)}

    def initialise(self, encoder, seed):
        self.strength.data = torch.rand(len(self.strength), generator=torch.Generator().manual_seed(seed))


def test_a_learned_prompt_is_a_class_and_a_line(profile):
    LEARNED_PROMPTS.register("scaled", ScaledPrompt)
    try:
        learned = train(profile, "scaled", dataset="toys", options={"length": 4}, device="cpu")
        found = run(profile, prompt=str(learned.folder / "prompt.safetensors"))
    finally:
        LEARNED_PROMPTS.unregister("scaled")
    assert learned.prompt.config()["length"] == 4 and found.record.config["prompt"]["kind"] == "scaled"
    start = torch.rand(4, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(learned.prompt.strength, start)


def worst_neighbour(score, src_ft):
    """The target cell that is least like the source."""
    return best_cells(-score(src_ft))


def test_a_matcher_is_a_function_and_a_line(profile):
    MATCHERS.register("worst", worst_neighbour)
    try:
        worst = run(profile, extractor="raw_pixels", matcher="worst")
    finally:
        MATCHERS.unregister("worst")
    best = run(profile, extractor="raw_pixels", matcher="nn")
    assert worst.record.config["matcher"] == "worst" and "sigma" not in worst.record.config
    assert worst.keypoints["distance_in"].mean() > best.keypoints["distance_in"].mean()


def test_a_metric_is_a_function_of_stored_keypoints(profile):
    def median_error(keypoints):
        return float((keypoints["distance_in"] / keypoints["theta_in"]).median())

    assert 0 < median_error(run(profile, extractor="raw_pixels").keypoints) < 2


class ToyText(TextEncoder):
    """Four positions, three letters; a context is one vector that no layer norm has seen."""

    length, width, starts, most_rows = 4, 6, 0, 4
    device, dtype = torch.device("cpu"), torch.float32

    def token_ids(self, strings):
        return torch.tensor([[ord(letter) % 3 for letter in f"{text:<4}"[-4:]] for text in strings])

    def random_ids(self, generator):
        return torch.randint(3, (1, 4), generator=generator)

    def embed_ids(self, token_ids):
        return torch.eye(3, 6)[token_ids]

    def vocabulary(self):
        return list("abc"), torch.eye(3, 6)

    def positions(self, rows):
        return torch.zeros(rows, 6)

    def assemble(self, learned):
        return torch.nn.functional.pad(learned, (0, 0, 0, self.length - learned.shape[1]))

    def encode_tokens(self, token_embeds):
        return token_embeds.flatten(1)[:, None]


class ToyBackbone(DiffusionBackbone):
    """A tower without up blocks, UNet or VAE: noisy pixels, turned by what the prompt says."""

    files, weights_file, encoder_files = ("toy.json",), "toy.json", ("toy.json",)
    device, dtype = torch.device("cpu"), torch.float32

    @classmethod
    def from_folder(cls, folder, *, layers, dtype=torch.float32, device="cpu"):
        model = cls()
        model.text, model.layers = cls.load_text(folder), layers
        return model

    @classmethod
    def load_text(cls, folder, *, dtype=torch.float32, device="cpu"):
        return ToyText()

    @classmethod
    def token_width(cls, folder):
        return ToyText.width

    @classmethod
    def grid_hw(cls, folder, *, image_hw, layer):
        return image_hw[0] // 8, image_hw[1] // 8

    def latent_shape(self, image_hw):
        return 3, image_hw[0] // 8, image_hw[1] // 8

    def encode(self, images):
        return Latents(torch.nn.functional.avg_pool2d(images, 8), torch.zeros(len(images), 3, 8, 8))

    def sample(self, latents, image_ids, *, seed):
        return latents.mean

    def add_noise(self, clean, noise, timestep):
        return clean + timestep / 1000 * noise

    def read_layers(self, noisy, timestep, context, layers):
        turn = context[:, 0, : 3 * 6].reshape(-1, 3, 6) + 0.1
        return [torch.einsum("bchw,bcd->bdhw", noisy, turn) for _ in layers]


def test_a_backbone_is_a_class_and_a_line_and_needs_no_up_blocks(profile, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.json").write_text(json.dumps({"turn": 1}))
    BACKBONES.register("toy", ToyBackbone)
    try:
        model = dataclasses.replace(profile.model, backbone="toy", sources=(str(tmp_path / "toy"),))
        features = dataclasses.replace(profile.features, layer="tower.7")
        asked = dataclasses.replace(profile, model=model, features=features)
        learned = train(asked, "single", dataset="toys", options={"length": 3}, device="cpu")
        found = run(asked, prompt=learned.prompt)
    finally:
        BACKBONES.unregister("toy")
    assert found.record.config["layers"] == ["tower.7"] and found.record.config["prompt"]["kind"] == "single"
    assert learned.record.inputs["model"] == found.record.inputs["model"]
    assert np.isfinite(found.keypoints["distance_in"]).all()


@pytest.mark.slow
def test_a_notebook_is_a_file_with_a_number(scratch_profile, tmp_path):
    write_notebook(tmp_path / "notebooks" / "77_toy.ipynb")
    (record,) = reproduce(str(scratch_profile), only=["77"], notebooks_dir=tmp_path / "notebooks")
    assert (record.name, record.status) == ("77_toy", "complete") and list(record.outputs) == [
        "tables/hello.txt"
    ]


def test_a_table_of_the_report_is_an_entry_that_names_it(profile, monkeypatch):
    tables = profile.results_path / "tables"
    write_table(pd.DataFrame([{"toy": "duck", "legs": 2}]), tables, "toys", "Toys with legs. Profile `tiny`.")
    finish_notebook("77_toy", profile, [tables / "toys.csv", tables / "toys.md"])
    item = Item("Toys", "toys have legs.", "77_toy", tables=("toys",))
    monkeypatch.setattr("sd4match_lib.report.page.ITEMS", (item,))
    said = write_report(profile)[0].read_text(encoding="utf-8")
    assert "## Toys" in said and "**The paper:** toys have legs." in said and "| duck | 2 |" in said
