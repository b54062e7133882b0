"""Correlation maps and painted pictures: what they compute with tiny models, and how they are drawn."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from test_evaluate import PairPrompt, models, profile, run
from transformers import CLIPTextModel, CLIPTokenizer

from sd4match_lib import Matcher
from sd4match_lib.analysis.generate import paint
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.errors import UserError
from sd4match_lib.geometry import map_extent
from sd4match_lib.matcher.picture import open_picture
from sd4match_lib.matcher.result import Match
from sd4match_lib.report.html import html_page
from sd4match_lib.report.maps import (
    choose_pairs,
    peaks_headline,
    plot_correlation_maps,
    plot_match_grid,
    telling_pairs,
)

__all__ = ["models", "profile"]


@pytest.fixture
def pairs(profile):
    return open_dataset(profile.datasets["own"], "test")


def test_the_peak_of_the_map_is_where_the_nearest_neighbour_matches(profile, pairs):
    pair = pairs[4]
    prompts = {"text": "text", "toy": PairPrompt()}
    maps = {}
    for name, prompt in prompts.items():
        matcher = Matcher.from_profile(profile, prompt=prompt, device="cpu")
        maps[name] = matcher.match(pair.src, pair.trg, pair.src_px, maps=True).maps
    assert list(maps) == ["text", "toy"] and maps["text"].shape == (len(pair.src_px), 16, 16)
    assert np.abs(maps["toy"]).max() <= 1 + 1e-6 and (maps["toy"] != maps["text"]).any()
    for name, prompt in prompts.items():
        rows = run(profile, matcher="nn", prompt=prompt).keypoints
        own = rows[rows["pair_id"] == pair.pair_id].set_index("keypoint").loc[list(pair.keypoint_ids)]
        for found, x_px in zip(maps[name], own["pred_x_px"], strict=True):
            column = np.unravel_index(found.argmax(), found.shape)[1]
            # 16 cells over 64 pixels with aligned corners, in a picture that is 70 pixels wide.
            assert column * 63 / 15 * 70 / 64 == pytest.approx(x_px, abs=1e-3)


def test_a_map_is_drawn_over_its_target_with_peak_and_truth(pairs):
    pair = pairs[2]
    found = np.zeros((1, 3, 5), np.float32)
    found[0, 2, 4] = 1
    extent = map_extent(hw_px=pair.trg.hw_px, hw_in=(64, 64), hw_ft=(3, 5))
    src, trg, nothing = open_picture(pair.src), open_picture(pair.trg), np.zeros(1, np.float32)

    def matched(maps):
        query = np.array([[5, 6]], np.float32)
        return Match(src, trg, query, query, nothing, nothing, maps=maps, maps_extent_px=extent)

    both = {"a": matched(found), "b": matched(0.5 * found)}
    figure = plot_correlation_maps(both, [[7, 8]])
    source, first, _, *_ = figure.axes
    assert source.lines[0].get_xydata().tolist() == [[5, 6]]
    height, width = pair.trg.hw_px
    truth, best = (line.get_xydata()[0].tolist() for line in first.lines)
    # The last cell lies on the last pixel of the network's input, 63 of 64, wherever that is in the picture.
    assert truth == [7, 8] and best == pytest.approx([63 / 64 * width, 63 / 64 * height])
    near = (best[0] - 1.0, best[1])
    assert peaks_headline(both, [near], (2, 1)) == "Peaks in the ellipse, of 1: a 1, b 1"
    assert peaks_headline(both, [near], (0.5, 9)).endswith("a 0, b 0")
    heat = first.images[1]
    # Common colours for a row, and outer cells centred on the outer pixels.
    assert heat.get_clim() == (0, 1) and figure.axes[2].images[1].get_clim() == (0, 1)
    left, right, bottom, top = heat.get_extent()
    assert (left + (right - left) / 10, right - (right - left) / 10) == pytest.approx((0, 63 / 64 * width))
    assert top + (bottom - top) / 6 == pytest.approx(0)


def test_the_comparison_shows_gains_and_losses_in_turn(profile, pairs):
    base = run(profile, matcher="nn").keypoints
    worse, better = base.assign(distance_in=99.0), base.assign(distance_in=99.0)
    names = base["pair_id"].unique()
    worse.loc[worse["pair_id"] == names[3], "distance_in"] = 0.0
    better.loc[better["pair_id"] == names[7], "distance_in"] = 0.0
    chosen = telling_pairs(pairs, {"first": worse, "between": base, "last": better}, 2)
    gain, loss = (pair.pair_id for pair in chosen)
    by_category = {pair.pair_id: pair.category for pair in pairs}
    assert gain == names[7]
    assert loss == names[3] or by_category[names[3]] == by_category[names[7]]
    figure = plot_match_grid(chosen, {"first": worse, "last": better})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 4 and titles[1].startswith(f"last: {chosen[0].category}, ")
    count = int((base["pair_id"] == gain).sum())
    assert titles[0].endswith(f" 0 of {count}") and titles[1].endswith(f" {count} of {count}")
    asked = int(base["pair_id"].isin([gain, loss]).sum())
    told = " ".join(figure.get_suptitle().split())
    assert told.startswith(f"Points found, of {asked} in") and "first 0 and last " in told
    assert len(telling_pairs(pairs, {"a": worse, "b": better}, 99)) == len(pairs)


def test_the_pair_with_most_points_stands_for_its_category(pairs):
    (chosen,) = choose_pairs(pairs, ["dog", "horse"])
    assert chosen.category == "dog"
    assert len(chosen.src_px) == max(len(pair.src_px) for pair in pairs if pair.category == "dog")
    assert choose_pairs(pairs, ["horse"])[0].category == pairs[0].category


def test_painting_is_the_stock_pipeline_and_a_picture_depends_on_its_seed_alone(profile, pairs):
    pair = pairs[4]
    requests = {"words": ("text", pair), "toy": (PairPrompt(), pair)}
    options = {"steps": 2, "guidance": 2.0, "device": "cpu"}
    painted = paint(profile, requests, seeds=[3, 5], **options)
    folder = profile.model.sources[0]
    parts = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    parts |= {"tokenizer": CLIPTokenizer, "scheduler": DDIMScheduler}
    loaded = {name: kind.from_pretrained(folder, subfolder=name) for name, kind in parts.items()}
    stock = StableDiffusionPipeline(
        **loaded, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        f"a photo of a {pair.category}",
        num_inference_steps=2,
        guidance_scale=2.0,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    found = np.asarray(painted["words"][1], int)
    assert found.shape == (64, 64, 3) and np.abs(found - np.asarray(expected, int)).max() <= 1
    alone = np.asarray(paint(profile, {"toy": requests["toy"]}, seeds=[5], **options)["toy"][0], int)
    assert np.abs(alone - np.asarray(painted["toy"][1], int)).max() <= 1
    assert (np.asarray(painted["toy"][0]) != np.asarray(painted["toy"][1])).any()
    assert (np.asarray(painted["toy"][1]) != np.asarray(painted["words"][1])).any()
    for wrong in ({"seeds": []}, {"seeds": [0], "steps": 0}):
        with pytest.raises(UserError, match="at least 1"):
            paint(profile, requests, **wrong)


def test_the_html_page_needs_nothing_but_itself(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"x" * 100)
    (tmp_path / "figures" / "a.svg").write_bytes(b"<svg/>")
    table = "| a | b |\n| :--- | ---: |\n| *p †* | **1** |\n"
    text = f"# T\n\n## One\n\n![what](figures/a.png)\n\n## Two <b>\n\n{table}"
    page = html_page(text, "T & U", tmp_path)
    assert "data:image/svg+xml;base64,PHN2Zy8+" in page and "a.png" not in page
    assert '<a href="#s1">' in page and '<h2 id="s1">Two &lt;b&gt;</h2>' in page
    assert "<title>T &amp; U</title>" in page and "<em>p †</em>" in page
    assert "http" not in page and "<script" not in page
