from itertools import permutations

import numpy as np
import pytest
from layouts import write_csv, write_pf_willow
from scipy.io import savemat

from sd4match_lib.data.pf_willow import PfWillowDataset
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError

STEMS = {"car(G)": ["a", "b", "c"], "duck(S)": ["d", "e"]}


def test_without_a_list_all_ordered_pairs_of_each_sub_class_are_made(tmp_path):
    dataset = PfWillowDataset(write_pf_willow(tmp_path, STEMS))

    expected = [(f"{name}/{s}", f"{name}/{t}") for name in STEMS for s, t in permutations(STEMS[name], 2)]
    assert [(pair.src.image_id, pair.trg.image_id) for pair in dataset] == expected
    assert dataset.categories == ("car(G)", "duck(S)")
    assert dataset[0].src_px.shape == (10, 2) and dataset[0].threshold is ThresholdRule.KEYPOINTS


def test_absent_keypoints_never_reach_the_pair(tmp_path):
    root = write_pf_willow(tmp_path, {"car(G)": ["a", "b"]}, keypoints=3)
    savemat(root / "PF-dataset/car(G)/a.mat", {"pts_coord": [[1.0, np.nan, 5], [2, np.nan, 6]]})

    pair = PfWillowDataset(root)[0]

    assert pair.keypoint_ids == ("0", "2") and pair.trg_px.shape == (2, 2)
    np.testing.assert_array_equal(pair.src_px, np.float32([[1, 2], [5, 6]]))


def test_with_a_list_the_list_decides_pairs_and_points(tmp_path):
    root = write_pf_willow(tmp_path, STEMS)
    numbers = range(1, 12)  # eleven points: XA10 comes after XA9, not after XA1
    header = ["imageA", "imageB", *(f"{name}{n}" for name in ("XA", "YA", "XB", "YB") for n in numbers)]
    cells = [n + shift for shift in (0, 10, 20, 25) for n in numbers]
    cells[-1] = ""
    write_csv(
        root / "test_pairs.csv", header, [["PF-dataset/car(G)/b.png", "PF-dataset/car(G)/a.png", *cells]]
    )

    (pair,) = PfWillowDataset(root)

    np.testing.assert_array_equal(pair.src_px, np.float32([[n, n + 10] for n in numbers][:10]))
    np.testing.assert_array_equal(pair.trg_px, np.float32([[n + 20, n + 25] for n in numbers][:10]))
    assert pair.pair_id == "car(G)/b-a"


def test_what_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(DataError, match="PF-dataset: there are no sub-classes"):
        PfWillowDataset(tmp_path)
    root = write_pf_willow(tmp_path, {"car(G)": ["a", "b"]})
    with pytest.raises(DataError, match="no 'train' split"):
        PfWillowDataset(root, "train")
    annotation = root / "PF-dataset" / "car(G)" / "b.mat"
    savemat(annotation, {"pts_coord": np.ones((2, 9))})
    with pytest.raises(DataError, match=r"b\.mat, field 'pts_coord': 10 and 9 keypoints"):
        PfWillowDataset(root)
    savemat(annotation, {"pts_coord": np.full((2, 10), 99.0)})
    with pytest.raises(DataError, match=r"b\.mat.*\(99, 99\) lies outside its picture of 60 x 40"):
        PfWillowDataset(root)[0]
    savemat(annotation, {"pts_coord": np.ones((3, 10))})
    with pytest.raises(DataError, match=r"b\.mat, field 'pts_coord': the shape is \(3, 10\)"):
        PfWillowDataset(root)
    annotation.unlink()
    with pytest.raises(DataError, match=r"b\.mat: there is no such file"):
        PfWillowDataset(root)
    write_csv(root / "test_pairs.csv", ["imageA", "imageB", "XA1"], [["a", "b", 1]])
    with pytest.raises(DataError, match=r"test_pairs\.csv: the column 'YA1' is missing"):
        PfWillowDataset(root)


def test_the_real_data_set_reads_and_the_generated_pairs_are_the_published_ones(tmp_path, shared_data):
    real = shared_data / "pf-willow"
    (tmp_path / "PF-dataset").symlink_to(real / "PF-dataset")

    listed, generated = PfWillowDataset(real), PfWillowDataset(tmp_path)

    assert len(listed) == len(generated) == 900
    assert len(listed.categories) == 10 and len(listed.images()) == 100
    for one, other in zip(listed, generated, strict=True):
        assert one.pair_id == other.pair_id
        np.testing.assert_allclose(one.src_px, other.src_px, atol=1e-4)
        np.testing.assert_allclose(one.trg_px, other.trg_px, atol=1e-4)
    assert {pair.src_px.shape for pair in listed} == {(10, 2)}
