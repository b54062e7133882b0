"""Damaged files of a user's own: pairs, points, and the predictions of other systems."""

import json

import layouts
import pytest
from refusal import refused

from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.own import OwnPairs
from sd4match_lib.evaluation.predictions import parse_frame, read_predictions
from sd4match_lib.evaluation.score import score, template
from sd4match_lib.matcher.files import read_points

GOOD = {"src": "a.png", "trg": "b.png", "src_points": [[5, 6]], "trg_points": [[7, 8]], "category": "cat"}
INFINITE, NAN = float("inf"), float("nan")

FIELDS = [
    *(
        ("src", value)
        for value in (
            None,
            "",
            "  ",
            3,
            [],
            "gone.png",
            "x" * 300,
            "folder",
            "../a.png",
            "/etc/passwd",
            "pairs.json",
            "~nobody/x",
            ".",
            "a.png\\\\",
        )
    ),
    *(("trg", value) for value in (None, "", True, {}, "gone/b.png", "a.png/b.png", "nul\\u0000")),
    *(
        ("src_points", value)
        for value in (
            None,
            [],
            3,
            "5",
            "5,6,7",
            "x,y",
            "5;6",
            [[1]],
            [[1, 2, 3]],
            [[None, 1]],
            [["1", "2"]],
            [[True, False]],
            [[NAN, 1]],
            [[INFINITE, 2]],
            [[1e39, 1]],
            [[500, 5]],
            [[-5, 5]],
            {"x": 1},
            "nan,1",
            "inf,1",
            "1e400,2",
            "0x10,5",
            0,
            False,
            {},
            [[]],
            "1_0,5",
            "\uff11\uff12,5",
            "5,6;7",
            [[5, 6], [7]],
            [[5, 6], None],
            [[[5, 6]]],
            [[10**30, 1]],
        )
    ),
    *(
        ("trg_points", value)
        for value in ([[1, 2], [3, 4]], [[900, 1]], "1,2;3,4", [[1, "2"]], 7, {"a": 1}, 0, False, {}, [[]])
    ),
    *(
        ("category", value)
        for value in (
            "a/b",
            "../x",
            3,
            0,
            False,
            [],
            {},
            ["cat"],
            "x" * 100,
            "two\\nlines",
            "\\u0000",
            "\\u202e",
        )
    ),
    ("surplus", 1),
]

FILES = {
    "empty.json": "",
    "open.json": "{",
    "object.json": "{}",
    "numbers.json": "[1, 2]",
    "none.json": "[]",
    "deep.json": "[" * 100_000,
    "surrogate.json": '[{"src": "\\ud800"}]',
    "empty.csv": "",
    "header.csv": "src,trg,src_points\n",
    "lacks.csv": "src,trg\na.png,b.png\n",
    "commas.csv": "src,trg,src_points\na.png,b.png,1,2\n",
    "twice.csv": "src,src,trg,src_points\na.png,a.png,b.png,1\n",
    "wide.csv": 'src,trg,src_points\na.png,b.png,"' + "1,2;" * 60_000 + '"\n',
    "nul.csv": "src,trg,src_points\n\0,b.png,1\n",
    "text.txt": "src trg",
}

SAID = {
    "commas.csv": "line 2: the row has not as many cells",
    "lacks.csv": "the column 'src_points' is missing",
    "header.csv": "there is no pair in the file",
    "open.json": "not valid JSON",
    "object.json": "must be a JSON list of objects",
    "text.txt": "a .csv or a .json file",
    "gone.csv": "gone.csv: there is no such file",
}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        layouts.write_picture(tmp_path / name)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda value: repr(value)[:30])
def test_a_field_of_a_pair_that_means_nothing_is_named(folder, field, value):
    text = json.dumps([GOOD | {field: value}]).replace("\\\\u", "\\u").replace("\\\\n", "\\n")
    (folder / "pairs.json").write_text(text)
    refused(lambda: OwnPairs(folder / "pairs.json", "test")[0])


@pytest.mark.parametrize("name", [*FILES, "gone.csv"])
def test_a_file_of_pairs_that_is_none_is_named(folder, name):
    (folder / name).write_text(FILES[name]) if name in FILES else None
    refused(lambda: OwnPairs(folder / name, "test")[0], name, SAID.get(name, ""))


@pytest.mark.parametrize(
    "text",
    ["", "5", "5,6,7", "a,b", "5,6;", "nan,1", "inf,1", "1e400,1", "5,,6", "5.5.5,1", "9" * 5000 + ",x"],
)
def test_points_that_are_none_are_refused(text):
    if text == "5,6;":  # a semicolon too many does no harm
        assert len(read_points(text, None)) == 1
    else:
        refused(lambda: read_points(text, None), "--points")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "a,b\n1,2\n"),
        ("p.csv", "x,y\n1\n"),
        ("p.csv", "x,y\n"),
        ("p.json", "3"),
        ("p.json", '{"x": 1}'),
        ("p.json", "[[1]]"),
        ("p.json", "[[NaN, 1]]"),
        ("p.json", '{"points": [[1, "2"]]}'),
        ("p.txt", "1,2"),
    ],
)
def test_a_file_of_points_that_is_none_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    refused(lambda: read_points(None, tmp_path / name), name)


ROWS = {
    "no such pair": ("000009:cat/a-b,0,1,1", "line 2: pair '000009:cat/a-b' is none of the 1"),
    "no such keypoint": ("{id},7,1,1", "line 2: pair {id} has no keypoint '7', only 0"),
    "twice": ("{id},0,1,1\n{id},0,2,2", "line 3: keypoint 0 of pair {id} is there twice"),
    "no x": ("{id},0,,1", "line 2, column x: '' is not a number"),
    "words": ("{id},0,left,1", ""),
    "nan": ("{id},0,nan,1", ""),
    "infinite": ("{id},0,inf,1", ""),
    "too large": ("{id},0,1e999,1", "line 2, column x: '1e999' is too large"),
    "beyond float32": ("{id},0,1,-1e39", "line 2, column y: '-1e39' is too large"),
    "beyond float32 in another frame": ("{id},0,3e38,1", "line 2, column x: '3e38' is too large"),
    "an underscore": ("{id},0,1_0,1", "line 2, column x: '1_0' is not a number"),
    "digits of another script": ("{id},0,\uff11\uff12,1", "column x: '\uff11\uff12' is not a number"),
    "5,000 digits": ("{id},0," + "9" * 5000 + ".x,1", ""),
    "too few cells": ("{id},0,1", ""),
    "too many cells": ("{id},0,1,1,1,1", ""),
    "nothing": ("", "no prediction for pair {id}"),
    "outside": ("{id},0,9000,9000", "lie outside their target pictures"),
    "markup": ("![x](a.png),0,1,1", ""),
    **{text: (f"{{id}},0,{text},1", "") for text in ("0x10", "1j", "50%", "1e", "++1", "-inf", '"1,5"')},
}


@pytest.mark.parametrize(("rows", "words"), ROWS.values(), ids=ROWS)
def test_predictions_that_do_not_fit_are_named(folder, rows, words):
    (folder / "pairs.json").write_text(json.dumps([GOOD]))
    pairs = list(OwnPairs(folder / "pairs.json", "test"))
    path = folder / "predictions.csv"
    path.write_text("pair_id,keypoint,x,y\n" + rows.replace("{id}", pairs[0].pair_id) + "\n")
    said = words.replace("{id}", pairs[0].pair_id)
    refused(lambda: read_predictions(path, pairs, None), "predictions.csv", said)


def test_a_split_without_pairs_has_nothing_to_score(tmp_path):
    root = layouts.write_spair(tmp_path / "SPair-71k", [("a", "b", "cat")])
    (root / "Layout" / "large" / "val.txt").write_text("")
    request = {"dataset": "spair", "split": "val", "data_root": root}
    for call in (score, template):
        refused(
            lambda call=call: call(load_profile("mini"), tmp_path / "p.csv", **request), "no pairs to score"
        )


@pytest.mark.parametrize(
    "frame",
    ["", "pixels", "0x240", "240x", "240 x 240", "240", "-1x5", "240x240x3", "9" * 400 + "x1", "1e3x1", "PX"],
)
def test_a_frame_that_is_none_is_refused(frame):
    refused(lambda: parse_frame(frame), "there is no frame")
