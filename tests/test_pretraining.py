"""The miniature's recipe: what its losses may see, that it survives being killed, and its parts."""

import csv
from dataclasses import fields

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from sd4match_lib.errors import UserError
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining import diffusion, loop, text, vae, vision
from sd4match_lib.miniature.pretraining.caption import full_caption, plain_caption, random_caption, view_words
from sd4match_lib.miniature.pretraining.diffusion import Teachers, min_snr_weight, pretrain_diffusion
from sd4match_lib.miniature.pretraining.loop import Batch, Budget, Objective, pretrain
from sd4match_lib.miniature.pretraining.networks import (
    TEXT_WIDTH,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
)
from sd4match_lib.miniature.pretraining.probe import Probe, ProbePair
from sd4match_lib.miniature.pretraining.renders import Facts, RenderedObjects, render_object
from sd4match_lib.miniature.pretraining.run import run
from sd4match_lib.miniature.pretraining.vision import balanced, crops, same_places
from sd4match_lib.miniature.pretraining.vocabulary import build_tokenizer, known_words

CPU = torch.device("cpu")
BUDGET = Budget(steps=6, minutes=None, batch=4, learning_rate=0.05, warmup=2, save_every_s=0.0)
ONE_STEP = Budget(steps=1, minutes=None, batch=2, learning_rate=1e-3)
FACTS = Facts("cat", {"body": "red", "tail": "blue"}, "left", "in a room", "dog")


class Line(Objective):
    """Fits a line; dies at `stop_at` as a killed process would, loses its numbers at `broken_at`."""

    def __init__(self, stop_at=None, broken_at=None):
        super().__init__()
        self.line, self.stop_at, self.broken_at, self.step = nn.Linear(3, 1), stop_at, broken_at, 0

    def losses(self, batch, generator):
        if batch.latents[0, 0] == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 3, generator=generator)
        error = (self.line(x).float() - x.sum(1, keepdim=True)).square().mean()
        return {"loss": error * float("nan") if batch.latents[0, 0] == self.broken_at else error}


def train(folder, stop_at=None, broken_at=None, budget=BUDGET):
    torch.manual_seed(0)
    objective = Line(stop_at, broken_at)
    pretrain("line", objective, lambda step, _: Batch(latents=torch.full((1, 1), step)), budget, folder, CPU)
    return objective


# The firewall


@pytest.fixture
def objects():
    images, facts = zip(*(render_object(index) for index in range(4)), strict=True)
    return RenderedObjects(np.stack(images), list(facts))


def test_a_batch_has_room_for_pictures_captions_and_what_comes_of_pictures_alone():
    assert {field.name for field in fields(Batch)} == {"images", "captions", "latents", "patches"}
    assert {field.name for field in fields(RenderedObjects)} == {"images", "facts"}
    assert {field.name for field in fields(Facts)} == {"category", "colours", "view", "place", "companion"}


def test_no_stage_is_given_anything_but_pictures_whole_captions_and_our_own_models(
    objects, tmp_path, monkeypatch
):
    seen = {}

    def spy(name, objective, batches, budget, folder, device, watch=None):
        torch.manual_seed(0)
        batch = batches(0, torch.Generator().manual_seed(1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values = objective.losses(batch, torch.Generator().manual_seed(1))
        assert torch.isfinite(values["loss"])
        seen[name] = objective, batch

    for module in (vae, text, vision, diffusion):
        monkeypatch.setattr(module, "pretrain", spy)
    probe = Probe(torch.from_numpy(objects.images), ["cat"] * 4, [""] * 4, [])
    for module in (vision, diffusion):
        monkeypatch.setattr(module, "build_probe", lambda: probe)
    tokenizer = build_tokenizer()
    vae.pretrain_vae(objects, ONE_STEP, tmp_path, CPU)
    text.pretrain_text(objects, tokenizer, ONE_STEP, tmp_path, CPU)
    vision.pretrain_vision(objects, ONE_STEP, tmp_path, CPU)
    teachers = Teachers(build_vae(), build_text_encoder(tokenizer), tokenizer)
    pretrain_diffusion(objects, teachers, ONE_STEP, tmp_path, CPU)

    given = {name: {k for k, v in vars(batch).items() if v is not None} for name, (_, batch) in seen.items()}
    assert given == {
        "vae": {"images"},
        "text": {"images", "captions"},
        "vision": {"images"},
        "diffusion": {"captions", "latents"},
    }
    allowed = {random_caption(f, np.random.default_rng([0, s])) for f in objects.facts for s in (1, 2)}
    for objective, batch in seen.values():
        # Pictures are whole pictures or windows of them.
        if batch.images is not None:
            assert batch.images.dtype == torch.uint8 and batch.images.shape[-1] == 3
        # Captions are the ids of words, of a sentence about the whole picture.
        if batch.captions is not None:
            assert batch.captions.shape == (2, 77) and batch.captions.dtype == torch.int64
            said = tokenizer.batch_decode(batch.captions, skip_special_tokens=True)
            said = [words.rstrip("!").strip() for words in said]
            openings = ("a ", "an image of a ", "")
            assert all(words == "" or words.startswith(openings) for words in said) and allowed
        # Nothing else hides in the objective: modules, numbers and the noise schedule.
        for name, value in vars(objective).items():
            plain = name.startswith("_") or name == "training"
            assert plain or isinstance(value, int | float | DDIMScheduler), name
        assert {type(part).__module__.partition(".")[0] for part in objective.modules()} <= {
            "torch",
            "diffusers",
            "transformers",
            "sd4match_lib",
        }
        for _, buffer in objective.named_buffers():
            assert buffer.numel() <= 1000  # the noise schedule, positions of tokens


def test_captions_say_what_the_whole_picture_shows_and_never_where_in_it():
    drawn = [random_caption(FACTS, np.random.default_rng(i)) for i in range(600)]
    assert 0.05 < drawn.count("") / 600 < 0.16
    # The paper's text prompt is in distribution: more than one caption in five.
    assert drawn.count(plain_caption("cat")) / 600 > 0.2
    words = {word for caption in drawn for word in caption.split()}
    assert words == set(
        [
            "a",
            "an",
            "photo",
            "picture",
            "image",
            "of",
            "cat",
            "red",
            "with",
            "blue",
            "tail",
            "seen",
            "from",
            "the",
            "left",
            "in",
            "room",
            "beside",
            "dog",
        ]
    )
    assert (
        full_caption(FACTS) == "a photo of a red cat with blue tail seen from the left in a room beside a dog"
    )
    views = [view_words(angle * np.pi / 4) for angle in (0, 1, 2, 4, 6)]
    assert views == ["front", "front left", "left", "back", "right"]


# The loop


def test_an_interrupted_pretraining_ends_with_the_same_weights_as_an_undisturbed_one(tmp_path):
    straight = train(tmp_path / "a")
    # However short a stage is, its log tells how it ended.
    assert list(csv.DictReader((tmp_path / "a/line.csv").open()))[-1]["step"] == "6"
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", stop_at=4)
    resumed = train(tmp_path / "b")
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)
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
        train(tmp_path, budget=Budget(None, None, 4, 0.05))
    with pytest.raises(UserError, match="--steps or --minutes"):
        train(tmp_path, budget=Budget(0, None, 4, 0.05))
    with pytest.raises(UserError, match="--steps or --minutes"):
        run("vae", out=tmp_path)
    assert not (tmp_path / "renders").exists()


def test_a_later_stage_says_which_one_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr("sd4match_lib.miniature.pretraining.run.render_objects", lambda folder, count: None)
    with pytest.raises(UserError, match="pretrain vae"):
        run("diffusion", out=tmp_path, steps=1)
    with pytest.raises(UserError, match="no pretraining stage 'unet'"):
        run("unet", out=tmp_path, steps=1)


def test_the_watch_sees_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path):
    class Growing(Objective):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(1, 1, bias=False)
            nn.init.zeros_(self.one.weight)

        def losses(self, batch, generator):
            return {"loss": -self.one.weight.sum()}

    objective, seen = Growing(), []

    def watch():
        seen.append(float(objective.one.weight.detach()))
        return {"weight": seen[-1]}

    budget = Budget(steps=5, minutes=None, batch=1, learning_rate=0.1, warmup=1, watch_every_s=0.0)
    pretrain("one", objective, lambda *_: Batch(), budget, tmp_path, CPU, watch=watch)
    rows = list(csv.DictReader((tmp_path / "one_probe.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 5]
    # The watch sees the averages as the model computes with them, in bfloat16; the end result is exact.
    assert seen == sorted(seen) and seen[-1] == pytest.approx(float(objective.one.weight.detach()), rel=4e-3)
    assert load_file(tmp_path / "one.safetensors")["0.weight"].item() > seen[-1]


def test_small_steps_are_not_lost_to_bfloat16(tmp_path):
    class Still(Objective):
        def __init__(self):
            super().__init__()
            self.one = nn.Parameter(torch.ones(1))

        def losses(self, batch, generator):
            return {"loss": -self.one.float().sum()}

    objective = Still()
    budget = Budget(steps=100, minutes=None, batch=1, learning_rate=1e-3, warmup=1, average=0.5)
    pretrain("still", objective, lambda *_: Batch(), budget, tmp_path, CPU)
    # One step of 0.001 is less than half of what bfloat16 tells apart from 1.
    assert float(objective.one.detach()) > 1.05


def test_the_learning_rate_warms_up_stays_and_falls_at_the_end():
    budget = Budget(steps=100, minutes=None, batch=1, learning_rate=1.0, warmup=10)
    rates = [budget.learning_rate_at(step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and set(rates[9:80]) == {1.0}
    assert rates[90] == pytest.approx(0.525) and rates[100] == pytest.approx(0.05)


# The parts


def test_min_snr_weights_of_v_are_the_papers_of_the_clean_latent():
    snr = torch.tensor([0.01, 1.0, 5.0, 99.0])
    weight = min_snr_weight(snr / (1 + snr))
    # v's error is (SNR + 1) times the clean latent's, whose weight is min(SNR, 5).
    assert weight.tolist() == pytest.approx([0.01 / 1.01, 0.5, 5 / 6, 0.05], rel=1e-3)


def test_the_teachers_targets_use_every_prototype_equally_often():
    scores = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    share = balanced(scores, rounds=50)
    assert torch.allclose(share.sum(dim=1), torch.ones(64))
    assert torch.allclose(share.sum(dim=0), torch.full((8,), 8.0), atol=0.1)
    # One that all scores favour is not taken by all.
    assert balanced(scores + torch.eye(8)[0], rounds=50).sum(dim=0)[0] == pytest.approx(8.0, abs=0.1)


def test_crops_are_windows_of_the_picture_in_other_colours():
    pictures = torch.zeros(16, 3, 128, 128)
    pictures[:, :, :, 64:] = 0.5
    windows, _ = crops(pictures, 56, (0.5, 1.0), torch.Generator().manual_seed(0))
    assert windows.shape == (16, 3, 56, 56) and windows.abs().max() <= 1
    # The edge stays upright, wherever it falls and however bright its sides are.
    assert windows.std(dim=2).max() < 1e-3 and windows.std(dim=3).max() > 0.05
    again, _ = crops(pictures, 56, (0.5, 1.0), torch.Generator().manual_seed(0))
    assert torch.equal(windows, again)


def test_a_place_is_found_in_the_other_crop_of_its_picture():
    # Pictures whose channels are no colours but x and y, so that a window shows where each of its pixels lay.
    axis = (2 * torch.arange(128) + 1) / 128 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pictures = torch.stack([x, y, torch.zeros_like(x)]).expand(16, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    (_, ours), (_, theirs) = (crops(pictures, 112, (0.5, 1.0), generator) for _ in range(2))
    assert (ours[:, 0, 0] < 0).any() and (ours[:, 0, 0] > 0).any()  # one in two is mirrored
    there = same_places(ours, theirs, 8)
    ours_seen, theirs_seen = (
        grid_sample(pictures, affine_grid(theta, [16, 3, 112, 112], align_corners=False), align_corners=False)
        for theta in (ours, theirs)
    )
    centres = avg_pool2d(ours_seen, 14)  # what a patch shows on average is what its centre shows
    found = grid_sample(theirs_seen, there, align_corners=False)
    inside = (there.abs() < 0.95).all(dim=-1)
    assert 0.2 < inside.float().mean() < 1
    assert torch.allclose(centres.movedim(1, -1)[inside], found.movedim(1, -1)[inside], atol=0.01)
    assert torch.allclose(same_places(ours, ours, 8)[0, 0, 0], torch.tensor([-7 / 8, -7 / 8]))


def test_the_teacher_follows_the_students_average(objects, tmp_path, monkeypatch):
    torch.manual_seed(0)
    objective = vision.DistillationObjective()
    first = [p.clone() for p in objective.teacher.parameters()]
    images = torch.from_numpy(objects.images)
    budget = Budget(steps=2, minutes=None, batch=4, learning_rate=1e-2, warmup=1, average=0.5)
    loop.pretrain("vision", objective, lambda *_: Batch(images=images), budget, tmp_path, CPU)
    pairs = list(zip(objective.teacher.parameters(), objective.student.parameters(), first, strict=True))
    assert all(torch.allclose(t.float(), s, rtol=1e-2, atol=1e-3) for t, s, _ in pairs)
    assert any(not torch.equal(t.float(), old) for t, _, old in pairs)


def test_pretraining_pictures_are_the_same_every_time_and_stretched_to_the_input():
    image, facts = render_object(3)
    again, same = render_object(3)
    assert np.array_equal(image, again) and facts == same and image.shape == (128, 128, 3)
    assert facts.category in known_words() and facts.colours


def test_every_known_word_is_one_token_and_others_fall_into_pieces():
    tokenizer, known = build_tokenizer(), known_words()
    words = [*known, *CATEGORIES]
    assert {
        word: len(ids) for word, ids in zip(words, tokenizer(words).input_ids, strict=True)
    } == dict.fromkeys(words, 3)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("zebra")["input_ids"])
    assert len(pieces) > 3 and "".join(pieces[1:-1]).replace("</w>", "") == "zebra"
    padded = tokenizer("a photo of a cat", padding="max_length", max_length=77).input_ids
    assert len(padded) == 77 and padded[-1] == 0 and tokenizer.unk_token_id not in padded[1:6]
    for seed in range(40):
        words = random_caption(FACTS, np.random.default_rng(seed)).split()
        assert set(words) <= set(known)


def test_the_networks_are_sd2s_kind_with_small_cells():
    unet = build_unet()
    outputs = []
    unet.up_blocks[1].register_forward_hook(lambda _m, _i, output: outputs.append(output))
    with torch.no_grad():
        unet(torch.zeros(1, 4, 32, 32), 261, torch.zeros(1, 77, TEXT_WIDTH))
    assert outputs[0].shape[2:] == (32, 32)  # cells of 4 px in a picture of 128
    assert sum(p.numel() for p in unet.parameters()) * 2 < 16e6  # bytes in float16
    assert unet.config.use_linear_projection and unet.config.cross_attention_dim == TEXT_WIDTH
    scheduler = build_scheduler()
    assert scheduler.config.prediction_type == "v_prediction" and scheduler.betas[0] == pytest.approx(0.00085)
    text_model = build_text_encoder(build_tokenizer())
    ids = torch.tensor([build_tokenizer()("a cat", padding="max_length", max_length=77).input_ids])
    assert text_model(ids).last_hidden_state.shape == (1, 77, TEXT_WIDTH)


def test_the_probe_scores_a_planted_answer_in_the_original_frame():
    features = torch.zeros(2, 32 * 32, 32, 32)
    features[:] = torch.eye(32 * 32).reshape(32 * 32, 32, 32)
    points = torch.tensor([[10.0, 20.0], [25.0, 14.0]]) / 31
    # A target of 160 x 107 pixels whose box is 100 pixels long.
    scale = torch.tensor([159.0, 106.0]) / 100
    images = torch.zeros(2, 128, 128, 3, dtype=torch.uint8)
    probe = Probe(images, ["cat"] * 2, [""] * 2, [ProbePair(0, 1, points, points, scale)])
    assert probe.pck(features) == 1.0
    # Two cells across are 10.3 pixels, more than a tenth of the box; two cells down are 6.8.
    across, down = (torch.stack([features[0], features[1].roll(2, dims=d)]) for d in (2, 1))
    assert probe.pck(across) == 0.0 and probe.pck(down) == 1.0
