import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sd4match_lib.errors import UserError
from sd4match_lib.miniature.bank import _twins, recolour
from sd4match_lib.miniature.caption import plain_caption, random_caption, view_words
from sd4match_lib.miniature.catalogue import CATEGORIES
from sd4match_lib.miniature.loop import Box, pretrain
from sd4match_lib.miniature.networks import TEXT_WIDTH, build_scheduler, build_text_encoder, build_unet
from sd4match_lib.miniature.pretrain import run
from sd4match_lib.miniature.pretrain_vision import _places
from sd4match_lib.miniature.probe import Probe, ProbePair
from sd4match_lib.miniature.vocabulary import build_tokenizer, known_words

CPU = torch.device("cpu")
BOX = Box(steps=6, minutes=None, batch=4, rate=0.05, warmup=2, save_every_s=0.0)


def train(folder, stop_at=None, broken_at=None, box=BOX):
    """Fits a line; dies at `stop_at` as a killed process would, loses its numbers at `broken_at`."""
    torch.manual_seed(0)
    modules = nn.ModuleDict({"line": nn.Linear(3, 1)})

    def loss(step, generator):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(box.batch, 3, generator=generator)
        error = (modules["line"](x).float() - x.sum(1, keepdim=True)).square().mean()
        return {"loss": error * float("nan") if step == broken_at else error}

    return pretrain("line", modules, loss, box, folder, CPU)


def test_an_interrupted_pretraining_ends_with_the_same_weights_as_an_undisturbed_one(tmp_path):
    straight = train(tmp_path / "a")
    # However short a stage is, its log tells how it ended.
    assert list(csv.DictReader((tmp_path / "a/line.csv").open()))[-1]["step"] == "6"
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", stop_at=4)
    resumed = train(tmp_path / "b")
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert all(
        torch.equal(tensor, load_file(tmp_path / "b/line.safetensors")[key])
        for key, tensor in load_file(tmp_path / "a/line.safetensors").items()
    )


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(UserError, match=r"not finite at step 3.*line\.safetensors"):
        train(tmp_path, broken_at=3)
    kept = load_file(tmp_path / "line.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def test_a_pretraining_without_end_is_refused(tmp_path):
    with pytest.raises(UserError, match="--steps or --minutes"):
        train(tmp_path, box=Box(None, None, 4, 0.05))


def test_a_later_stage_says_which_one_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr("sd4match_lib.miniature.pretrain.build_bank", lambda folder, objects: None)
    with pytest.raises(UserError, match="pretrain vae"):
        run("diffusion", out=tmp_path, steps=1)
    with pytest.raises(UserError, match="no pretraining stage 'unet'"):
        run("unet", out=tmp_path, steps=1)


def test_the_watch_sees_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path):
    modules = nn.ModuleDict({"one": nn.Linear(1, 1, bias=False)})
    nn.init.zeros_(modules["one"].weight)
    seen = []

    def loss(step, generator):
        return {"loss": -modules["one"].weight.sum()}

    def watch():
        seen.append(float(modules["one"].weight.detach()))
        return {"weight": seen[-1]}

    box = Box(steps=5, minutes=None, batch=1, rate=0.1, warmup=1, watch_every_s=0.0)
    final = pretrain("one", modules, loss, box, tmp_path, CPU, watch=watch)
    rows = list(csv.DictReader((tmp_path / "one_probe.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 5]
    assert seen == sorted(seen) and seen[-1] == pytest.approx(float(final["one"].weight.detach()))
    assert load_file(tmp_path / "one.safetensors")["0.weight"].item() > seen[-1]


def test_every_known_word_is_one_token_and_others_fall_into_pieces():
    tokenizer = build_tokenizer()
    for word in [*known_words(), *CATEGORIES]:
        assert len(tokenizer(word).input_ids) == 3, word
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("zebra")["input_ids"])
    assert len(pieces) > 3 and "".join(pieces[1:-1]).replace("</w>", "") == "zebra"
    padded = tokenizer("a photo of a cat", padding="max_length", max_length=77).input_ids
    assert len(padded) == 77 and padded[-1] == 0 and tokenizer.unk_token_id not in padded[1:6]


def test_the_networks_are_sd2s_kind_with_small_cells():
    unet = build_unet()
    outputs = []
    unet.up_blocks[1].register_forward_hook(lambda _m, _i, output: outputs.append(output))
    with torch.no_grad():
        unet(torch.zeros(1, 4, 32, 32), 261, torch.zeros(1, 77, TEXT_WIDTH))
    assert outputs[0].shape[2:] == (32, 32)  # cells of 4 px in a picture of 128
    assert unet.config.use_linear_projection and unet.config.cross_attention_dim == TEXT_WIDTH
    scheduler = build_scheduler()
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.betas[0] == pytest.approx(0.00085)
    text = build_text_encoder(build_tokenizer())
    ids = torch.tensor([build_tokenizer()("a cat", padding="max_length", max_length=77).input_ids])
    assert text(ids).last_hidden_state.shape == (1, 77, TEXT_WIDTH)


def test_captions_name_category_view_and_painted_parts():
    colours = {"body": "red", "tail": "blue"}
    drawn = [random_caption("cat", np.pi / 2, colours, np.random.default_rng(i)) for i in range(400)]
    assert 0.05 < drawn.count("") / 400 < 0.16
    assert plain_caption("cat") in drawn
    assert any("from the left with blue tail and red body" in text for text in drawn)
    assert [view_words(a * np.pi / 4) for a in (0, 1, 2, 4, 6)] == [
        "front",
        "front left",
        "left",
        "back",
        "right",
    ]


def test_twins_are_one_object_in_other_colours():
    kind, (one, other) = _twins(5)
    again = _twins(5)[1]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip((one, other), again, strict=True))
    assert one.model.category == other.model.category and kind in one.model.category
    for (_, _, a), (_, _, b) in zip(one.model.parts, other.model.parts, strict=True):
        assert np.array_equal(a.vertices, b.vertices)
    assert one.model.colours != other.model.colours and one.camera != other.camera


def test_recolouring_keeps_what_no_caption_names():
    model = CATEGORIES["bicycle"](np.random.default_rng(0))
    changed = recolour(model, np.random.default_rng(1))
    tyres = [(a[1], b[1]) for a, b in zip(model.parts, changed.parts, strict=True) if a[0] == "tyres"]
    assert set(tyres) == {("black", "black")}
    assert {part: word for part, word, _ in changed.parts if part in changed.colours} == {
        part: changed.colours[part] for part, _, _ in model.parts if part in changed.colours
    }


def test_patches_of_two_crops_find_each_other():
    whole = torch.tensor([[1.0, 0.0, 0.0]])
    target, inside = _places(whole, whole)
    assert inside.all() and target[0].tolist() == list(range(64))
    half = torch.tensor([[0.5, -0.5, -0.5]])  # the upper left quarter
    target, inside = _places(half, whole)
    assert inside.all() and set(target[0].tolist()) == {
        row * 8 + column for row in range(4) for column in range(4)
    }
    _, inside = _places(whole, half)
    assert inside.sum() == 16


def test_the_probe_scores_a_planted_answer():
    features = torch.zeros(2, 32 * 32, 32, 32)
    features[:] = torch.eye(32 * 32).reshape(32 * 32, 32, 32)
    points = torch.tensor([[10.0, 20.0], [100.0, 64.0]])
    probe = Probe(
        torch.zeros(2, 128, 128, 3, dtype=torch.uint8), ["cat"] * 2, [ProbePair(0, 1, points, points, 100.0)]
    )
    assert probe.pck(features) == 1.0
    mirrored = torch.stack([features[0], features[1].flip(-1)])
    assert probe.pck(mirrored) == 0.0
