"""Damaged annotations of AP-10K, in both of its layouts, and of SPair-U."""

import json
import os

import layouts
import pytest
from refusal import refused

from sd4match_lib.data.ap10k import KEYPOINTS, Ap10kDataset
from sd4match_lib.data.spair_u import SpairUDataset

INFINITE, NAN = float("inf"), float("nan")
ANNOTATION = "ImageAnnotation/Canidae/dog/2.json"
PAIR = "PairAnnotation/test/1-2:dog.json"
PICTURE = "JPEGImages/Canidae/dog/2.jpg"
COCO = "annotations/ap10k-test-split1.json"


def animal(number):
    return {
        "id": 100 + number,
        "image_id": number,
        "bbox": [2, 3, 40, 30],
        "keypoints": [10, 20, 2] * len(KEYPOINTS),
        "width": 60,
        "height": 40,
    }


@pytest.fixture
def arranged(tmp_path):
    """Two dogs as GeoAware-SC arranges them."""
    for number in (1, 2):
        layouts.write_picture(tmp_path / f"JPEGImages/Canidae/dog/{number}.jpg", seed=number)
        write(tmp_path / f"ImageAnnotation/Canidae/dog/{number}.json", animal(number))
    return listed(tmp_path)


@pytest.fixture
def released(tmp_path):
    """The same dogs as AP-10K is released."""
    for number in (1, 2):
        layouts.write_picture(tmp_path / f"data/{number}.jpg", seed=number)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 60, "height": 40} for n in (1, 2)]
    annotations = [{k: v for k, v in animal(n).items() if k not in ("width", "height")} for n in (1, 2)]
    write(tmp_path / COCO, {"images": images, "annotations": annotations})
    return listed(tmp_path)


def listed(root):
    sides = [f"data/ap-10k/ImageAnnotation/Canidae/dog/{number}.json" for number in (1, 2)]
    write(root / PAIR, {"src_json_path": sides[0], "trg_json_path": sides[1]})
    return root


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def change(path, **fields):
    write(path, json.loads(path.read_text()) | fields)


def use(root):
    """All that an evaluation does with a pair, but for matching it."""
    dataset = Ap10kDataset(root, "test")
    dataset.fingerprint()
    dataset[0].trg.read()


@pytest.mark.parametrize("layout", ["arranged", "released"])
def test_what_is_damaged_below_is_whole(layout, request):
    use(request.getfixturevalue(layout))


FIELDS = [
    *(("keypoints", value) for value in (None, "x", 3, [], [1] * 50, [[1] * 51], ["1"] * 51, [True] * 51)),
    *(("keypoints", value) for value in ([NAN] * 51, [INFINITE] * 51, [10**30] * 51, [None] * 51)),
    *(("keypoints", [5, 5, seen] * 17) for seen in (7, -1, 0.5)),
    *(("keypoints", [x, 5, 2] * 17) for x in (-500, 900, 1e9)),
    *(("bbox", value) for value in (None, "x", [], [1, 2, 3], ["1", "2", "3", "4"], [True] * 4, [NAN] * 4)),
    *(("bbox", value) for value in ([1, 2, 0, 0], [1, 2, -5, 5], [-900, -900, 5, 5], [10**6, 1, 5, 5])),
    *(("bbox", value) for value in ([1, 2, 1e9, 1e9], [INFINITE] * 4)),
    *((side, value) for side in ("width", "height") for value in (None, "60", 0, -1, 10**30, NAN, [])),
]


WORDS = [
    ("keypoints", [1, 2, 2], "field 'keypoints': this is not 51 numbers"),
    ("keypoints", [INFINITE] * 51, "field 'keypoints': this is not 51 numbers"),
    ("keypoints", [0] * 51, "share no keypoint"),
    ("keypoints", [400, 20, 2] * 17, "outside its picture"),
    ("bbox", [1, 2, 0, 5], "has no area"),
    ("bbox", "box", "field 'bbox': this is not 4 numbers"),
    ("width", 90, "is not the size of"),
]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [*((field, value, field) for field, value in FIELDS), *WORDS],
    ids=lambda value: repr(value)[:30],
)
def test_a_field_of_an_animal_that_means_nothing_is_named(arranged, field, value, words):
    change(arranged / ANNOTATION, **{field: value})
    refused(lambda: use(arranged), "2.json", words)


CONTENTS = {
    "empty": "",
    "list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "digits": '{"a": ' + "9" * 5000 + "}",
    "surrogate": '{"src_json_path": "\\ud800"}',
    "conflict marks": "<<<<<<< ours\n{}",
}


@pytest.mark.parametrize("content", [*CONTENTS.values(), "folder", "pipe", "gone"], ids=lambda c: c[:20])
@pytest.mark.parametrize("name", [ANNOTATION, PAIR])
def test_an_annotation_that_is_none_is_named(arranged, name, content):
    spoil(arranged / name, content)
    refused(lambda: use(arranged), *([] if (name, content) == (PAIR, "gone") else [os.path.basename(name)]))


@pytest.mark.parametrize("content", ["", "no picture", "folder", "pipe", "gone"])
def test_a_picture_that_is_none_is_named(arranged, content):
    spoil(arranged / PICTURE, content)
    refused(lambda: use(arranged), "2.jpg")


def spoil(path, content):
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content != "gone":
        path.write_text(content)


@pytest.mark.parametrize(
    "text",
    [
        None,
        3,
        [],
        "",
        "ImageAnnotation/",
        "ImageAnnotation/a/b",
        "ImageAnnotation/../../etc/passwd.json",
        "ImageAnnotation/../dog/1.json",
        "ImageAnnotation/Canidae/../1.json",
        "ImageAnnotation/Canidae/dog/gone.json",
        "ImageAnnotation/Canidae/dog/\0.json",
        "ImageAnnotation/Canidae/dog/" + "x" * 300,
        "ImageAnnotation/Canidae/two\nlines/1.json",
        "x" * 10**6,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_pairs_path_that_leads_nowhere_is_named(arranged, text):
    change(arranged / PAIR, src_json_path=text)
    refused(lambda: use(arranged))


RELEASED = [
    *(("images", "id", value) for value in ([], {}, None, "x", 1.5, True)),
    *(("images", "file_name", value) for value in (None, [], "", "../2.jpg")),
    *(("images", "width", value) for value in ("60", None, [])),
    *(("annotations", "image_id", value) for value in ([], {}, None, NAN)),
    *(("annotations", "keypoints", value) for value in (3, [], None)),
    ("annotations", "bbox", None),
]


@pytest.mark.parametrize(("part", "field", "value"), RELEASED, ids=lambda value: repr(value)[:20])
def test_a_field_of_the_release_that_means_nothing_is_refused(released, part, field, value):
    content = json.loads((released / COCO).read_text())
    content[part] = [entry | {field: value} for entry in content[part]]
    write(released / COCO, content)
    if (field, value) == ("file_name", "../2.jpg"):  # only its stem counts
        content[part][0]["file_name"] = "1.jpg"
        write(released / COCO, content)
        use(released)
    else:
        refused(lambda: use(released))


@pytest.mark.parametrize("content", [*CONTENTS.values(), '{"images": {}}', '{"images": [1]}', "pipe"])
def test_a_release_that_is_none_is_named(released, content):
    spoil(released / COCO, content)
    refused(lambda: use(released), COCO)


def test_names_that_are_not_unicode_are_named(arranged, tmp_path):
    os.rename(arranged / PAIR, os.fsencode(arranged) + b"/PairAnnotation/test/\xff.json")
    refused(lambda: use(arranged), "\\udcff", "not valid Unicode")
    folder = tmp_path / "SPair-U" / "PairAnnotation" / "test"
    folder.mkdir(parents=True)
    os.close(os.open(os.fsencode(folder) + b"/\xff.json", os.O_CREAT))
    refused(lambda: SpairUDataset(tmp_path / "SPair-U"), "\\udcff", "not valid Unicode")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "category,keypoint,group,twin\ncat,0\n",
        "category,keypoint,group,twin\ncat,0,a,\ncat,0,a,\n",
        "category,keypoint,group,twin\ncat,0,a,1\n",
        "category,keypoint,group,twin\ncat,\0,a,\n",
        'category,keypoint,group,twin\n"cat,0,a,\n',
    ],
)
def test_a_table_of_likes_that_is_none_is_named(tmp_path, text):
    root = layouts.write_spair(tmp_path / "SPair-U", [("a", "b", "cat")])
    (root / "keypoint_symmetry.csv").write_text(text)
    refused(lambda: SpairUDataset(root).symmetry, "keypoint_symmetry.csv")
