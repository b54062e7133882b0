import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from PIL import Image

from sd4match_lib.backbones.stable_diffusion import StableDiffusion
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.config.names import Extractor
from sd4match_lib.config.profile import load_profile
from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation import pairs as pair_matching
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.build import MethodModels
from sd4match_lib.features.methods import method_settings
from sd4match_lib.metrics.ceiling import grid_ceiling
from sd4match_lib.metrics.kap import kap
from sd4match_lib.metrics.keypoints import KEYPOINT_COLUMNS
from sd4match_lib.metrics.pck import pck
from sd4match_lib.prompts.base import Prompt, Scope
from sd4match_lib.prompts.captioner import ImplicitCaptioner
from sd4match_lib.prompts.text import StringPrompt
from sd4match_lib.report.summary import summarise_evaluation
from sd4match_lib.report.tables import format_percent

IMAGES = 5


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.write_diffusion(folder / "sd")
    tiny.write_dinov2(folder / "dinov2")
    tiny.write_dino(folder / "dino")
    return folder


def write_smooth_picture(path, hw, seed):
    """Soft blobs of colour: neighbouring places look alike, distant ones do not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blobs = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(blobs).resize(hw[::-1], Image.Resampling.BICUBIC).save(path)


def write_pairs(folder, *, truth=True):
    """Ten pairs among five pictures, with 1 to 4 points each; the first two pair a picture with itself."""
    rng = np.random.default_rng(3)
    for index in range(IMAGES):
        write_smooth_picture(folder / f"{index}.png", hw=(48 + 8 * index, 70), seed=index)
    chosen = [(0, 0), (3, 3), (0, 1), (1, 2), (2, 0), (3, 4), (4, 3), (1, 0), (2, 1), (0, 2)]
    entries = []
    for number, (src, trg) in enumerate(chosen):
        points = rng.uniform(2, 45, (1 + number % 4, 2)).round(1)
        found = points if src == trg else rng.uniform(2, 45, points.shape).round(1)
        entry = {"src": f"{src}.png", "trg": f"{trg}.png", "category": "cat" if src < 3 else "dog"}
        entry["src_points"] = points.tolist()
        entries.append({**entry, "trg_points": found.tolist()} if truth else entry)
    path = folder / "pairs.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def profile(models, tmp_path):
    mini = load_profile("mini")
    model = dataclasses.replace(mini.model, sources=(str(models / "sd"),), image_hw=(64, 64), dtype="float32")
    vision = dataclasses.replace(
        mini.vision, sources=(str(models / "dinov2"),), resize=64, crop=56, dense_hw=(112, 112)
    )
    dino = dataclasses.replace(vision, sources=(str(models / "dino"),), crop=64, dense_hw=(64, 64))
    sd_dino = dataclasses.replace(mini.baselines.sd_dino, model=model, pca_dim=4, grid_hw=(16, 16))
    baselines = dataclasses.replace(mini.baselines, sd_dino=sd_dino, dino=dino)
    own = DatasetConfig(kind="own", root=str(write_pairs(tmp_path / "data")))
    return dataclasses.replace(
        mini,
        name="tiny",
        model=model,
        vision=vision,
        features=dataclasses.replace(mini.features, ensemble=2),
        baselines=baselines,
        datasets={"own": own},
        results_dir=str(tmp_path / "results"),
        cache_dir=str(tmp_path / "cache"),
        captioner=str(tmp_path / "captioner.safetensors"),
    )


def run(profile, **request):
    return evaluate(profile, dataset="own", **{"device": "cpu", **request})


def assert_same_rows(first, second):
    # Predictions may differ by the rounding of sums that depends on the batch; everything else is equal.
    pd.testing.assert_frame_equal(first, second, atol=1e-3, rtol=0)


def test_features_are_computed_once_per_image_and_member(profile):
    result = run(profile, ensemble=3)
    assert list(result.keypoints.columns) == list(KEYPOINT_COLUMNS)
    assert result.keypoints["pair_id"].nunique() == 10
    assert result.record.metrics["unet_passes"] == IMAGES * 3
    assert result.record.metrics["pairs"] == 10 and result.record.metrics["keypoints"] == len(
        result.keypoints
    )
    assert result.record.status == "complete" and result.record.config["prompt"]["kind"] == "text"


@pytest.mark.parametrize("matcher", ["nn", "kernel_softargmax"])
def test_a_picture_matches_itself(profile, matcher):
    rows = run(profile, matcher=matcher, ensemble=1).keypoints
    same = rows[rows["src_image"] == rows["trg_image"]]
    cell = 64 / 16
    # Random features are noisy but a place is still most like itself; the soft matcher spreads a little.
    assert len(same) == 3
    assert (same["distance_in"] < (cell if matcher == "nn" else 3 * cell)).all()


def test_the_prediction_is_what_the_matcher_says_in_the_original_frame(profile):
    """The whole way by hand for one pair: picture, latents, features, match, and back to its pixels."""
    from sd4match_lib.data.datasets import open_dataset
    from sd4match_lib.geometry import from_grid, stretch_points, to_grid, unstretch_points
    from sd4match_lib.images import stretch_image, to_tensor
    from sd4match_lib.matching.points import match_points

    pair = open_dataset(profile.datasets["own"], "test")[4]
    model = StableDiffusion.from_folder(profile.model.sources[0], layers=("up_blocks.1",))
    maps = []
    for record in (pair.src, pair.trg):
        pixels = to_tensor(stretch_image(record.read(), (64, 64)))[None]
        context = model.text.encode_prompt([f"a photo of a {record.category}"])
        with torch.no_grad():
            latents = model.encode(pixels)
            maps.append(
                model.features(latents, [record.image_id], context, ["up_blocks.1"], timestep=50, ensemble=2)[
                    0
                ]
            )
    src_in = stretch_points(pair.src_px, hw_px=pair.src.hw_px, hw_in=(64, 64))
    src_ft = torch.from_numpy(to_grid(src_in, hw_in=(64, 64), hw_ft=(16, 16)))[None]
    sigma = profile.evaluation.sigma
    trg_in = from_grid(match_points(maps[0], maps[1], src_ft, sigma=sigma)[0], hw_in=(64, 64), hw_ft=(16, 16))
    expected = unstretch_points(trg_in, hw_px=pair.trg.hw_px, hw_in=(64, 64)).numpy()

    rows = run(profile).keypoints
    found = rows[rows["pair_id"] == pair.pair_id].set_index("keypoint").loc[list(pair.keypoint_ids)]
    np.testing.assert_allclose(found[["pred_x_px", "pred_y_px"]].to_numpy(), expected, atol=1e-3)


def test_rows_do_not_depend_on_batch_size_memory_or_parts(profile, tmp_path, monkeypatch):
    rows = run(profile, batch_size=4).keypoints
    assert_same_rows(run(profile, batch_size=1, results_dir=tmp_path / "alone").keypoints, rows)
    monkeypatch.setattr(pair_matching, "PART_PAIRS", 3)
    monkeypatch.setattr(pair_matching, "FEATURE_BYTES", 20_000)
    small = run(profile, batch_size=3, results_dir=tmp_path / "small")
    assert_same_rows(small.keypoints, rows)
    assert small.record.metrics["unet_passes"] == IMAGES * 2


def test_rows_do_not_depend_on_the_order_or_number_of_pairs(profile, tmp_path):
    rows = run(profile).keypoints
    path = Path(profile.datasets["own"].root)
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries[::-1]))
    columns = ["src_x_px", "src_y_px", "trg_x_px", "pred_x_px", "pred_y_px", "distance_in"]
    turned = run(profile, batch_size=3).keypoints
    first, second = (table.sort_values(columns[:3])[columns].to_numpy() for table in (rows, turned))
    np.testing.assert_allclose(first, second, atol=1e-3)
    few = run(profile, max_pairs=4).keypoints
    assert few["pair_id"].nunique() == 4


def test_the_same_request_finds_the_finished_run(profile, monkeypatch):
    first = run(profile)
    assert sorted(path.name for path in first.folder.iterdir()) == ["keypoints.parquet", "run.json"]
    monkeypatch.setattr(StableDiffusion, "from_folder", None)
    second = run(profile, batch_size=1)
    assert second.reused and not first.reused
    pd.testing.assert_frame_equal(first.keypoints, second.keypoints)
    pd.testing.assert_frame_equal(first.table, second.table)
    assert first.table["category"].tolist() == ["cat", "dog", "all"]


def test_other_settings_data_or_weights_are_another_run(profile, tmp_path):
    first = run(profile)
    folders = {first.folder}
    for request in ({"timestep": 261}, {"ensemble": 1}, {"matcher": "nn"}, {"prompt": "empty"}, {"seed": 1}):
        folders.add(run(profile, **request).folder)
    other = tiny.write_diffusion(tmp_path / "other", seed=1)
    changed = dataclasses.replace(profile, model=dataclasses.replace(profile.model, sources=(str(other),)))
    folders.add(run(changed).folder)
    write_smooth_picture(tmp_path / "data" / "0.png", hw=(48, 70), seed=99)
    folders.add(run(profile).folder)
    assert len(folders) == 8


def test_a_prompt_class_that_now_says_other_words_is_another_run(profile):
    def saying(words):
        class Own(StringPrompt):
            scope = Scope.IMAGE

            def strings(self, batch):
                return [f"{words} {category}" for category in batch.categories]

            def identity(self):
                return {"kind": "own"}

        return Own()

    first, again, other = (run(profile, prompt=saying(words)) for words in ("a", "a", "the red"))
    assert again.reused and again.folder == first.folder
    assert not other.reused and other.folder != first.folder
    assert not first.keypoints["pred_x_in"].equals(other.keypoints["pred_x_in"])


def test_an_image_is_encoded_once_for_all_runs(profile, monkeypatch):
    run(profile)
    monkeypatch.setattr(StableDiffusion, "encode", None)
    assert not run(profile, timestep=261, prompt="empty").reused


KILLED = """
import os, pickle, signal, sys
sys.path.insert(0, {tests!r})
from sd4match_lib.evaluation import evaluate
from sd4match_lib.evaluation import pairs as pair_matching
profile = pickle.load(open({profile!r}, "rb"))
pair_matching.PART_PAIRS = 2
write, written = pair_matching.write_keypoints, []
def write_two_then_die(rows, path):
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write(rows, path)
    written.append(path)
pair_matching.write_keypoints = write_two_then_die
evaluate.evaluate(profile, dataset="own", device="cpu")
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(profile, tmp_path, monkeypatch):
    import pickle

    path = tmp_path / "profile.pickle"
    path.write_bytes(pickle.dumps(profile))
    script = KILLED.format(tests=str(Path(__file__).parent), profile=str(path))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    parts = sorted(Path(profile.results_dir).rglob("parts/*.parquet"))
    assert len(parts) == 2
    before = [part.stat().st_mtime_ns for part in parts]
    # A damaged part is matched again, a finished one is not.
    parts[1].write_bytes(b"cut off")
    monkeypatch.setattr(pair_matching, "PART_PAIRS", 2)
    matched = []
    plain = pair_matching.score_pair
    monkeypatch.setattr(
        pair_matching, "score_pair", lambda pair, *rest: matched.append(pair) or plain(pair, *rest)
    )
    cleared = []
    monkeypatch.setattr(
        pair_matching.PairMatcher, "clear", lambda self: cleared.append(parts[0].stat().st_mtime_ns)
    )
    resumed = run(profile)
    assert cleared == before[:1] and len(matched) == 8
    whole = run(profile, results_dir=tmp_path / "undisturbed")
    assert_same_rows(resumed.keypoints, whole.keypoints)
    assert resumed.record.status == "complete"


@pytest.mark.parametrize("extractor", list(Extractor))
def test_every_baseline_runs_and_says_what_it_used(profile, extractor):
    result = run(profile, extractor=extractor, max_pairs=4)
    assert result.keypoints["pair_id"].nunique() == 4 and np.isfinite(result.keypoints["distance_in"]).all()
    config, inputs = result.record.config, result.record.inputs
    assert config["extractor"] == extractor.value and (config["prompt"] is not None) == extractor.prompted
    assert ("vision" in inputs) == (extractor in (Extractor.DINOV2, Extractor.DINO, Extractor.SD_DINO))
    assert ("model" in inputs) == (extractor.prompted or extractor is Extractor.RAW_LATENTS)
    same = result.keypoints[result.keypoints["src_image"] == result.keypoints["trg_image"]]
    # The four numbers of a latent are easily confused with their neighbours'.
    limit = 24 if extractor is Extractor.RAW_LATENTS else 8
    assert len(same) and (same["distance_in"] < limit).all()


def test_dift_is_its_own_timestep_and_matcher_on_the_same_features(profile):
    dift = run(profile, extractor="dift")
    assert dift.record.config["timestep"] == 261 and dift.record.config["matcher"] == "nn"
    same = run(profile, extractor="sd", timestep=261, matcher="nn")
    pd.testing.assert_frame_equal(dift.keypoints, same.keypoints)


def test_sd_dino_without_weight_on_dino_is_sd_dino_star(profile):
    fused = dataclasses.replace(profile.baselines.sd_dino, sd_weight=1.0)
    only_sd = dataclasses.replace(profile, baselines=dataclasses.replace(profile.baselines, sd_dino=fused))
    star, joined = (
        run(profile, extractor="sd_dino_star").keypoints,
        run(profile, extractor="sd_dino").keypoints,
    )
    assert_same_rows(run(only_sd, extractor="sd_dino").keypoints, star)
    assert (joined["pred_x_px"] != star["pred_x_px"]).any()


def test_the_captioner_looks_at_each_image_once(profile, monkeypatch):
    ImplicitCaptioner(12, 16).save(profile.captioner, {})
    looked = []
    plain = VisionFeatures.tokens
    monkeypatch.setattr(
        VisionFeatures, "tokens", lambda self, images: looked.append(1) or plain(self, images)
    )
    result = run(profile, prompt="captioner")
    assert len(looked) == IMAGES and "vision" in result.record.inputs
    assert result.record.metrics["unet_passes"] == IMAGES * 2
    assert (result.keypoints["pred_x_px"] != run(profile).keypoints["pred_x_px"]).any()


class PairPrompt(Prompt):
    """A toy prompt of the pair: both images' descriptors make its rows."""

    scope = Scope.PAIR
    needs_vision = True

    def tokens(self, batch, encoder):
        both = torch.cat([batch.vision.cls, batch.trg_vision.cls], dim=1)
        return encoder.assemble(both[:, None, :16].expand(-1, 5, -1))

    def identity(self):
        return {"kind": "toy"}


def test_a_prompt_of_the_pair_is_run_per_pair_and_shared_by_both_images(profile, tmp_path):
    result = run(profile, prompt=PairPrompt(), batch_size=4)
    assert result.record.metrics["unet_passes"] == 2 * 10 * 2
    alone = run(profile, prompt=PairPrompt(), batch_size=1, results_dir=tmp_path / "alone")
    assert_same_rows(result.keypoints, alone.keypoints)
    same = result.keypoints[result.keypoints["src_image"] == result.keypoints["trg_image"]]
    assert (same["distance_in"] < 12).all()


def test_sigma_covers_the_same_part_of_the_image_on_every_grid(profile):
    settings = method_settings(profile, "dinov2", matcher="kernel_softargmax")
    matching = MethodModels(profile, settings).matching
    # The profile's own grid is 16 cells wide.
    assert matching(16)["sigma"] == pytest.approx(profile.evaluation.sigma)
    assert matching(8)["sigma"] == pytest.approx(profile.evaluation.sigma / 2)
    assert "sigma" not in MethodModels(profile, method_settings(profile, "dinov2")).config()


@pytest.mark.parametrize("levels", [3, 4])
def test_the_grid_is_known_without_loading_the_model(tmp_path, levels):
    folder, layers = tiny.write_diffusion(tmp_path, levels=levels), [f"up_blocks.{k}" for k in range(levels)]
    model = StableDiffusion.from_folder(folder, layers=layers)
    with torch.no_grad():
        latents = model.encode(torch.zeros(1, 3, 96, 64))
        context = model.text.encode_prompt([""])
        maps = model.features(latents, ["x"], context, layers, timestep=50)
    for layer, features in zip(layers, maps, strict=True):
        assert StableDiffusion.grid_hw(folder, image_hw=(96, 64), layer=layer) == tuple(features.shape[2:])


def test_pairs_without_known_targets_are_matched_but_not_scored(profile, tmp_path):
    path = write_pairs(tmp_path / "unknown", truth=False)
    result = evaluate(profile, dataset="own", data_root=path, device="cpu")
    assert np.isfinite(result.keypoints["pred_x_px"]).all() and result.keypoints["distance_in"].isna().all()
    assert "pck@0.10" not in result.record.metrics


def test_half_precision_evaluates_too(profile):
    half = dataclasses.replace(profile, model=dataclasses.replace(profile.model, dtype="bfloat16"))
    rows = run(half, matcher="nn").keypoints
    same = rows[rows["src_image"] == rows["trg_image"]]
    assert (same["distance_in"] < 4).all()


def test_requests_that_make_no_sense_are_one_sentence_each(profile):
    no_dino = dataclasses.replace(profile, baselines=dataclasses.replace(profile.baselines, dino=None))
    for request, message in [
        ({"extractor": "sift"}, "no extractor 'sift'"),
        ({"extractor": "dinov2", "prompt": "text"}, "a prompt means nothing"),
        ({"extractor": "raw_pixels", "timestep": 3}, "timestep means nothing"),
        ({"extractor": "sd_dino", "layer": "up_blocks.1"}, "layer means nothing"),
        ({"prompt": "captioner"}, "no captioner weights"),
        ({"timestep": 1000}, "timestep is 1000"),
        ({"ensemble": 0}, "ensemble is 0"),
        ({"layer": "up_blocks.3"}, "up_blocks.0 to up_blocks.2"),
        ({"matcher": "best"}, "no matcher 'best'"),
        ({"max_pairs": 0}, "max_pairs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"split": "holdout"}, "no split 'holdout'"),
        ({"extractor": "dino"}, "names no DINO model"),
    ]:
        with pytest.raises(UserError, match=message):
            run(no_dino, **request)
    with pytest.raises(UserError, match="no dataset 'spair'"):
        evaluate(profile, dataset="spair")


def test_settings_come_from_the_profile_unless_given(profile):
    default = method_settings(profile, "sd")
    assert (default.layers, default.timestep, default.ensemble) == (("up_blocks.1",), 50, 2)
    assert default.matcher == "kernel_softargmax"
    given = method_settings(profile, "sd", layer="up_blocks.2", timestep=0, ensemble=5, matcher="bilinear")
    assert (given.layers, given.timestep, given.ensemble) == (("up_blocks.2",), 0, 5)
    assert given.matcher == "bilinear"
    assert method_settings(profile, "raw_latents").matcher == "nn"


def test_rows_keep_what_the_maps_said_so_that_other_metrics_need_none(profile):
    rows = run(profile, matcher="nn", ensemble=1).keypoints
    grid = 16  # of 64 pixels
    half = 0.5 * (64 - 1) / (grid - 1)
    assert rows["cell_distance_in"].between(0, np.hypot(half, half) + 1e-4).all()
    assert rows[["similarity_inside", "similarity_outside"]].stack().between(0, 1).all()
    for alpha in (0.01, 0.05, 0.1):
        assert pck(rows, alpha) <= grid_ceiling(rows, alpha).value
    # A picture matched with itself is most alike where it is right.
    same = rows[rows["src_image"] == rows["trg_image"]]
    assert (same["similarity_inside"] > same["similarity_outside"]).all()
    assert kap(same).value > kap(rows).value


def test_a_keypoint_that_the_target_hides_leaves_its_best_similarity_anywhere(profile, tmp_path):
    root = layouts.write_spair(tmp_path / "SPair-71k", [("a", "b", "cat")])
    folder = root / "ImageAnnotation" / "cat"
    folder.mkdir(parents=True)
    shared = {"0": [10, 20], "4": [30, 12], "11": [59, 39]}
    for stem, others in (("a", {"7": [40, 30], "8": None}), ("b", {"7": None, "8": [20, 20]})):
        (folder / f"{stem}.json").write_text(json.dumps({"kps": {**shared, **others}}))

    result = evaluate(profile, dataset="spair", data_root=root, matcher="nn", ensemble=1)
    points = result.keypoints.set_index("keypoint")
    assert result.record.metrics["keypoints"] == 3 and list(points.index) == ["0", "11", "4", "7", "8"]
    assert points.loc["7", ["similarity_inside", "pred_x_px", "trg_x_px"]].isna().all()
    assert 0 <= points.loc["7", "similarity_outside"] <= 1
    assert points.loc["8", ["similarity_inside", "similarity_outside", "pred_x_px"]].isna().all()
    # As a public implementation does not: the hidden keypoint counts, as a negative alone.
    assert kap(result.keypoints).value <= kap(result.keypoints[result.keypoints["keypoint"] != "7"]).value
    # And the terminal says it where it says how predictions fail.
    assert f"\nKAP {format_percent(kap(result.keypoints))}: " in summarise_evaluation(result, by="error")
    assert "KAP" not in summarise_evaluation(result)
