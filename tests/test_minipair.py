"""MiniPair: what is rendered is what is annotated, and what is on disk is what was rendered."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from sd4match_lib.data.categories import SPAIR_CATEGORIES, VOC_INDEX
from sd4match_lib.data.pf_pascal import PfPascalDataset
from sd4match_lib.data.pf_willow import PfWillowDataset
from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.data.spair_u import SpairUDataset
from sd4match_lib.data.types import Difficulty
from sd4match_lib.errors import DataError, UserError
from sd4match_lib.miniature.dataset import write
from sd4match_lib.miniature.dataset.difficulty import pair_difficulty
from sd4match_lib.miniature.dataset.ledger import shared_names
from sd4match_lib.miniature.dataset.write import (
    MANIFEST,
    WHOLE,
    Sizes,
    _remove,
    ensure_minipair,
    render_minipair,
)
from sd4match_lib.miniature.dataset.write_pf import SUB_CLASSES
from sd4match_lib.miniature.dataset.write_spair import Amount, _shoot
from sd4match_lib.miniature.objects.catalogue import ALL_KINDS, CATEGORIES
from sd4match_lib.miniature.render.scene import Render, take_picture
from sd4match_lib.miniature.render.style import SIZES, STYLES, Look
from sd4match_lib.utils.locks import WorkLock

TINY = Sizes(
    categories=("bottle", "car"),
    spair=(Amount(3, 4), Amount(2, 2), Amount(4, 12, every=2)),
    pascal_pairs=(2, 1, 1),
    sub_classes=("duck(S)", "winebottle(wC)"),
    willow_pictures=3,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("minipair")
    render_minipair(root, 5, TINY)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def shoot(kind: str, degrees: float | None = None, draw: int = 0, look: Look = Look.PF_WILLOW) -> Render:
    bounds = (0.0, 2 * math.pi) if degrees is None else (math.radians(degrees),) * 2
    rngs = [np.random.default_rng([91, draw, i]) for i in (1, 2)]
    return take_picture(ALL_KINDS[kind], *rngs, look, bounds)


def datasets(root: Path) -> list:
    spair = [SpairDataset(root / "SPair-71k", split) for split in ("train", "val", "test")]
    pascal = [PfPascalDataset(root / "pf-pascal", split) for split in ("train", "val", "test")]
    return [*spair, *pascal, PfWillowDataset(root / "pf-willow"), SpairUDataset(root / "SPair-U", "test")]


# On disk


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny: Path, tmp_path: Path) -> None:
    render_minipair(tmp_path / "again", 5, TINY)
    assert contents(tmp_path / "again") == contents(tiny)
    render_minipair(tmp_path / "other", 1, TINY)
    first, other = contents(tiny), contents(tmp_path / "other")
    pictures = [name for name in first if name.endswith(".jpg")]
    assert pictures and all(first[name] != other[name] for name in pictures if name in other)


def test_pictures_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for kind in ALL_KINDS:
        picture = shoot(kind, look=Look.SPAIR)
        digest.update(picture.rgb.tobytes() + picture.mask.tobytes())
        digest.update(json.dumps(picture.keypoints).encode())
    # Another digest means other pictures on this machine or by this code: RECIPE counts up.
    assert digest.hexdigest()[:16] == "3a99cac7fee43180"


@pytest.mark.parametrize("harm", ["delete", "change", "manifest"])
def test_what_is_damaged_is_rendered_again(tiny: Path, tmp_path: Path, harm: str) -> None:
    root, before = shutil.copytree(tiny, tmp_path / "data"), contents(tiny)
    victim = root / (MANIFEST if harm == "manifest" else "pf-pascal/train_pairs.csv")
    if harm == "delete":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-9])
    ensure_minipair(root, TINY)
    after = contents(root)
    # Without its manifest nobody knows the seed any more: the standard one is used.
    assert (after == before) == (harm != "manifest")
    assert json.loads(after[MANIFEST])["seed"] == (0 if harm == "manifest" else 5)


def test_what_is_complete_is_left_alone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(write, "_render", refuse)
    ensure_minipair(tiny, TINY)
    with pytest.raises(AssertionError, match="rendered again"):
        ensure_minipair(tiny, replace(TINY, willow_pictures=2))
    monkeypatch.setattr(write, "RECIPE", -1)
    with pytest.raises(AssertionError, match="rendered again"):
        ensure_minipair(tiny, TINY)


def test_a_second_process_waits_for_the_first_and_renders_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_render", lambda *_: pytest.fail("rendered again"))
    with ThreadPoolExecutor() as pool:
        with WorkLock(tmp_path, "data"):
            second = pool.submit(ensure_minipair, tmp_path / "data", TINY)
            shutil.copytree(tiny, tmp_path / "data")
        second.result(60)


def test_files_of_an_older_minipair_go(tiny: Path, tmp_path: Path) -> None:
    root = shutil.copytree(tiny, tmp_path / "data")
    render_minipair(root, 5, replace(TINY, willow_pictures=2))
    assert len(list((root / "pf-willow" / "PF-dataset" / "duck(S)").glob("*.png"))) == 2
    listed = json.loads((root / MANIFEST).read_text())["files"]
    assert set(listed) == set(contents(root)) - {MANIFEST}


def test_the_real_datasets_are_not_overwritten(tmp_path: Path) -> None:
    theirs = tmp_path / "SPair-71k" / "Layout" / "large" / "trn.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious\n")
    with pytest.raises(UserError, match=r"SPair-71k was not rendered by sd4match.*--out"):
        render_minipair(tmp_path, 0, TINY)
    assert theirs.read_text() == "precious\n"


# Through the readers


def test_every_pair_of_every_layout_shares_points_inside_its_pictures(tiny: Path) -> None:
    shapes = set()
    for dataset in datasets(tiny):
        fewest = 2 if isinstance(dataset, SpairUDataset) else 3
        assert len(dataset) > 0
        for pair in dataset:
            assert len(pair.src_px) == len(pair.trg_px) == len(pair.keypoint_ids) >= fewest
            for record, points in ((pair.src, pair.src_px), (pair.trg, pair.trg_px)):
                width, height = record.read().size
                shapes.add((width, height))
                assert np.all(points >= 0) and np.all(points <= [width - 1, height - 1])
    # Stretched to a square, most pictures change their shape: the two frames of the paper's tables differ.
    assert shapes <= {size for size, _ in SIZES} and len(shapes) >= 3
    assert sum(share for _, share in SIZES) == pytest.approx(1.0)


def test_a_slice_holds_the_same_bytes_and_no_other_pairs_than_the_whole(tiny: Path, tmp_path: Path) -> None:
    render_minipair(tmp_path, 5, replace(TINY, spair=(*TINY.spair[:2], replace(TINY.spair[2], every=1))))
    part, whole = contents(tiny), contents(tmp_path)
    different = {name for name, data in part.items() if whole.get(name) != data}
    assert different == {MANIFEST, "SPair-71k/Layout/large/test.txt"}
    listed = [root["SPair-71k/Layout/large/test.txt"].split() for root in (part, whole)]
    pictures = [len(list((root / "SPair-71k/JPEGImages/car").glob("test_*"))) for root in (tiny, tmp_path)]
    assert pictures == [2, 4] and 0 < len(listed[0]) < len(listed[1])
    assert [name for name in listed[1] if name in set(listed[0])] == listed[0]


def test_the_whole_minipair_has_40_test_pictures_a_category_and_5000_pairs() -> None:
    train, val, test = WHOLE.spair
    assert test.objects == 40 and test.every == 1
    assert Sizes().spair == (train, val, replace(test, every=4))
    # Of the 5,400 that are drawn 5,200 share three keypoints; in the poorest category still three in four.
    assert test.drawn * len(WHOLE.categories) == 5400
    pairs = list(permutations([_shoot(0, "test", "bus", slot) for slot in range(0, 40, 4)], 2))
    assert np.mean([len(shared_names(*pair)) >= 3 for pair in pairs]) > 0.75
    assert tuple(CATEGORIES) == WHOLE.categories == SPAIR_CATEGORIES
    assert len(WHOLE.sub_classes) * WHOLE.willow_pictures * (WHOLE.willow_pictures - 1) == 900


def test_reserved_keypoints_are_in_spair_u_alone(tiny: Path) -> None:
    for category in TINY.categories:
        names = CATEGORIES[category](np.random.default_rng(0)).keypoints
        reserved = [point.name for point in names if point.reserved]
        assert len(reserved) >= 3
        counts = {}
        for folder in ("SPair-71k", "SPair-U"):
            paths = sorted((tiny / folder / "ImageAnnotation" / category).glob("test_*.json"))
            counts[folder] = {len(json.loads(path.read_text())["kps"]) for path in paths}
        assert counts == {"SPair-71k": {len(names) - len(reserved)}, "SPair-U": {len(reserved)}}
        for path in (tiny / "pf-pascal/PF-dataset-PASCAL/Annotations" / category).glob("*.mat"):
            assert len(loadmat(path)["kps"]) == len(names) - len(reserved)
    assert not list((tiny / "SPair-U").rglob("*.jpg")) and not list((tiny / "SPair-U").rglob("trn_*"))


def test_a_second_object_is_now_and_then_beside_the_first_and_not_part_of_it() -> None:
    draws = [shoot("dog", draw=draw, look=Look.SPAIR) for draw in range(60)]
    pairs = [render for render in draws if render.companion]
    assert 6 <= len(pairs) <= 20 and "dog" not in {render.companion for render in pairs}
    # It can stand before the object, and then counts as what occludes it.
    assert any(render.occluded for render in pairs) and any(not render.occluded for render in pairs)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "SPair-71k/../../outside.txt", ""])
def test_a_manifest_cannot_reach_outside_its_folder(tiny: Path, tmp_path: Path, name: str) -> None:
    root, outside = shutil.copytree(tiny, tmp_path / "data"), tmp_path / "outside.txt"
    outside.write_text("precious\n")
    manifest = json.loads((root / MANIFEST).read_text())
    manifest["files"][name] = hashlib.sha256(b"precious\n").hexdigest()
    (root / MANIFEST).write_text(json.dumps(manifest))
    before = contents(tmp_path)
    for use in (lambda: ensure_minipair(root, TINY), lambda: render_minipair(root, 5, TINY)):
        with pytest.raises(DataError, match=r"manifest\.json, field 'files'"):
            use()
    assert contents(tmp_path) == before


def test_a_folder_that_a_manifest_calls_a_file_is_no_stale_file(tmp_path: Path) -> None:
    (tmp_path / "pf-pascal").mkdir()
    for name in ("pf-pascal", "pf-pascal/gone.csv"):
        _remove(tmp_path, name)
    assert (tmp_path / "pf-pascal").is_dir()


def test_splits_share_neither_names_nor_pictures(tiny: Path) -> None:
    every = datasets(tiny)
    for splits in (every[:3], every[3:6]):
        names = [{record.path for record in dataset.images().values()} for dataset in splits]
        assert sum(map(len, names)) == len(set.union(*names))
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in set.union(*names)]
        assert len(set(digests)) == len(digests)


def test_masks_hold_the_voc_class_and_fill_their_boxes(tiny: Path) -> None:
    for record in SpairDataset(tiny / "SPair-71k", "test").images().values():
        mask = record.read_mask()
        assert mask is not None and record.box_px is not None
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == record.box_px
        values = set(np.unique(np.asarray(Image.open(record.mask_path))).tolist())
        assert values == {0, VOC_INDEX[record.category]}


def test_spair_annotations_agree_with_each_other(tiny: Path) -> None:
    root = tiny / "SPair-71k"
    for path in (root / "PairAnnotation").rglob("*.json"):
        pair = json.loads(path.read_text())
        for side in ("src", "trg"):
            stem = pair[f"{side}_imname"].removesuffix(".jpg")
            image = json.loads((root / "ImageAnnotation" / pair["category"] / f"{stem}.json").read_text())
            assert pair[f"{side}_bndbox"] == image["bndbox"] and pair[f"{side}_pose"] == image["pose"]
            assert pair[f"{side}_kps"] == [image["kps"][number] for number in pair["kps_ids"]]
            bit = 1 if side == "src" else 2
            assert bool(pair["truncation"] & bit) == bool(image["truncated"])
            assert bool(pair["occlusion"] & bit) == bool(image["occluded"])


def test_pascal_pairs_look_alike_and_are_mirrored_for_training(tiny: Path) -> None:
    train = PfPascalDataset(tiny / "pf-pascal", "train")
    plain, mirrored = train[0], train[1]
    assert mirrored.pair_id == f"{plain.pair_id}#flip"
    np.testing.assert_allclose(mirrored.src_px[:, 0], plain.src.read().size[0] - 1 - plain.src_px[:, 0])
    flipped = np.asarray(mirrored.src.read())
    np.testing.assert_array_equal(flipped, np.asarray(plain.src.read())[:, ::-1])


def test_willow_lists_what_its_annotations_generate(tiny: Path, tmp_path: Path) -> None:
    listed = PfWillowDataset(tiny / "pf-willow")
    (tmp_path / "PF-dataset").symlink_to(tiny / "pf-willow" / "PF-dataset")
    generated = PfWillowDataset(tmp_path)
    assert [pair.pair_id for pair in listed] == [pair.pair_id for pair in generated]
    for ours, theirs in zip(listed, generated, strict=True):
        assert len(ours.src_px) == 10
        np.testing.assert_array_equal(ours.src_px, theirs.src_px)
        np.testing.assert_array_equal(ours.trg_px, theirs.trg_px)


def test_willow_has_ten_sub_classes_of_ten_known_keypoints() -> None:
    assert len(SUB_CLASSES) == 10
    for sub_class in SUB_CLASSES.values():
        points = ALL_KINDS[sub_class.kind](np.random.default_rng(0)).keypoints
        known = [point.name for point in points if not point.reserved]
        chosen = sub_class.keypoints or tuple(known)
        assert len(set(chosen)) == 10 and set(chosen) <= set(known)


# In the picture


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_left_and_right_of_a_car_hold_all_around(degrees: int) -> None:
    for draw in range(3):
        seen = shoot("car", degrees, draw).keypoints
        wheels = {name.split()[0] for name in seen if name.endswith("wheel")}
        if 30 <= degrees <= 150:
            assert "left" in wheels
        if 210 <= degrees <= 330:
            assert "right" in wheels
        if degrees in (90, 270):
            assert wheels == {"left" if degrees == 90 else "right"}
            nose, tail = seen["bonnet front"][0], seen["boot back"][0] if "boot back" in seen else None
            assert tail is None or (nose < tail) == (degrees == 90)
        if degrees == 0:
            assert seen["left headlight"][0] > seen["right headlight"][0]
            assert not any("tail light" in name for name in seen)
        if degrees == 180:
            assert seen["left tail light"][0] < seen["right tail light"][0]
            assert not any("headlight" in name for name in seen)


@pytest.mark.parametrize("kind", ["cat", "person", "aeroplane", "chair", "tvmonitor"])
def test_the_left_of_what_faces_us_is_on_the_pictures_right(kind: str) -> None:
    seen = shoot(kind, 0).keypoints
    twins = [name for name in seen if name.startswith("left ") and name.replace("left", "right") in seen]
    assert len(twins) >= 1
    for name in twins:
        assert seen[name][0] > seen[name.replace("left", "right")][0], name


@pytest.mark.parametrize("kind", ["bottle", "pottedplant", "winebottle"])
def test_outline_keypoints_keep_their_side_of_the_picture(kind: str) -> None:
    for degrees in (10, 130, 250):
        seen = shoot(kind, degrees).keypoints
        lefts = [name for name in seen if name.endswith("on the left")]
        pairs = [(name, name.replace("left", "right")) for name in lefts]
        pairs = [(left, right) for left, right in pairs if right in seen]
        assert pairs and all(seen[left][0] < seen[right][0] for left, right in pairs)


@pytest.mark.parametrize("kind", list(ALL_KINDS))
def test_mask_box_and_keypoints_agree(kind: str) -> None:
    for look in (Look.SPAIR, Look.PF_PASCAL):
        picture = shoot(kind, draw=4, look=look)
        x0, y0, x1, y1 = picture.box
        outside = picture.mask.copy()
        outside[y0 : y1 + 1, x0 : x1 + 1] = False
        assert picture.mask.any() and not outside.any()
        assert picture.mask[y0].any() and picture.mask[:, x0].any()
        assert picture.mask[y1].any() and picture.mask[:, x1].any()
        width, height = picture.size
        for x, y in picture.keypoints.values():
            assert 0 <= x <= width - 1 and 0 <= y <= height - 1


def test_keypoints_lie_on_the_object() -> None:
    near = []
    for draw, kind in enumerate(sorted(set(ALL_KINDS) - {"pottedplant"})):
        picture = shoot(kind, draw=draw)
        for x, y in picture.keypoints.values():
            row, column = round(y), round(x)
            near.append(picture.mask[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5].any())
    assert all(near) and len(near) > 100


def test_a_zoomed_object_is_truncated_and_a_covered_one_occluded(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shoot("car", 90)
    assert not plain.truncated and not plain.occluded
    style = STYLES[Look.PF_WILLOW]
    monkeypatch.setitem(STYLES, Look.PF_WILLOW, replace(style, zoom=(1.6, 1.7)))
    zoomed = shoot("car", 90)
    assert zoomed.truncated and not zoomed.occluded and len(zoomed.keypoints) < len(plain.keypoints)
    monkeypatch.setitem(STYLES, Look.PF_WILLOW, replace(style, occluder=1.0))
    covered = [shoot("car", 90, draw) for draw in range(8)]
    hit = [picture for picture in covered if picture.occluded]
    assert hit and not any(picture.truncated for picture in covered)
    monkeypatch.setitem(STYLES, Look.PF_WILLOW, style)
    free = shoot("car", 90, covered.index(hit[0]))
    assert hit[0].mask.sum() < free.mask.sum()


def test_difficulty_counts_sides_and_levels() -> None:
    picture = shoot("car", 10)

    def turned(degrees: float, **changes: object) -> Render:
        camera = replace(picture.camera, azimuth=math.radians(degrees))
        return replace(picture, camera=camera, **changes)

    base = replace(picture, box=(0, 0, 99, 99), truncated=False, occluded=False)
    assert pair_difficulty(base, base) == Difficulty(0, 0, 0, 0)
    across = turned(350, box=(0, 0, 74, 74), truncated=True, occluded=False)
    assert pair_difficulty(base, across) == Difficulty(0, 1, 2, 0)
    behind = turned(190, box=(0, 0, 49, 49), truncated=True, occluded=True)
    assert pair_difficulty(behind, base) == Difficulty(2, 2, 1, 1)
    assert pair_difficulty(behind, behind) == Difficulty(0, 0, 3, 3)
    assert pair_difficulty(turned(60), turned(10)).viewpoint == 1


@pytest.mark.parametrize("kind", list(ALL_KINDS))
def test_a_category_has_8_to_15_keypoints_always_the_same(kind: str) -> None:
    names = {
        tuple(p.name for p in ALL_KINDS[kind](np.random.default_rng(seed)).keypoints) for seed in range(12)
    }
    assert len(names) == 1
    (only,) = names
    assert len(set(only)) == len(only)
    points = ALL_KINDS[kind](np.random.default_rng(0)).keypoints
    assert 8 <= sum(not point.reserved for point in points) <= 15
    assert 3 <= sum(point.reserved for point in points) <= 5
