import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sd4match_lib.errors import UserError
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.objects.model import ObjectModel
from sd4match_lib.miniature.objects.solids import Solid
from sd4match_lib.miniature.pretraining.bank import (
    Entry,
    _twins,
    bank_shapes,
    part_map,
    place_map,
    recolour,
    shape_of,
)
from sd4match_lib.miniature.pretraining.caption import full_caption, plain_caption, random_caption, view_words
from sd4match_lib.miniature.pretraining.grounding import Namer, ground, grounding_loss, mentions
from sd4match_lib.miniature.pretraining.loop import Box, pretrain
from sd4match_lib.miniature.pretraining.networks import (
    TEXT_WIDTH,
    build_scheduler,
    build_text_encoder,
    build_unet,
)
from sd4match_lib.miniature.pretraining.probe import Probe, ProbePair
from sd4match_lib.miniature.pretraining.run import run
from sd4match_lib.miniature.pretraining.vision import _places_seen, _twin_loss
from sd4match_lib.miniature.pretraining.vocabulary import build_tokenizer, known_words
from sd4match_lib.miniature.render.scene import take_picture

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
    monkeypatch.setattr("sd4match_lib.miniature.pretraining.run.build_bank", lambda folder, objects: None)
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
    assert any("with tail and body and the " in text for text in drawn)
    assert any(text.startswith("a photo of an object with ") for text in drawn)
    assert full_caption("cat", colours) == (
        "a photo of a cat with body and tail and the front and the back and the left and the right"
        " and the top and the bottom"
    )
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


def test_crops_know_where_on_the_object_their_patches_lie():
    places = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    # Upper left: towards the back, half way up, no left or right. Lower right: front, right, top.
    places[0, :, :16, :16] = torch.tensor([3, 0, 4])[:, None, None]
    places[0, :, 16:, 16:] = torch.tensor([7, 1, 9])[:, None, None]
    whole = _places_seen(places, torch.tensor([[1.0, 0.0, 0.0]])).view(3, 8, 8)
    assert whole[:, :4, :4].flatten(1).unique(dim=1).tolist() == [[3], [0], [4]]
    assert whole[:, 4:, 4:].flatten(1).unique(dim=1).tolist() == [[7], [1], [9]]
    assert not whole[:, :4, 4:].any()
    upper_left = _places_seen(places, torch.tensor([[0.5, -0.5, -0.5]]))
    assert upper_left[0].unique(dim=1).tolist() == [[3], [0], [4]]


def test_the_twin_loss_asks_for_ones_own_other_picture():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    # Of three candidates (all but itself) the twin is at 1 / 0.1, the two others at 0.
    expected = float(np.log(1 + 2 * np.exp(-10)))
    assert float(_twin_loss(torch.stack([one, other, 3 * one, other]))) == pytest.approx(expected, rel=1e-3)
    # Everything alike: one of three by chance.
    assert float(_twin_loss(torch.ones(4, 2))) == pytest.approx(np.log(3))
    assert float(_twin_loss(torch.stack([one, one, other, other]))) > 5


def test_the_shape_of_an_object_is_its_own_frames_and_without_size():
    box = Solid(np.array(list(np.ndindex(2, 2, 2)), dtype=float) * [8.0, 1.9, 1.9], ((0, 1, 3, 2),))
    cube = shape_of(ObjectModel("box", [("box", "red", box)])).reshape(8, 8, 8)
    assert (
        cube.any(axis=(1, 2)).all()
        and cube.any(axis=(0, 2)).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    )
    double = Solid(box.vertices * 2 + 1, box.faces)
    assert (shape_of(ObjectModel("box", [("box", "red", double)])) == cube.ravel()).all()
    shapes = bank_shapes(3)
    _, (picture, twin) = _twins(2)
    assert (shapes[2] == shape_of(picture.model)).all() and (shapes[2] == shape_of(twin.model)).all()
    assert (shapes[0] != shapes[1]).any()


def test_captions_are_searched_for_what_they_name():
    colours = {"body": "red", "legs": "red", "front legs": "blue", "tail": "green"}
    entry = Entry("cat", 0.0, colours)
    text = "a photo of a cat from the front left with blue front legs and red body"
    named = {index: text[: letter + 1].split()[-1] for index, letter in mentions(text, entry)}
    assert named == {0: "cat", 1: "body", 3: "legs"}
    assert mentions("", entry) == []
    assert mentions("a photo of an object with cap", entry) == []


def test_a_part_may_be_named_without_its_colour_and_is_not_taken_for_an_end():
    entry = Entry("chair", 0.0, {"back": "red", "legs": "blue"})
    text = "a photo of an object from the back with legs and the front and the back and back"
    named = [(what, text[: letter + 1].split()[-1]) for what, letter in mentions(text, entry)]
    assert named == [(2, "legs"), (-2, "front"), (-1, "back"), (1, "back")]


def test_words_are_grounded_at_their_last_token_and_place():
    tokenizer = build_tokenizer()
    entry = Entry("cat", 0.0, {"body": "red", "tail": "blue"})
    parts = torch.zeros(1, 32, 32, dtype=torch.uint8)
    parts[0, :8] = 1
    text = "a photo of a cat with red body and blue tail"
    ninths = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    ninths[0, 0, :4], ninths[0, 0, 4:8] = 7, 3  # in the front third, in the back third; no other axis
    rows, positions, places = ground(tokenizer, [text], [entry], parts, ninths)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    # The tail is named but hidden: there is no place to look at.
    assert [pieces[p] for p in positions] == ["cat</w>", "body</w>"] and rows.tolist() == [0, 0]
    assert places.sum(dim=(1, 2)).tolist() == [256, 256]

    text = "a photo of an object with the front and the back and the top and the bottom"
    rows, positions, places = ground(tokenizer, [text], [entry], parts, ninths)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    assert [pieces[p] for p in positions] == ["front</w>", "back</w>"]
    assert places[0, :4].all() and places[1, 4:8].all() and places.sum(dim=(1, 2)).tolist() == [128, 128]


def test_the_grounding_loss_is_minus_log_of_the_share_that_falls_on_the_place():
    place = torch.zeros(1, 32, 32)
    place[0, :16] = 1  # the upper half
    rows, positions, weights = torch.tensor([0]), torch.tensor([3]), torch.ones(1)

    def loss(upper, lower):
        attention = torch.full((1, 256, 77), 0.0)
        attention[0, :128, 3], attention[0, 128:, 3] = upper, lower
        return float(grounding_loss([attention], rows, positions, place, weights))

    assert loss(0.5, 0.0) == pytest.approx(0.0, abs=2e-3)
    assert loss(0.1, 0.1) == pytest.approx(-np.log(0.501), rel=1e-3)
    assert loss(0.1, 0.3) == pytest.approx(-np.log(0.251), rel=1e-3)
    nothing = torch.zeros(0, dtype=torch.long)
    assert float(grounding_loss([torch.ones(1, 256, 77)], nothing, nothing, place[:0], weights)) == 0.0


def test_cells_are_called_what_the_caption_names_or_else_by_their_colour():
    namer = Namer(["body", "tail"], 64)
    entry = Entry("cat", 0.0, {"body": "red", "tail": "blue"})
    parts = torch.tensor([[[0, 1], [2, 255]]], dtype=torch.uint8)
    places = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    places[0, 0] = torch.tensor([[0, 1], [5, 9]])  # beside it, back, middle, front

    def called(caption):
        names, *axes, colours = namer.targets([caption], [entry], parts, places)[0]
        assert not torch.stack(axes[1:]).any()
        return (
            [namer.names[i] for i in names.flatten().tolist()],
            axes[0].flatten().tolist(),
            [namer.colours[i] for i in colours.flatten().tolist()],
        )

    nothing, no_place, looks = [""] * 4, [0] * 4, ["", "red", "blue", ""]
    assert called("") == called("a photo of an object from the left") == (nothing, no_place, looks)
    assert called("a photo of a cat from the left") == (nothing, no_place, nothing)
    assert called("a photo of a cat with blue tail") == (["", "", "tail", ""], no_place, nothing)
    assert called("a photo of a cat with the front and the back") == (nothing, [0, 1, 5, 9], nothing)


def test_naming_costs_nothing_where_the_features_point_to_what_is_named():
    namer = Namer(["body", "tail"], 64)
    with torch.no_grad():
        namer.to_parts.copy_(3 * torch.eye(64)[:3])  # the length of a direction does not matter
        namer.to_places.copy_(5 * torch.eye(64)[3:33])
        namer.to_colours.copy_(torch.eye(64)[33:46])
    # A cell called "body" (1), whose axes and colour are not asked for (0: the first of their directions).
    pointing = torch.eye(64)[[1, 3, 4, 5, 33]].sum(dim=0)[None, :, None, None]
    targets = torch.tensor([1, 0, 0, 0, 0])[None, :, None, None]
    seen, one = torch.ones(1, 1, 1, dtype=torch.bool), torch.ones(1)
    right = float(namer.loss(pointing, targets, seen, one).detach())
    height = 12 / np.sqrt(5)  # five directions share the cell
    expected = sum(np.log1p(others * np.exp(-height)) for others in (2, 9, 12))
    assert right == pytest.approx(expected, rel=1e-3)
    assert float(namer.loss(pointing * 9, targets, seen, one).detach()) == pytest.approx(right, rel=1e-4)
    wrong = targets.index_fill(1, torch.tensor([0]), 2)
    assert float(namer.loss(pointing, wrong, seen, one).detach()) == pytest.approx(right + height, rel=1e-3)


def test_the_probe_scores_a_planted_answer():
    features = torch.zeros(2, 32 * 32, 32, 32)
    features[:] = torch.eye(32 * 32).reshape(32 * 32, 32, 32)
    points = torch.tensor([[10.0, 20.0], [100.0, 64.0]])
    probe = Probe(
        torch.zeros(2, 128, 128, 3, dtype=torch.uint8),
        ["cat"] * 2,
        [""] * 2,
        [ProbePair(0, 1, points, points, 100.0)],
    )
    assert probe.pck(features) == 1.0
    mirrored = torch.stack([features[0], features[1].flip(-1)])
    assert probe.pck(mirrored) == 0.0


def test_part_maps_follow_the_object_and_its_twin():
    _, (first, twin) = _twins(3)
    maps = [part_map(picture) for picture in (first, twin)]
    assert list(first.model.colours) == list(twin.model.colours)
    for picture, cells in zip((first, twin), maps, strict=True):
        assert cells.shape == (32, 32) and len(set(np.unique(cells)) - {0, 255}) >= 2
        inside = picture.mask[2::4, 2::4]
        assert ((cells > 0) == inside).mean() > 0.95


def test_place_maps_say_where_on_the_object_a_cell_lies():
    sideways = take_picture(
        CATEGORIES["horse"], np.random.default_rng(1), np.random.default_rng(2), azimuth=(1.5, 1.6)
    )
    along, _, up = places = place_map(sideways)
    assert ((places > 0) == (sideways.parts[2::4, 2::4] >= 0)).all() and places.max() == 9
    columns = np.broadcast_to(np.arange(32), along.shape)
    # Seen from its left, the horse's front is on the picture's left, and its top is above.
    assert columns[along == 9].mean() < columns[along == 5].mean() < columns[along == 1].mean()
    assert columns.T[up == 9].mean() < columns.T[up == 5].mean() < columns.T[up == 1].mean()
    bottle = place_map(take_picture(CATEGORIES["bottle"], *map(np.random.default_rng, (1, 2))))
    assert not bottle[:2].any() and set(np.unique(bottle[2])) == set(range(10))


def test_the_cameras_pixels_lead_back_to_the_points_that_fell_on_them():
    _, (picture, _) = _twins(5)
    rows, columns = np.nonzero(picture.mask & np.isfinite(picture.points[..., 0]))
    xy, depth = picture.camera.project(picture.points[rows, columns], 128)
    assert np.abs(xy - np.stack([columns, rows], axis=1) - 0.25).max() < 1e-6 and (depth > 0).all()
