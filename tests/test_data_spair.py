import shutil

import numpy as np
import pytest
from layouts import write_spair
from PIL import Image

from sd4match_lib.config.schema import DatasetConfig
from sd4match_lib.data.categories import category_noun
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.data.spair import SpairDataset
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError

PAIRS = [("2008_a", "2008_b", "cat"), ("2008_b", "2008_c", "cat"), ("2009_d", "2009_e", "aeroplane")]


def only_annotation(root):
    (path,) = (root / "PairAnnotation" / "test").glob("*.json")
    return path


def test_a_pair_has_all_that_the_annotation_says(tmp_path):
    dataset = SpairDataset(write_spair(tmp_path, PAIRS), "test")

    pair = dataset[0]

    assert (len(dataset), dataset.categories) == (3, ("aeroplane", "cat"))
    assert (pair.pair_id, pair.category) == ("000001-2008_a-2008_b:cat", "cat")
    assert (pair.src.image_id, pair.trg.image_id) == ("cat/2008_a", "cat/2008_b")
    np.testing.assert_array_equal(pair.src_px, np.float32([[10, 20], [30, 12], [59, 39]]))
    np.testing.assert_array_equal(pair.trg_px, np.float32([[11, 21], [33, 14], [0, 0]]))
    assert pair.src_px.dtype == np.float32
    assert pair.keypoint_ids == ("0", "4", "11")
    assert (pair.src.box_px, pair.trg.box_px) == ((2, 3, 50, 30), (5, 6, 55, 39))
    assert pair.src.hw_px == (40, 60)
    assert pair.threshold is ThresholdRule.BOX
    flags = pair.difficulty
    assert (flags.viewpoint, flags.scale, flags.truncation, flags.occlusion) == (1, 2, 3, 0)
    assert pair.src.read().size == (60, 40)


def test_the_mask_is_the_categorys_own_class(tmp_path):
    root = write_spair(tmp_path, PAIRS[:1])
    classes = np.zeros((40, 60), np.uint8)
    classes[:, :20], classes[:, 40:] = 8, 15  # PASCAL VOC: 8 cat, 15 person
    (root / "Segmentation" / "cat").mkdir(parents=True)
    Image.fromarray(classes).save(root / "Segmentation" / "cat" / "2008_a.png")

    pair = SpairDataset(root, "test")[0]

    np.testing.assert_array_equal(pair.src.read_mask(), classes == 8)
    assert pair.trg.read_mask() is None


def test_the_image_list_reads_each_picture_once_in_order(tmp_path):
    dataset = SpairDataset(write_spair(tmp_path, PAIRS), "test")

    found = dataset.images()

    assert list(found) == ["cat/2008_a", "cat/2008_b", "cat/2008_c", "aeroplane/2009_d", "aeroplane/2009_e"]
    assert dataset[1].src is found["cat/2008_b"] is dataset[0].trg


def test_opening_the_training_list_of_the_real_size_reads_no_annotation(tmp_path):
    layout = tmp_path / "Layout" / "large" / "trn.txt"
    layout.parent.mkdir(parents=True)
    layout.write_text("".join(f"{n:06d}-2008_{n % 50:06d}-2008_{n % 49:06d}:cat\n" for n in range(53_340)))

    # There is none to read.
    assert len(SpairDataset(tmp_path, "train")) == 53_340


def test_indexing_is_a_sequences(tmp_path):
    dataset = SpairDataset(write_spair(tmp_path, PAIRS), "test")

    assert dataset[-1].category == "aeroplane"
    assert [pair.pair_id for pair in dataset[1:]] == [pair.pair_id for pair in list(dataset)[1:]]
    with pytest.raises(IndexError):
        dataset[3]


def test_a_slice_of_the_split_is_spread_over_the_list(tmp_path):
    write_spair(tmp_path, PAIRS)
    config = DatasetConfig(kind="spair", root=str(tmp_path), max_pairs={"test": 2})

    assert [pair.category for pair in open_dataset(config, "test")] == ["cat", "cat"]
    assert len(open_dataset(DatasetConfig(kind="spair", root="elsewhere"), "test", tmp_path)) == 3
    with pytest.raises(DataError, match="no split 'trn'"):
        open_dataset(config, "trn")


def test_windows_unpackers_names_are_found(tmp_path):
    path = only_annotation(write_spair(tmp_path, PAIRS[:1]))
    path.rename(path.with_name(path.name.replace(":", "_")))

    assert SpairDataset(tmp_path, "test")[0].category == "cat"


def test_a_pair_without_points_is_refused(tmp_path):
    root = write_spair(tmp_path, PAIRS[:1], src_kps=[], trg_kps=[], kps_ids=[])

    with pytest.raises(DataError, match=r"2008_a-2008_b:cat\.json.*kps_ids"):
        SpairDataset(root, "test")[0]


def test_missing_and_broken_files_are_named(tmp_path):
    root = write_spair(tmp_path / "data", PAIRS[:1])
    dataset = SpairDataset(root, "test")
    only_annotation(root).write_text('{"src_kps": [')
    with pytest.raises(DataError, match=r"2008_a-2008_b:cat\.json: this is not valid JSON"):
        dataset[0]
    only_annotation(root).write_text("[1]")
    with pytest.raises(DataError, match="not an annotation"):
        dataset[0]
    only_annotation(root).unlink()
    with pytest.raises(DataError, match="there is no such file"):
        dataset[0]
    with pytest.raises(DataError, match=r"val\.txt: there is no such file"):
        SpairDataset(root, "val")
    (root / "Layout" / "large" / "test.txt").write_text("000001-2008_a:cat\n")
    with pytest.raises(DataError, match=r"test\.txt: the line '000001-2008_a:cat'"):
        SpairDataset(root, "test")


def test_a_missing_picture_is_named(tmp_path):
    root = write_spair(tmp_path, PAIRS[:1])
    (root / "JPEGImages" / "cat" / "2008_b.jpg").unlink()

    with pytest.raises(DataError, match=r"2008_b\.jpg: there is no such picture"):
        SpairDataset(root, "test")[0]


def test_a_damaged_mask_is_named(tmp_path):
    root = write_spair(tmp_path, PAIRS[:1])
    (root / "Segmentation" / "cat").mkdir(parents=True)
    Image.new("L", (30, 20)).save(root / "Segmentation" / "cat" / "2008_a.png")
    (root / "Segmentation" / "cat" / "2008_b.png").write_text("no mask")
    pair = SpairDataset(root, "test")[0]

    with pytest.raises(DataError, match=r"2008_a\.png: the mask's shape is \(20, 30\)"):
        pair.src.read_mask()
    with pytest.raises(DataError, match=r"2008_b\.png: the mask cannot be read"):
        pair.trg.read_mask()


def test_points_just_outside_are_kept_and_logged(tmp_path, caplog):
    root = write_spair(tmp_path, PAIRS[:1], src_kps=[[60, 20], [-2, 12], [5, 5]])

    with caplog.at_level("INFO", logger="sd4match_lib"):
        dataset = SpairDataset(root, "test")
        pair, _again = dataset[0], dataset[0]

    assert pair.src_px[1].tolist() == [-2, 12]
    assert len(caplog.records) == 1 and "2008_a.jpg" in caplog.text


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path):
    root = write_spair(tmp_path / "one", PAIRS)
    moved = tmp_path / "two"
    shutil.copytree(root, moved)
    print_of = SpairDataset(root, "test").fingerprint()

    assert SpairDataset(moved, "test").fingerprint() == print_of
    assert SpairDataset(moved, "test", max_pairs=2).fingerprint() != print_of
    picture = moved / "JPEGImages" / "cat" / "2008_c.jpg"
    picture.write_bytes(picture.read_bytes() + b" ")
    assert SpairDataset(moved, "test").fingerprint() != print_of
    picture.unlink()
    with pytest.raises(DataError, match=r"2008_c\.jpg"):
        SpairDataset(moved, "test").fingerprint()


def test_prompts_can_say_a_category():
    assert [category_noun(c) for c in ("car(G)", "winebottle(woC)", "pottedplant")] == [
        "car",
        "winebottle",
        "pottedplant",
    ]
