import logging

import numpy as np
import pytest
from layouts import write_csv, write_pf_pascal, write_picture
from PIL import ImageOps
from scipy.io import savemat

from sd4match_lib.data.categories import VOC_CATEGORIES
from sd4match_lib.data.pf_pascal import PfPascalDataset
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError

NAN = float("nan")
TEST_HEADER = ["source_image", "target_image", "class", "XA", "YA", "XB", "YB"]
KEYPOINTS = {
    "2008_a": [[1, 2], [NAN, NAN], [50, 30], [7, 8]],
    "2008_b": [[3, 4], [9, 9], [40, 20], [NAN, NAN]],
    "2008_c": [[NAN, NAN], [5, 6], [NAN, NAN], [NAN, NAN]],
}


def test_points_are_those_that_both_pictures_have(tmp_path):
    root = write_pf_pascal(tmp_path, KEYPOINTS, [["2008_a", "2008_b", 1, 0]])

    pair = PfPascalDataset(root, "train")[0]

    np.testing.assert_array_equal(pair.src_px, np.float32([[1, 2], [50, 30]]))
    np.testing.assert_array_equal(pair.trg_px, np.float32([[3, 4], [40, 20]]))
    assert pair.keypoint_ids == ("0", "2")
    assert (pair.category, pair.src.image_id) == ("aeroplane", "aeroplane/2008_a")
    assert pair.threshold is ThresholdRule.IMAGE
    assert pair.trg.box_px is None and pair.trg.read_mask() is None and pair.difficulty is None


def test_a_flipped_row_mirrors_both_pictures_and_their_points(tmp_path):
    rows = [["2008_a", "2008_b", 1, 0], ["2008_a", "2008_b", 1, 1]]
    dataset = PfPascalDataset(write_pf_pascal(tmp_path, KEYPOINTS, rows), "train")

    plain, flipped = dataset

    np.testing.assert_array_equal(flipped.src_px, np.float32([[58, 2], [9, 30]]))
    np.testing.assert_array_equal(flipped.trg_px, np.float32([[56, 4], [19, 20]]))
    assert list(dataset.images()) == [
        "aeroplane/2008_a",
        "aeroplane/2008_b",
        "aeroplane/2008_a#flip",
        "aeroplane/2008_b#flip",
    ]
    np.testing.assert_array_equal(
        np.asarray(flipped.trg.read()), np.asarray(ImageOps.mirror(plain.trg.read()))
    )


def test_pairs_without_a_shared_point_are_skipped_and_counted(tmp_path, caplog):
    rows = [["2008_a", "2008_c", 1, 0], ["2008_a", "2008_b", 1, 0], ["2008_c", "2008_a", 1, 1]]

    with caplog.at_level(logging.WARNING, logger="sd4match_lib"):
        dataset = PfPascalDataset(write_pf_pascal(tmp_path, KEYPOINTS, rows), "train")

    assert [pair.pair_id for pair in dataset] == ["aeroplane/2008_a-2008_b"]
    assert dataset.skipped == 2 and "skipped 2 pairs" in caplog.text


def test_repeated_rows_stay_with_ids_of_their_own(tmp_path):
    rows = [["2008_a", "2008_b", 1, 0], ["2008_a", "2008_b", 1, 1], ["2008_a", "2008_b", 1, 0]]

    dataset = PfPascalDataset(write_pf_pascal(tmp_path, KEYPOINTS, rows), "train")

    assert [pair.pair_id for pair in dataset] == [
        "aeroplane/2008_a-2008_b",
        "aeroplane/2008_a-2008_b#flip",
        "aeroplane/2008_a-2008_b#2",
    ]


def test_the_test_list_brings_its_points(tmp_path):
    for stem in ("2008_a", "2008_b"):
        write_picture(tmp_path / f"{stem}.jpg")
    write_csv(
        tmp_path / "test_pairs.csv",
        TEST_HEADER,
        [["2008_a.jpg", "2008_b.jpg", 11, "1.5;2", "3;4", "5;6", "7;8"]],
    )

    pair = PfPascalDataset(tmp_path, "test")[0]

    assert pair.category == "diningtable"
    np.testing.assert_array_equal(pair.src_px, np.float32([[1.5, 3], [2, 4]]))
    np.testing.assert_array_equal(pair.trg_px, np.float32([[5, 7], [6, 8]]))


def test_missing_columns_and_cells_are_named(tmp_path):
    write_csv(tmp_path / "val_pairs.csv", ["source_image", "target_image", "class"], [["a", "b", 1]])
    with pytest.raises(DataError, match=r"val_pairs\.csv: the column 'flip' is missing"):
        PfPascalDataset(tmp_path, "val")
    write_csv(tmp_path / "test_pairs.csv", TEST_HEADER, [["a.jpg", "b.jpg", 1]])
    with pytest.raises(DataError, match=r"test_pairs\.csv, line 2: the row has not as many cells"):
        PfPascalDataset(tmp_path, "test")


@pytest.mark.parametrize(
    ("split", "rows", "distinct"), [("train", 2940, 2452), ("val", 308, 308), ("test", 299, 299)]
)
def test_the_published_lists_are_read_whole(tmp_path, shared_data, split, rows, distinct):
    """The real lists with stand-ins for the pictures and annotations, which cannot be shared."""
    source = shared_data / "pf-pascal-lists" / f"{split}_pairs.csv"
    (tmp_path / source.name).symlink_to(source)
    stems = {
        cell.split("/")[-1][:-4]
        for line in source.read_text().splitlines()[1:]
        for cell in line.split(",")[:2]
    }
    pictures = tmp_path / "PF-dataset-PASCAL" / "JPEGImages"
    write_picture(tmp_path / "blank.jpg", (320, 320))
    savemat(tmp_path / "kps.mat", {"kps": [[1.0, 1], [NAN, NAN], [300, 200]]})
    pictures.mkdir(parents=True)
    for category in VOC_CATEGORIES:
        (tmp_path / "PF-dataset-PASCAL" / "Annotations" / category).mkdir(parents=True)
    for stem in stems:
        (pictures / f"{stem}.jpg").symlink_to(tmp_path / "blank.jpg")
    for line in source.read_text().splitlines()[1:]:
        src, trg, index = line.split(",")[:3]
        for picture in (src, trg):
            name = f"Annotations/{VOC_CATEGORIES[int(index) - 1]}/{picture.split('/')[-1][:-4]}.mat"
            annotation = tmp_path / "PF-dataset-PASCAL" / name
            if split != "test" and not annotation.exists():
                annotation.symlink_to(tmp_path / "kps.mat")

    dataset = PfPascalDataset(tmp_path, split)
    pairs = list(dataset)

    assert len(pairs) == len({pair.pair_id for pair in pairs}) == rows
    assert len({(p.category, p.src.image_id, p.trg.image_id) for p in pairs}) == distinct
    assert dataset.categories == tuple(sorted(VOC_CATEGORIES))
    assert sum(pair.src.flip for pair in pairs) == (1470 if split == "train" else 0)
    if split == "test":
        assert {len(pair.src_px) for pair in pairs} == set(range(4, 18))
        np.testing.assert_allclose(pairs[0].trg_px[-1], [231.41072, 86.1214285714286], rtol=1e-6)
