import subprocess
import sys

import layouts
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from sd4match_lib import Matcher, MatchOptions
from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.matcher.result import share_around
from sd4match_lib.matching.correlation import Correlation
from sd4match_lib.matching.windowed import windowed_softargmax
from sd4match_lib.metrics.pck import bootstrap_interval
from sd4match_lib.prompts.base import Prompt, Scope
from sd4match_lib.report.option_study import option_table

POINTS = [(3.0, 4.0), (50.5, 20.0), (59.0, 39.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A profile of tiny models, and pictures of 60 x 40 pixels."""
    root = tmp_path_factory.mktemp("matcher")
    tiny.write_profile(root)
    for seed, name in enumerate(("a", "b", "c")):
        layouts.write_picture(root / f"{name}.png", seed=seed)
    return root


@pytest.fixture(scope="module")
def base(folder):
    return Matcher.from_profile(folder / "tiny.toml", matcher="nn", device="cpu")


def test_importing_the_package_loads_no_torch_until_a_matcher_is_wanted():
    ask = "print('torch' in sys.modules)"
    script = f"import sys, sd4match_lib; {ask}; sd4match_lib.Matcher; {ask}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("extractor", [kind for kind in Extractor if kind is not Extractor.DINO])
def test_a_matcher_finds_exactly_what_the_evaluation_scores(folder, tmp_path, extractor):
    root = layouts.write_pf_willow(tmp_path / "willow", {"car(G)": ["a", "b"]})
    profile = load_profile(folder / "tiny.toml")
    options = {"extractor": extractor, "device": "cpu"}
    options |= {"prompt": "text", "timestep": 120, "ensemble": 2} if extractor.prompted else {}
    asked = {**options, "max_pairs": 1, "results_dir": tmp_path}
    rows = evaluate(profile, dataset="pf_willow", data_root=root, **asked).keypoints
    (pair,) = open_dataset(profile.dataset("pf_willow"), "test", root)[:1]
    found = Matcher.from_profile(profile, **options).match(pair.src, pair.trg, pair.src_px)
    expected = rows.sort_values("keypoint", key=lambda names: names.astype(int))
    assert np.allclose(found.trg_px, expected[["pred_x_px", "pred_y_px"]], atol=1e-3)


def test_another_extractor_shares_pictures_and_takes_the_profiles_values(base, folder):
    dift = base.with_settings(extractor="dift", prompt="text", category="cat")
    assert (dift.settings.method.timestep, dift.settings.method.ensemble) == (261, 2)
    vision = dift.with_settings(extractor="dinov2")
    assert vision.settings.prompt is None and vision.shared is base.shared
    found = vision.match(folder / "a.png", folder / "b.png", POINTS)
    assert np.isfinite(found.trg_px).all()
    with pytest.raises(UserError, match="timestep means nothing to the extractor 'dinov2'"):
        vision.with_settings(timestep=3)
    with pytest.raises(UserError, match="a prompt means nothing to the extractor dinov2"):
        vision.with_settings(prompt="text")
    assert dift.with_settings(extractor="sd").settings.prompt is dift.settings.prompt


def test_a_picture_is_the_same_however_it_comes_in(base, folder):
    image = Image.open(folder / "b.png")
    array = np.asarray(image)
    kinds = [image, array, array / 255, torch.from_numpy(array.copy()).permute(2, 0, 1), folder / "b.png"]
    kinds += [(torch.from_numpy(array.copy()).permute(2, 0, 1) / 255), str(folder / "b.png")]
    answers = [base.match(folder / "a.png", kind, POINTS) for kind in kinds]
    assert len({answer.trg.image_id for answer in answers}) == 1
    for answer in answers:
        assert np.array_equal(answer.trg_px, answers[0].trg_px)


def test_points_come_back_in_the_pixels_of_pictures_of_any_shape(base):
    wide = Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 400, 3), dtype=np.uint8))
    # Centres of cells: a place matched with its own picture must come back to itself.
    cells_px = np.array([[0, 0], [63 / 15 * 4 * 400 / 64, 63 / 15 * 8 * 50 / 64]], dtype=np.float32)
    for options in (MatchOptions(), MatchOptions(denser=3), MatchOptions(dino_weight=0.3)):
        found = base.with_settings(options=options).match(wide, wide, cells_px, maps=True)
        assert np.allclose(found.trg_px, cells_px, atol=1e-3)
        assert found.similarity == pytest.approx([1, 1], abs=1e-4)
        left, right, top, bottom = found.maps_extent_px
        height, width = found.maps.shape[1:]
        row, column = np.unravel_index(found.maps[1].argmax(), (height, width))
        centre = left + (column + 0.5) * (right - left) / width, top + (row + 0.5) * (bottom - top) / height
        assert centre == pytest.approx(found.trg_px[1], abs=1e-2)


def test_a_picture_is_computed_once_for_all_clicks_and_partners(base, folder):
    fresh = Matcher.from_profile(folder / "tiny.toml", ensemble=1, device="cpu")
    models = fresh.shared
    fresh.match(folder / "a.png", folder / "b.png", POINTS)
    assert models.passes == 2
    fresh.match(folder / "a.png", folder / "b.png", POINTS[:1])
    assert models.passes == 2
    fresh.match(folder / "a.png", folder / "c.png", POINTS)
    assert models.passes == 3
    fresh.with_settings(matcher="bilinear").match(folder / "b.png", folder / "a.png", POINTS)
    assert models.passes == 3
    fresh.with_settings(timestep=700).match(folder / "a.png", folder / "b.png", POINTS)
    assert models.passes == 5


class OfPair(Prompt):
    scope = Scope.PAIR

    def tokens(self, batch, encoder):
        return encoder.embed_prompt([f"a photo of {trg[-2:]}" for trg in batch.trg_image_ids])

    def identity(self):
        return {"kind": "of-pair"}


def test_a_prompt_for_pairs_encodes_a_picture_once_and_a_pair_once(folder, tmp_path):
    text = (folder / "tiny.toml").read_text().replace(f"{folder.as_posix()}/cache", str(tmp_path / "cache"))
    (tmp_path / "own.toml").write_text(text)
    matcher = Matcher.from_profile(tmp_path / "own.toml", prompt=OfPair(), ensemble=1, device="cpu")
    one = matcher.match(folder / "a.png", folder / "b.png", POINTS)
    again = matcher.match(folder / "a.png", folder / "b.png", POINTS)
    assert (matcher.shared.encoded, matcher.shared.passes) == (2, 2)
    assert np.array_equal(one.trg_px, again.trg_px)
    matcher.match(folder / "a.png", folder / "c.png", POINTS)
    assert (matcher.shared.encoded, matcher.shared.passes) == (3, 4)


def test_the_category_reaches_the_prompt_of_a_picture_that_is_already_open(base, folder):
    src, trg = base.picture(folder / "a.png"), base.picture(folder / "b.png")
    cat = base.with_settings(prompt="text", category="cat").match(src, trg, POINTS)
    car = base.with_settings(prompt="text", category="car").match(src, trg, POINTS)
    assert (cat.src.category, car.src.category) == ("cat", "car")
    assert not np.allclose(cat.similarity, car.similarity)


def test_confidence_is_the_share_of_the_distribution_around_the_place():
    one_place = torch.nn.functional.one_hot(torch.arange(100)).float().T.view(1, 100, 10, 10)
    all_alike = torch.ones(1, 100, 10, 10)
    at = torch.tensor([[[4.0, 5.0]]])

    def asked(features):
        scores = Correlation(features, features)(at)
        return share_around(at[0], scores[0], 0.04).item()

    assert asked(one_place) > 0.99
    # At a corner, three cells lie within a tenth of the grid: itself and two neighbours.
    at[:] = 0.0
    assert asked(all_alike) == pytest.approx(3 / 100)


def test_mutual_marks_what_is_not_found_back(base, folder):
    options = MatchOptions(mutual=True)
    itself = base.with_settings(options=options).match(folder / "a.png", folder / "a.png", POINTS)
    assert itself.mutual.all() and len(itself.rows(only_mutual=True)) == 3
    every = [(x, y) for x in range(0, 60, 4) for y in range(0, 40, 4)]
    other = base.with_settings(options=options).match(folder / "a.png", folder / "b.png", every)
    assert 0 < other.mutual.sum() < len(every)
    kept = other.rows(only_mutual=True)
    assert [row["point"] - 1 for row in kept] == np.flatnonzero(other.mutual).tolist()
    plain = base.match(folder / "a.png", folder / "b.png", every)
    assert plain.mutual is None and np.array_equal(plain.trg_px, other.trg_px)


def test_flip_keeps_the_twin_that_agrees_with_the_target(base, folder):
    image = Image.open(folder / "a.png")
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    matcher = base.with_settings(options=MatchOptions(flip=True))
    assert matcher.match(image, mirrored, POINTS).flipped
    assert not matcher.match(image, image, POINTS).flipped


def test_a_window_gives_a_far_second_mode_no_weight():
    scores = torch.zeros(1, 9, 9)
    scores[0, 1, 2], scores[0, 7, 7] = 1.0, 0.99
    near = windowed_softargmax(scores, 3, temperature=0.04)[0]
    assert near.tolist() == pytest.approx([2, 1], abs=1e-3)
    everywhere = windowed_softargmax(scores, 17, temperature=0.04)[0]
    assert everywhere[0] > 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(70, 10)], r"points: the point \(70, 10\) lies outside its picture of 60 x 40"),
        ([(np.nan, 1)], "points: a coordinate is not a finite number"),
        ([1, 2], r"points: the points must be \[x, y\] each"),
    ],
)
def test_points_that_cannot_be_meant_are_refused(base, folder, points, message):
    with pytest.raises(UserError, match=message):
        base.match(folder / "a.png", folder / "b.png", points)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("gone.png", "gone.png: there is no such picture"),
        (np.zeros((3, 40, 60)), r"trg: an array must be one picture \(H, W, 3\), not \(3, 40, 60\)"),
        (torch.zeros(2, 3, 40, 60), r"trg: a tensor must be one picture \(3, H, W\)"),
        (np.full((4, 4, 3), 255.0), "run from 255 to 255; give 0 to 255 in uint8 or 0 to 1 in floats"),
        (np.full((4, 4, 3), np.nan), "run from nan to nan"),
    ],
)
def test_what_is_no_picture_is_told(base, folder, picture, message):
    with pytest.raises(UserError, match=message):
        base.match(folder / "a.png", picture, POINTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 4}, "odd"), ({"dino_weight": 1.0}, "dino_weight is 1.0"), ({"denser": 0}, "denser is 0")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MatchOptions(**options)


def test_no_points_are_no_matches(base, folder):
    assert base.match(folder / "a.png", folder / "b.png", []).rows() == []


def test_the_table_of_options_begins_with_what_the_evaluation_says(folder):
    root = layouts.write_pf_willow(folder / "options", {"car(G)": ["a", "b"]})
    profile = load_profile(folder / "tiny.toml")
    matcher = Matcher.from_profile(profile, device="cpu")
    pairs = list(open_dataset(profile.dataset("pf_willow"), "test", root))
    table = option_table(matcher, pairs, 0.5).set_index("option")
    result = evaluate(profile, dataset="pf_willow", data_root=root, prompt="empty", device="cpu")
    assert table["PCK@0.50"].iloc[0].value == pytest.approx(bootstrap_interval(result.keypoints, 0.5).value)
    assert (
        table["points kept"].drop("mutual only").eq(1).all() and 0 < table["points kept"]["mutual only"] < 1
    )
    without = table.index[table["gain"].isna()]
    assert list(without) == ["none (the paper)", "mutual only"]
