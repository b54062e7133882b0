"""SPair-U and AP-10K: their layouts, proved on twins that the tests write and on a real annotation."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import spair_annotation, write_spair
from PIL import Image

from sd4match_lib.data.ap10k import KEYPOINTS, Ap10kDataset
from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.data.spair_u import SpairUDataset
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError
from sd4match_lib.miniature.dataset.ledger import seeded
from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.render.scene import Render, take_picture

REAL_AP10K = Path(__file__).parents[2] / "shared/data/own-photos/ap10k"
SPAIR_PAIRS = [("a", "b", "cat"), ("b", "c", "cat")]

# SPair-U


@pytest.fixture
def spair_u(tmp_path: Path) -> Path:
    """SPair-71k and beside it an SPair-U that annotates the first of its two pairs."""
    write_spair(tmp_path / "SPair-71k", SPAIR_PAIRS)
    root = tmp_path / "SPair-U"
    path = root / "PairAnnotation/test/000001-a-b:cat.json"
    path.parent.mkdir(parents=True)
    other = {"src_kps": [[1, 2], [3, 4]], "trg_kps": [[5, 6], [7, 8]], "kps_ids": ["0", "1"]}
    path.write_text(json.dumps(spair_annotation("a", "b", "cat", **other)))
    return root


def test_spair_u_has_other_keypoints_on_the_pictures_of_spair_beside_it(spair_u: Path):
    dataset = SpairUDataset(spair_u)
    original = SpairDataset(spair_u.parent / "SPair-71k", "test")

    (pair,) = dataset
    assert pair.pair_id == original[0].pair_id and pair.threshold is ThresholdRule.BOX
    assert pair.src.path == original[0].src.path and pair.trg.box_px == original[0].trg.box_px
    assert pair.src_px.tolist() == [[1, 2], [3, 4]] and pair.keypoint_ids == ("0", "1")
    # Its numbers mean other points, so SPair-71k's table of paws and ears must not be asked.
    assert dataset.symmetry is None and original.symmetry is not None
    assert dataset.fingerprint() != original.fingerprint()


def test_spair_u_with_pictures_of_its_own_and_names_from_windows(spair_u: Path):
    shutil.move(spair_u.parent / "SPair-71k/JPEGImages", spair_u / "JPEGImages")
    (path,) = (spair_u / "PairAnnotation/test").iterdir()
    path.rename(path.with_name("000001-a-b_cat.json"))

    (pair,) = SpairUDataset(spair_u)
    assert pair.pair_id == "000001-a-b:cat" and pair.src.path.is_relative_to(spair_u)


def test_what_is_wrong_with_spair_u_is_one_sentence(spair_u: Path):
    with pytest.raises(DataError, match="SPair-U has no 'train' split; use 'test'"):
        SpairUDataset(spair_u, "train")
    shutil.rmtree(spair_u.parent / "SPair-71k")
    with pytest.raises(DataError, match=r"a\.jpg"):
        SpairUDataset(spair_u)[0]
    shutil.rmtree(spair_u / "PairAnnotation")
    with pytest.raises(DataError, match="there are no annotations; fetch the data set again"):
        SpairUDataset(spair_u)


# AP-10K

AS_AP10K = {
    "left_eye": "left eye", "right_eye": "right eye", "nose": "nose", "neck": "withers",
    "root_of_tail": "tail base", "left_front_paw": "left front foot", "right_front_paw": "right front foot",
    "left_back_paw": "left back foot", "right_back_paw": "right back foot",
}  # fmt: skip
SPECIES = {"cat": "Felidae", "dog": "Canidae", "horse": "Equidae"}
LISTS = {
    "test": [("dog", 1, "dog", 2)],
    "test_cross_species": [("cat", 4, "dog", 1)],
    "test_cross_family": [("cat", 4, "horse", 3), ("horse", 3, "dog", 2)],
}
ANIMALS = {1: "dog", 2: "dog", 3: "horse", 4: "cat"}


def rendered(number: int) -> Render:
    name = ANIMALS[number]
    return take_picture(CATEGORIES[name], seeded("ap10k", number, "object"), seeded("ap10k", number, "view"))


def annotation(number: int, picture: Render) -> dict:
    points = [picture.keypoints.get(AS_AP10K.get(name, "")) for name in KEYPOINTS]
    x0, y0, x1, y1 = picture.box
    width, height = picture.size
    return {
        "id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0],
        "keypoints": [value for xy in points for value in ([*xy, 2] if xy else [0, 0, 0])],
        "num_keypoints": sum(xy is not None for xy in points),
        "file_name": f"{number:012d}.jpg", "width": width, "height": height,
    }  # fmt: skip


def write_ap10k(root: Path, *, released: bool) -> Path:
    """Rendered animals in either layout, with lists as GeoAware-SC's notebook writes them."""
    images, annotations = [], []
    for number, name in ANIMALS.items():
        picture, fields = rendered(number), annotation(number, rendered(number))
        place = Path("data") if released else Path("JPEGImages", SPECIES[name], name)
        path = root / place / f"{number:012d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.rgb).save(path, quality=95)
        images.append({key: fields[key] for key in ("file_name", "width", "height")} | {"id": number})
        annotations.append(
            {key: fields[key] for key in fields if key not in images[-1]} | {"id": 100 + number}
        )
        if not released:
            path = root / "ImageAnnotation" / SPECIES[name] / name / f"{number:012d}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(fields))
    if released:
        # A second animal in the last picture does not count.
        annotations.append({**annotations[-1], "keypoints": [1, 1, 2] * 17})
        coco = {"images": images, "annotations": annotations, "categories": []}
        (root / "annotations").mkdir()
        (root / "annotations/ap10k-test-split1.json").write_text(json.dumps(coco))
    for folder, pairs in LISTS.items():
        for src, a, trg, b in pairs:
            sides = [
                f"data/ap-10k/ImageAnnotation/{SPECIES[n]}/{n}/{i:012d}.json" for n, i in ((src, a), (trg, b))
            ]
            path = root / "PairAnnotation" / folder / f"{a:012d}-{b:012d}:{trg}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"src_json_path": sides[0], "trg_json_path": sides[1]}))
    return root


@pytest.mark.parametrize("released", [False, True])
def test_ap10k_reads_rendered_animals_point_by_point_in_both_layouts(tmp_path: Path, released: bool):
    root = write_ap10k(tmp_path, released=released)
    (pair,) = Ap10kDataset(root, "test")

    assert (pair.category, pair.src.image_id, pair.trg.image_id) == (
        "dog",
        "dog/000000000001",
        "dog/000000000002",
    )
    for side_px, number in ((pair.src_px, 1), (pair.trg_px, 2)):
        shown = rendered(number).keypoints
        expected = [shown[AS_AP10K[name]] for name in pair.keypoint_ids]
        np.testing.assert_allclose(side_px, expected, atol=1e-4)
    both = {
        name
        for name, own in AS_AP10K.items()
        if own in rendered(1).keypoints and own in rendered(2).keypoints
    }
    assert set(pair.keypoint_ids) == both
    only = {name for name, own in AS_AP10K.items() if own in rendered(1).keypoints} - both
    assert set(pair.one_sided.src_ids) == only
    assert pair.trg.box_px == tuple(map(float, rendered(2).box))
    assert pair.src.read().size == rendered(1).size


def test_ap10ks_three_kinds_of_lists(tmp_path: Path):
    root = write_ap10k(tmp_path, released=False)
    assert [len(Ap10kDataset(root, split)) for split in LISTS] == [1, 1, 2]
    family = Ap10kDataset(root, "test_cross_family")
    assert [(pair.src.category, pair.trg.category) for pair in family] == [("horse", "dog"), ("cat", "horse")]
    assert len(Ap10kDataset(root, "test_cross_family", 1)) == 1
    assert family.symmetry.twin("horse", "left_eye") == "right_eye"
    before = family.fingerprint()
    (root / "ImageAnnotation/Equidae/horse/000000000003.json").write_text("{}")
    assert Ap10kDataset(root, "test_cross_family").fingerprint() != before


def test_what_is_wrong_with_ap10ks_lists_names_them(tmp_path: Path):
    root = write_ap10k(tmp_path, released=True)
    with pytest.raises(DataError, match="AP-10K has no 'dev' split; use one of train, val, test, "):
        Ap10kDataset(root, "dev")
    with pytest.raises(DataError, match="trn: there are no pairs"):
        Ap10kDataset(root, "train")
    (path,) = (root / "PairAnnotation/test").iterdir()
    path.write_text(
        json.dumps({"src_json_path": "ImageAnnotation/../../etc.json", "trg_json_path": "x.json"})
    )
    with pytest.raises(DataError, match=r"000000000000\.json|leads out|field 'trg_json_path'"):
        Ap10kDataset(root, "test")[0]
    path.write_text(
        json.dumps(
            {"src_json_path": "ImageAnnotation/a/b/9.json", "trg_json_path": "ImageAnnotation/a/b/9.json"}
        )
    )
    with pytest.raises(DataError, match="there is no annotation of picture 9"):
        Ap10kDataset(root, "test")[0]


@pytest.mark.skipif(not REAL_AP10K.is_dir(), reason="the real annotation is not beside the repository")
def test_ap10ks_real_annotation_and_pictures(tmp_path: Path):
    (tmp_path / "annotations").mkdir()
    shutil.copy(REAL_AP10K / "test_ap10k.json", tmp_path / "annotations")
    (tmp_path / "data").mkdir()
    for path in REAL_AP10K.glob("*.jpg"):
        shutil.copy(path, tmp_path / "data")
    path = tmp_path / "PairAnnotation/test_cross_family/000000000004-000000037516:all.json"
    path.parent.mkdir(parents=True)
    sides = [
        "ImageAnnotation/Bovidae/antelope/000000000004.json",
        "ImageAnnotation/Felidae/x/000000037516.json",
    ]
    path.write_text(json.dumps({"src_json_path": sides[0], "trg_json_path": sides[1]}))

    (pair,) = Ap10kDataset(tmp_path, "test_cross_family")
    assert pair.keypoint_ids == tuple(name for name in KEYPOINTS if name != "right_eye")
    assert pair.src_px[0].tolist() == [488, 443] and pair.trg_px[-1].tolist() == [636, 602]
    assert pair.trg.box_px == (66, 192, 66 + 1092, 192 + 512) and pair.src.hw_px == (683, 1024)
    assert pair.src.read().size == (1024, 683)
