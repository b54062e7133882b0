"""The shipped miniature: that it is what the profile says, small enough, and good for what it is for."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, Dinov2Model

from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.errors import UserError
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining import check
from sd4match_lib.miniature.pretraining.caption import plain_caption
from sd4match_lib.miniature.pretraining.check import Finding, format_findings
from sd4match_lib.miniature.pretraining.judge import Judge, shipped_judge
from sd4match_lib.miniature.pretraining.judge import _label as judge_label
from sd4match_lib.miniature.pretraining.renders import Facts, render_object
from sd4match_lib.miniature.pretraining.samples import sample_pictures
from sd4match_lib.prompts.factory import make_prompt
from sd4match_lib.reproduce.prepare import prepare_data
from sd4match_lib.utils.paths import package_path

WEIGHTS = package_path("miniature/weights")


def test_stock_classes_load_every_part():
    folder = WEIGHTS / "diffusion"
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    vision = Dinov2Model.from_pretrained(WEIGHTS / "vision")
    assert unet.config.cross_attention_dim == text.config.hidden_size
    assert len(tokenizer) == text.config.vocab_size
    assert 0 < vae.config.scaling_factor < 2
    assert (vision.config.image_size // vision.config.patch_size) ** 2 >= 50
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction" and scheduler["beta_schedule"] == "scaled_linear"


def test_the_tokenizer_knows_the_papers_prompts_word_by_word():
    shipped = CLIPTokenizer.from_pretrained(WEIGHTS / "diffusion" / "tokenizer")
    for category in CATEGORIES:
        assert len(shipped(plain_caption(category)).input_ids) == 7, category


def test_the_weights_are_small_enough_to_ship():
    sizes = [path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()]
    assert max(sizes) <= 16e6 and sum(sizes) <= 40e6


def test_the_autoencoder_gives_back_what_it_saw():
    profile = load_profile("mini")
    prepare_data(profile)
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "diffusion", subfolder="vae").float()
    picture = np.array(open_dataset(profile.dataset("spair"), "test")[0].src.read())
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        back = vae.decode(vae.encode(image).latent_dist.mean).sample
    error = (back - image).square().mean()
    assert error < 0.2 * (image - image.mean(dim=(2, 3), keepdim=True)).square().mean()


@pytest.mark.slow
def test_the_pipeline_paints_the_same_picture_for_a_seed():
    paint = lambda: sample_pictures(WEIGHTS / "diffusion", ["a photo of a car"], steps=2)  # noqa: E731
    first, again = paint()[0], paint()[0]
    assert first.size == (128, 128) and np.array_equal(np.asarray(first), np.asarray(again))


@pytest.mark.parametrize("name", ["mini/single", "mini/class", "mini/cpm"])
def test_a_shipped_prompt_finds_points_by_its_name(name):
    profile = load_profile("mini")
    prepare_data(profile)
    pair = open_dataset(profile.dataset("spair"), "test")[0]
    matcher = Matcher.from_profile(profile, prompt=name, category=pair.category)
    found = matcher.match(pair.src, pair.trg, pair.src_px[:2])
    h, w = pair.trg.read().size[::-1]
    assert ((found.trg_px >= 0) & (found.trg_px <= (w, h))).all()
    plain = matcher.with_settings(prompt="empty").match(pair.src, pair.trg, pair.src_px[:2])
    assert not np.array_equal(found.confidence, plain.confidence)


def test_a_prompt_that_is_not_there_is_answered_with_the_shipped_ones():
    with pytest.raises(UserError, match="mini/class"):
        make_prompt("mini/klass", load_profile("mini"))


def test_findings_say_what_is_not_met():
    text = format_findings(
        [Finding("short", 0.1, 0.2), Finding("long", 0.3, 0.2), Finding("plain", 0.5, 0.0)]
    )
    short, long, plain = text.splitlines()
    assert "NOT met" in short and "NOT" not in long and "met" in long and "bar" not in plain


def test_paintings_are_named_by_the_judge_and_twins_among_them_show(monkeypatch, tmp_path):
    class Reads(Judge):
        """Reads the category's number from the first pixel."""

        def forward(self, images):
            return torch.eye(18)[images[:, 0, 0, 0].long()]

    def paint(_folder, prompts):
        number = list(CATEGORIES).index(prompts[0].split()[-1])
        pictures = np.random.default_rng(number).integers(0, 256, (len(prompts), 128, 128, 3), dtype=np.uint8)
        pictures[:, 0, 0, 0] = number
        if number == 4:
            pictures[1] = pictures[0]
            pictures[2, 0, 0, 0] = 5
        return [Image.fromarray(picture) for picture in pictures]

    monkeypatch.setattr(check, "trained_judge", lambda folder: Reads())
    monkeypatch.setattr(check, "held_out_accuracy", lambda judge: 1.0)
    monkeypatch.setattr(check, "sample_pictures", paint)
    found = {f.name: f.value for f in check.check_paintings(load_profile("mini"), tmp_path, 4)}
    right = found["paintings named right, 4 a category"]
    assert right.value == pytest.approx(1 - 1 / (4 * 18)) and 0.9 < right.low < right.value < right.high < 1
    assert found["the same, the category that is worst"].value == 0.75
    assert Image.open(tmp_path / "paintings.jpg").size == (4 * 64, 18 * 64)
    assert found["closest two paintings of a category, RMS of [0, 1]"] == pytest.approx(0, abs=1e-3)


def test_the_judge_takes_pf_willows_kinds_for_what_spair_calls_them(tmp_path):
    facts = [Facts(name, {}, "front", "in a room", None) for name in ("duck", "bird", "winebottle", "bottle")]
    assert [list(CATEGORIES)[judge_label(f)] for f in facts] == ["bird", "bird", "bottle", "bottle"]


def test_the_shipped_judge_names_renders_of_any_shape():
    rendered = [render_object(index, 99_001) for index in range(40)]
    names = shipped_judge().names([Image.fromarray(image).resize((200, 150)) for image, _ in rendered])
    right = [
        name == list(CATEGORIES)[judge_label(facts)] for name, (_, facts) in zip(names, rendered, strict=True)
    ]
    assert sum(right) >= 36
