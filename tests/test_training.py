import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from sd4match_lib.cli.main import main
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.errors import UserError
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.methods import method_settings
from sd4match_lib.features.stores import LatentStore
from sd4match_lib.prompts.single import SinglePrompt
from sd4match_lib.reproduce.prepare import prepare_data
from sd4match_lib.training.loop import STATE_FILE
from sd4match_lib.training.objective import pair_loss, pair_points
from sd4match_lib.training.order import PairOrder
from sd4match_lib.training.train import train

CPU = torch.device("cpu")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def miniature():
    smoke = load_profile("smoke")
    prepare_data(smoke)
    return smoke


@pytest.fixture(scope="module")
def profile(miniature, tmp_path_factory):
    """MiniPair and trainings as of the smoke profile, on models that are tiny and know nothing."""
    tiny_models = load_profile(tiny.write_profile(tmp_path_factory.mktemp("tiny")))
    return dataclasses.replace(tiny_models, datasets=miniature.datasets, training=miniature.training)


def weights(result):
    return {name: tensor.clone() for name, tensor in result.prompt.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_pair_comes_once_an_epoch_in_an_order_of_its_own():
    order = PairOrder(10, 4, seed=1)
    seen = [place for step in range(5) for place in order.batch(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]
    assert PairOrder(10, 4, seed=1).batch(3) == seen[12:16]
    assert PairOrder(10, 4, seed=2).batch(0) != seen[:4]


def source_of(profile):
    settings = method_settings(profile, "sd", timestep=261, ensemble=1, matcher="nn")
    prompt = SinglePrompt(128, init="empty")
    source = MethodModels(profile, settings, prompt).load(CPU, 0)
    prompt.requires_grad_(True).initialise(source.model.text, 0)
    return prompt, source


def test_the_loss_of_a_batch_is_the_mean_of_its_pairs_whatever_the_split(miniature):
    prompt, source = source_of(miniature)
    pairs = list(open_dataset(miniature.dataset("spair"), "train")[:3])

    def gradient(groups):
        prompt.theta.grad = None
        for group in groups:
            loss = pair_loss(source, group, miniature.training, hw_in=(128, 128), seed="0/1")
            (loss * len(group) / 3).backward()
        return prompt.theta.grad.clone()

    whole, split = gradient([pairs]), gradient([pairs[2:], pairs[:2]])
    torch.testing.assert_close(whole, split, atol=1e-6, rtol=1e-3)
    assert float(whole.abs().sum()) > 0
    frozen = [*source.model.denoiser.parameters(), *source.model.text.model.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)


def test_the_terms_that_the_paper_does_not_have_are_off_and_add_up_when_on(profile):
    _, source = source_of(profile)
    pairs = list(open_dataset(profile.dataset("spair"), "train")[:2])
    back = [
        dataclasses.replace(pair, src=pair.trg, trg=pair.src, src_px=pair.trg_px, trg_px=pair.src_px)
        for pair in pairs
    ]

    def loss(pairs, **terms):
        config = dataclasses.replace(profile.training, **terms)
        return pair_loss(source, pairs, config, hw_in=(128, 128), seed="0/1").item()

    plain = loss(pairs)
    assert plain == loss(pairs, distance_weight=0.0, both_directions=False)
    assert loss(pairs, both_directions=True) == pytest.approx((plain + loss(back)) / 2, rel=1e-4)
    distance = loss(pairs, distance_weight=1.0) - plain
    assert 0 < distance < 1.5
    assert loss(pairs, distance_weight=3.0) == pytest.approx(plain + 3 * distance, rel=1e-4)


def test_mixed_precision_gives_nearly_the_gradient_of_full(miniature):
    prompt, source = source_of(miniature)
    pairs = list(open_dataset(miniature.dataset("spair"), "train")[:3])
    losses, gradients = {}, {}
    for precision in ("model", "bfloat16"):
        config = dataclasses.replace(miniature.training, precision=precision)
        prompt.theta.grad = None
        loss = pair_loss(source, pairs, config, hw_in=(128, 128), seed="0/1")
        loss.backward()
        losses[precision], gradients[precision] = float(loss.detach()), prompt.theta.grad.flatten()
    assert losses["bfloat16"] != losses["model"]
    assert losses["bfloat16"] == pytest.approx(losses["model"], rel=0.02)
    assert gradients["bfloat16"].dtype == torch.float32
    assert float(torch.cosine_similarity(*gradients.values(), dim=0)) > 0.9


def test_points_of_short_pairs_are_padding(profile):
    pairs = sorted(open_dataset(profile.dataset("spair"), "train"), key=lambda p: len(p.src_px))
    few, many = pairs[0], pairs[-1]
    src, trg, valid = pair_points([few, many], hw_in=(128, 128), hw_ft=(32, 32))
    assert valid.sum(1).tolist() == [len(few.src_px), len(many.src_px)] and len(few.src_px) < len(many.src_px)
    for found, points_px, picture in ((src, many.src_px, many.src), (trg, many.trg_px, many.trg)):
        height, width = picture.hw_px
        stretched = np.minimum(points_px * [128 / width, 128 / height], 127)
        np.testing.assert_allclose(found[1], stretched * 31 / 127, atol=1e-4)
    unknown = dataclasses.replace(few, trg_px=np.full_like(few.trg_px, np.nan))
    with pytest.raises(UserError, match="target points that are not known"):
        pair_points([unknown], hw_in=(128, 128), hw_ft=(32, 32))


def test_training_lowers_the_loss_on_what_it_sees(miniature, tmp_path):
    one = dataclasses.replace(miniature.dataset("spair"), max_pairs={"train": 2, "val": 2})
    small = dataclasses.replace(
        miniature,
        datasets={"spair": one},
        training=dataclasses.replace(miniature.training, steps=20, validate_every=20),
    )
    result = train(small, "single", results_dir=tmp_path, options={"space": "hidden", "length": 77})
    losses = result.log["loss"].to_numpy()
    assert losses[-1] < losses[0] - 0.1


def test_a_finished_training_is_found_and_says_where_it_comes_from(profile, tmp_path):
    first = train(profile, "class", results_dir=tmp_path)
    again = train(profile, "class", results_dir=tmp_path)
    assert not first.reused and again.reused and equal(weights(first), weights(again))
    about = again.prompt.about
    assert about["dataset"] == "spair" and about["steps"] == 4 and len(about["model"]) == 64
    assert about["validation PCK@0.10"] == first.log["pck"].max()
    assert sorted(p.name for p in first.folder.iterdir()) == ["log.csv", "prompt.safetensors", "run.json"]
    other = train(profile, "class", results_dir=tmp_path, seed=1)
    assert not other.reused and not equal(weights(first), weights(other))
    cheaper = dataclasses.replace(
        profile, training=dataclasses.replace(profile.training, accumulate=2, checkpoint_activations=True)
    )
    assert train(cheaper, "class", results_dir=tmp_path).reused  # what only costs is not another request


def test_saving_memory_changes_nothing_that_is_learned(profile, tmp_path):
    plain = train(profile, "cpm", results_dir=tmp_path / "a")
    thrifty = dataclasses.replace(
        profile, training=dataclasses.replace(profile.training, accumulate=2, checkpoint_activations=True)
    )
    saved = train(thrifty, "cpm", results_dir=tmp_path / "b")
    np.testing.assert_allclose(plain.log["loss"], saved.log["loss"], rtol=1e-4)


def test_a_step_that_does_not_fit_is_computed_in_more_parts(profile, tmp_path, monkeypatch, caplog):
    plain = train(profile, "single", results_dir=tmp_path / "a")
    most, sizes = 1, []

    def small(source, pairs, config, **settings):
        sizes.append(len(pairs))
        if len(pairs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pair_loss(source, pairs, config, **settings)

    monkeypatch.setattr("sd4match_lib.training.loop.pair_loss", small)
    thrifty = train(profile, "single", results_dir=tmp_path / "b")
    # Tried once; afterwards every step is of parts that fit.
    assert sizes[0] > most and set(sizes[sizes.index(1) :]) == {1} and "does not fit" in caplog.text
    np.testing.assert_allclose(plain.log["loss"], thrifty.log["loss"], rtol=1e-4)
    most = 0
    with pytest.raises(UserError, match=r"not even one pair fits the memory \(CUDA out of memory\)"):
        train(profile, "single", seed=9, results_dir=tmp_path / "b")


def test_no_image_is_read_while_training(profile, tmp_path, monkeypatch):
    train(profile, "cpm", results_dir=tmp_path / "a")
    monkeypatch.setattr("sd4match_lib.data.record.read_image", lambda path: pytest.fail(f"{path} is decoded"))
    train(profile, "cpm", results_dir=tmp_path / "b")


@pytest.mark.parametrize("bad", [3, 4])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(profile, tmp_path, monkeypatch, bad):
    # Losses are looked at before a validation: that of step 3 after step 4, and nothing is kept between.
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        loss = pair_loss(*args, **kwargs)
        return loss * float("nan") if len(calls) == bad else loss

    monkeypatch.setattr("sd4match_lib.training.loop.pair_loss", broken)
    with pytest.raises(UserError, match=rf"not finite at step {bad};.*holds the last good state"):
        train(profile, "single", results_dir=tmp_path)
    (state,) = tmp_path.glob("runs/*/state.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in load_file(state).values())
    monkeypatch.undo()
    assert train(profile, "single", results_dir=tmp_path).record.metrics["steps"] == 4


def test_a_resumed_training_counts_steps_that_overflowed_as_an_undisturbed_one(
    profile, tmp_path, monkeypatch
):
    # The gradient scaler of float16 runs; the features stay in float32, as float16 is no CPU's.
    half = dataclasses.replace(profile, training=dataclasses.replace(profile.training, precision="float16"))
    killed = []

    def overflowing(source, pairs, config, *, hw_in, seed):
        step = int(seed.split("/")[1])
        if killed == [step]:
            raise KeyboardInterrupt
        full = dataclasses.replace(config, precision="model")
        loss = pair_loss(source, pairs, full, hw_in=hw_in, seed=seed)
        # Zero, with a gradient that is not finite.
        return loss + torch.sqrt(0 * loss) if step == 0 else loss

    monkeypatch.setattr("sd4match_lib.training.loop.pair_loss", overflowing)
    straight = train(half, "single", results_dir=tmp_path / "a")
    killed.append(3)  # the last state is that after step 2
    with pytest.raises(KeyboardInterrupt):
        train(half, "single", results_dir=tmp_path / "b")
    killed.clear()
    resumed = train(half, "single", results_dir=tmp_path / "b")
    assert equal(weights(straight), weights(resumed))


def test_a_full_disk_stops_with_the_last_good_state(profile, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if Path(target).name == STATE_FILE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        UserError,
        match=rf"the disk is full: .*{STATE_FILE}.*Training goes on from the last state that was kept",
    ):
        train(profile, "single", results_dir=tmp_path)


def test_options_and_steps_out_of_range_are_said(profile, tmp_path):
    with pytest.raises(UserError, match="steps is 0"):
        train(profile, "single", steps=0, results_dir=tmp_path)
    with pytest.raises(UserError, match="no option 'condition_on'"):
        train(profile, "single", options={"condition_on": "image"}, results_dir=tmp_path)
    with pytest.raises(UserError, match="no dataset 'imagenet'"):
        train(profile, "single", dataset="imagenet", results_dir=tmp_path)


def test_the_command_prints_where_the_prompt_is_and_evaluate_takes_it(tmp_path, capsys):
    tail = ["--profile", "smoke", "--results", str(tmp_path)]
    assert (
        main(["train", "--prompt", "single", "--set", "init=a photo of an object", "--steps", "2", *tail])
        == 0
    )
    shown = capsys.readouterr().out
    path = next(line for line in shown.splitlines() if line.startswith("prompt: ")).removeprefix("prompt: ")
    assert "2 steps" in shown and Path(path).is_file()
    assert main(["evaluate", "--dataset", "spair", "--prompt", path, "--max-pairs", "2", *tail]) == 0
    assert "spair-test-sd-single" in capsys.readouterr().out
    assert main(["train", "--prompt", "single", "--set", "colour", *tail]) == 2
    assert "lacks a '='" in capsys.readouterr().err
    assert main(["convert", path, str(tmp_path / "w.safetensors"), "--word", "<sd4>"]) == 0
    assert list(load_file(tmp_path / "w.safetensors")) == ["<sd4>"]


def test_latents_are_encoded_once_for_all_trainings(profile, tmp_path, monkeypatch):
    train(profile, "single", results_dir=tmp_path / "a")
    monkeypatch.setattr(LatentStore, "_encode", lambda self, record: pytest.fail("encoded again"))
    train(profile, "cpm", results_dir=tmp_path / "b")
