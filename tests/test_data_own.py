import json

import numpy as np
import pytest
from layouts import write_csv, write_picture

from sd4match_lib.data.own import OwnPairs
from sd4match_lib.data.types import ThresholdRule
from sd4match_lib.errors import DataError


@pytest.fixture
def photos(tmp_path):
    for name in ("cat.jpg", "dog.png", "more/cat.jpg"):
        write_picture(tmp_path / name)
    return tmp_path


def test_csv_and_json_say_the_same(photos):
    write_csv(
        photos / "pairs.csv",
        ["src", "trg", "category", "src_points", "trg_points"],
        [["cat.jpg", "dog.png", "cat", "1,2; 3.5,4", "5,6;7,8"], ["cat.jpg", "more/cat.jpg", "", "9,9", ""]],
    )
    entries = [
        {"src": "cat.jpg", "trg": "dog.png", "category": "cat", "src_points": [[1, 2], [3.5, 4]],
         "trg_points": "5,6;7,8"},
        {"src": "cat.jpg", "trg": str(photos / "more" / "cat.jpg"), "src_points": [[9, 9]]},
    ]  # fmt: skip
    (photos / "pairs.json").write_text(json.dumps(entries))

    for name in ("pairs.csv", "pairs.json"):
        known, open_end = OwnPairs(photos / name, "test")
        np.testing.assert_array_equal(known.src_px, np.float32([[1, 2], [3.5, 4]]))
        np.testing.assert_array_equal(known.trg_px, np.float32([[5, 6], [7, 8]]))
        assert known.has_truth and known.category == "cat" and known.threshold is ThresholdRule.IMAGE
        assert not open_end.has_truth and open_end.trg_px.shape == (1, 2)
        assert open_end.category == "object"
        assert known.src.hw_px == (40, 60)


def test_pictures_of_one_name_in_two_folders_stay_apart(photos):
    write_csv(photos / "pairs.csv", ["src", "trg", "src_points"], [["cat.jpg", "more/cat.jpg", "1,1"]])

    dataset = OwnPairs(photos / "pairs.csv", "test")

    assert list(dataset.images()) == ["object/cat", "object/cat~2"]
    assert dataset[0].trg.path == photos / "more" / "cat.jpg"


def test_the_fingerprint_sees_an_exchanged_picture(photos):
    write_csv(photos / "pairs.csv", ["src", "trg", "src_points"], [["cat.jpg", "dog.png", "1,1"]])
    before = OwnPairs(photos / "pairs.csv", "test").fingerprint()

    write_picture(photos / "dog.png", seed=9)

    assert OwnPairs(photos / "pairs.csv", "test").fingerprint() != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"src": ""}, "entry 1, field 'src'"),
        ({"trg": 5}, "entry 1, field 'trg'"),
        ({"src_points": ""}, "field 'src_points': there is no point"),
        ({"src_points": "1;2"}, "field 'src_points'"),
        ({"src_points": "1,a"}, "field 'src_points'"),
        ({"src_points": 7}, "field 'src_points'"),
        ({"src_points": [[1, 2], [3]]}, "field 'src_points'"),
        ({"trg_points": "1,2;3,4"}, "field 'trg_points': 2 points for 1 source points"),
        ({"category": "a/b"}, "field 'category'"),
        ({"src_pionts": "1,2"}, "'src_pionts' is unknown"),
    ],
)
def test_a_wrong_field_is_named(photos, change, words):
    entry = {"src": "cat.jpg", "trg": "dog.png", "src_points": "1,2"} | change
    (photos / "pairs.json").write_text(json.dumps([entry]))

    with pytest.raises(DataError) as caught:
        OwnPairs(photos / "pairs.json", "test")

    assert words in str(caught.value) and "pairs.json" in str(caught.value)


def test_points_outside_the_picture_are_refused(photos):
    write_csv(photos / "pairs.csv", ["src", "trg", "src_points"], [["cat.jpg", "dog.png", "20,55"]])

    with pytest.raises(DataError, match=r"pairs\.csv, line 2, field 'src_points'.*\(20, 55\).*60 x 40"):
        OwnPairs(photos / "pairs.csv", "test")[0]


def test_spreadsheets_byte_order_mark_is_no_part_of_the_header(photos):
    (photos / "pairs.csv").write_text('\ufeffsrc,trg,src_points\ncat.jpg,dog.png,"1,2"\n', encoding="utf-8")

    assert len(OwnPairs(photos / "pairs.csv", "test")) == 1
