import numpy as np
import pandas as pd
import pytest
import torch

from sd4match_lib.analysis.naming import PictureNamer, naming_table
from sd4match_lib.analysis.prompts import (
    anatomy,
    compare_prompts,
    context_similarity,
    load_text_encoder,
    nearest_words,
    pair_batch,
    patch_saliency,
    untrained_prompt,
)
from sd4match_lib.analysis.reliance import OTHER_NOISE, distances_to_empty
from sd4match_lib.analysis.saliency import Saliency, object_lead, relative_saliency
from sd4match_lib.backbones.vision import VisionTokens, seen_box
from sd4match_lib.config.profile import load_profile, resize_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.prompts.base import PromptBatch
from sd4match_lib.prompts.cpm import ConditionalPrompt
from sd4match_lib.prompts.per_class import ClassPrompt
from sd4match_lib.report.prompt_figures import plot_saliency
from sd4match_lib.report.training import plot_training, training_headline
from sd4match_lib.reproduce.prepare import prepare_data


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder(load_profile("mini"))


def test_rows_that_are_words_are_told_as_these_words(encoder):
    rows = encoder.embed_prompt(["a photo of a horse"])[0, 1:6]
    found = nearest_words(rows, encoder)
    assert found["word"].tolist() == ["a", "photo", "of", "a", "horse"] and found["row"].tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert (found["cosine"] > 0.999).all()


def test_equal_prompts_are_alike_and_the_table_is_symmetric(encoder):
    prompt = ClassPrompt(encoder.width, ["cat", "dog", "car"], length=5)
    prompt.initialise(encoder, 0)
    prompt.theta.data[1] = prompt.theta.data[0]
    table = context_similarity(prompt, encoder)
    assert table.loc["cat", "dog"] == pytest.approx(1, abs=1e-4) and table.loc["cat", "car"] < 0.9
    np.testing.assert_allclose(table, table.T, atol=1e-5)


def test_the_anatomy_of_a_prompt_counts_what_is_learned_and_calls_it_once(encoder):
    prompt = ClassPrompt(encoder.width, ["cat", "dog"], length=5)
    told = anatomy(prompt, PromptBatch(("a",), ("dog",)), encoder)
    assert [row["shape"] for row in told] == [
        f"2 x 5 x {encoder.width}",
        "",
        f"1 x 5 x {encoder.width}",
        f"1 x {encoder.length} x {encoder.width}",
    ]
    total = f"{2 * 5 * encoder.width:,}"
    assert [row["numbers"] for row in told] == [total, total, "", ""]
    assert "ClassPrompt" in told[1]["what"]


def test_saliency_is_where_the_module_listens():
    prompt = ConditionalPrompt(8, 4, 9, length_global=2, length_condition=3, mix_patches=False)
    prompt.omega_alpha.data.fill_(1.0)
    prompt.g_d.weight.data[:, 4:] = 0.0  # deaf to the target
    patches = torch.zeros(1, 9, 4)
    patches[0, 4] = 5 * prompt.g_d.weight.data[0, :4]  # one patch wins wherever the first channel grows
    tokens = VisionTokens(patches, torch.zeros(1, 4))
    src, trg = patch_saliency(prompt, PromptBatch(("a",), ("cat",), ("b",), tokens, tokens))
    assert float(trg.abs().max()) == 0 and float(src.sum()) == pytest.approx(1)
    assert float(src[0, 4]) > 0


def test_looking_at_prompts_loads_the_text_model_alone(monkeypatch):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    for kind in (AutoencoderKL, UNet2DConditionModel):
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, **__: pytest.fail("more than the text model"))
    assert load_text_encoder(load_profile("mini")).encode_prompt(["a cat"]).shape[1] == 77


def test_the_start_is_what_training_starts_from_and_batches_carry_both_pictures():
    profile = load_profile("smoke")
    prepare_data(profile)
    start = untrained_prompt(profile, "cpm", seed=3)
    again = untrained_prompt(profile, "cpm", seed=3)
    assert start.identity() == again.identity() != untrained_prompt(profile, "cpm", seed=4).identity()
    pairs = open_dataset(profile.dataset("spair"), "val")[:2]
    batch = pair_batch(profile, pairs)
    assert batch.trg_image_ids == tuple(pair.trg.image_id for pair in pairs)
    src, trg = patch_saliency(start, batch)
    figure = plot_saliency(pairs, {"one": (src, trg)}, profile.vision, title="t")
    drawn = [ax for ax in figure.axes if len(ax.images) == 2]
    for ax, record in zip(drawn, [side for pair in pairs for side in (pair.src, pair.trg)], strict=True):
        left, right, top, bottom = seen_box(record.read(), profile.vision)
        assert ax.images[1].get_extent() == pytest.approx([left, right, bottom, top])
    assert [ax.get_title(loc="center") for ax in drawn] == [
        f"{pair.category}, {side}" for pair in pairs for side in "AB"
    ]
    torch.testing.assert_close(src.sum(1) + trg.sum(1), torch.ones(2))


def test_a_place_that_is_loud_in_every_picture_is_taken_out(monkeypatch):
    loud = torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    monkeypatch.setattr("sd4match_lib.analysis.saliency.pair_batch", lambda *_: None)
    monkeypatch.setattr("sd4match_lib.analysis.saliency.patch_saliency", lambda *_: (loud, loud))
    found = relative_saliency(None, None, [])
    assert found.by_place == pytest.approx(1) and (found.src == 1).all()
    heard = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    monkeypatch.setattr("sd4match_lib.analysis.saliency.patch_saliency", lambda *_: (heard, heard))
    found = relative_saliency(None, None, [])
    assert found.by_place == pytest.approx(0) and found.trg.tolist() == [[0.5, 1.5], [1.5, 0.5]]


def test_the_lead_of_the_object_is_the_mean_on_it_less_the_mean_beside_it():
    profile = load_profile("smoke")
    prepare_data(profile)
    pairs = open_dataset(profile.dataset("spair"), "val")[:2]
    even = torch.ones(2, 64)
    rows = object_lead(pairs, Saliency(even, even, 0.0), profile.vision)
    assert rows["pair_id"].tolist() == [pair.pair_id for pair in pairs]
    assert rows["value"].tolist() == [0, 0]
    sides = []
    for records in ([pair.src for pair in pairs], [pair.trg for pair in pairs]):
        shares = []
        for record in records:
            left, right, top, bottom = seen_box(record.read(), profile.vision)
            # The middle pixel of each patch decides nearly always what most of its pixels are.
            xs, ys = (
                ((start + 0.5) + (np.arange(8) + 0.5) * (end - start) / 8).astype(int)
                for start, end in ((left, right), (top, bottom))
            )
            shares.append(record.read_mask()[np.ix_(ys, xs)].ravel())
        sides.append(torch.from_numpy(np.array(shares, np.float32)))
    rows = object_lead(pairs, Saliency(*sides, 0.0), profile.vision)
    assert (rows["value"] > 0.7).all()


def test_pictures_are_named_after_what_they_are_most_like():
    profile = load_profile("smoke")
    prepare_data(profile)
    namer = PictureNamer(profile)
    seen = {}
    for record in open_dataset(profile.dataset("spair"), "train").images().values():
        seen.setdefault(record.category, []).append(record.read())
    assert set(namer.categories) == set(seen)
    table = naming_table(namer, {"its own": {name: [each[0]] for name, each in seen.items()}})
    right, guess = table["share"]
    assert guess == 1 / len(seen) and right > 2 * guess
    assert table["named right"][0] == round(right * len(seen))


def test_prompts_are_called_once_and_compared_with_the_first():
    profile = load_profile("smoke")
    prepare_data(profile)
    pair = open_dataset(profile.dataset("spair"), "val")[0]
    rows = compare_prompts(profile, {name: name for name in ("empty", "text")}, pair)
    assert [row["like the first"] == "1.00" for row in rows] == [True, False]
    assert {row["what the UNet reads"].split(" x ")[1] for row in rows} == {"77"}


def test_the_picture_of_a_training_has_a_line_for_each_in_both_panels():
    log = pd.DataFrame({"step": [10, 20], "loss": [5.0, 4.0], "pck": [np.nan, 0.25]})
    left, right = plot_training({"one": log, "two": log}, title="t").axes
    assert len(left.lines) == len(right.lines) == 2
    assert right.lines[0].get_xydata().tolist() == [[20, 0.25]]


def test_a_training_is_drawn_from_what_it_began_with_and_beside_the_text():
    log = pd.DataFrame({"step": [10, 20], "loss": [5.0, 4.0], "pck": [np.nan, 0.25]})
    figure = plot_training({"one": log}, title="t", starts={"one": 0.2}, text=0.3)
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    assert lines["one"].get_xydata().tolist() == [[0, 0.2], [20, 0.25]]
    assert list(lines["one, untrained"].get_ydata()) == [0.2, 0.2]
    assert list(lines["text prompt"].get_ydata()) == [0.3, 0.3]
    other = plot_training({"two": log.assign(loss=[3.0, 2.0], pck=[0.1, 0.5])}, title="t")
    assert [ax.get_ylim() for ax in figure.axes] == [ax.get_ylim() for ax in other.axes]
    assert training_headline({"one": log}, {"one": 0.2}).endswith("in points against the start: one +5.0")


def test_a_resized_profile_keeps_its_kernel_relative_to_the_picture():
    profile = load_profile("mini")
    half = resize_profile(profile, 0.5)
    assert half.model.image_hw == (64, 64) and half.evaluation.sigma == profile.evaluation.sigma / 2
    assert half.hash != profile.hash
    with pytest.raises(Exception, match="58 x 58 pixels: both sides must be multiples of 8"):
        resize_profile(profile, 0.45)


def test_the_distance_to_the_empty_prompt_is_none_for_itself_and_no_noise_moves_the_context():
    profile = load_profile("smoke")
    prepare_data(profile)
    pairs = open_dataset(profile.dataset("spair"), "val")[:2]
    found = distances_to_empty(profile, {"empty": "empty", "text": "text"}, pairs)
    assert list(found) == ["empty", "text", OTHER_NOISE]
    own, text, other = found.values()
    measured = ["context", "features"]
    assert (own[measured] == 0).all(axis=None) and (text[measured] > 0).all(axis=None)
    assert (other["context"] == 0).all() and (other["features"] > 0).all()
    alone = distances_to_empty(profile, {"text": "text"}, pairs[1:])["text"]
    pd.testing.assert_frame_equal(alone, text[1:].reset_index(drop=True), rtol=1e-2)
