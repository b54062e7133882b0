"""Damaged annotations and lists of SPair-71k's layout: one sentence that names file and field."""

import json
import os

import layouts
import pytest
from refusal import refused

from sd4match_lib.data.spair import SpairDataset

PAIR = ("2008_a", "2008_b", "cat")
NAME = "000001-2008_a-2008_b:cat"
DEEP = 100_000

INFINITE, NAN = float("inf"), float("nan")
NUMBERS = [None, True, "1", "no", [], {}, 1.5, -1, 7, 10**12, INFINITE, NAN]
POINTS = [
    None,
    3,
    "3",
    True,
    {},
    [],
    [[]],
    [3],
    [[1]],
    [[1, 2, 3]],
    [[1, 2], [3]],
    [[1, None]],
    [["1", "2"]],
    [[True, False]],
    [[NAN, 1]],
    [[INFINITE, 1]],
    [[1e300, 1]],
    [[-99, 5]],
    [[5, 5000]],
    [[[1, 2]]],
    [[1, 2]],
    [[1, 2], [NAN, 2], [3, 4]],
    [[10, 20], [30, 12], [75, 5]],
    [{"x": 1, "y": 2}],
]
BOXES = [
    None,
    3,
    "0 0 9 9",
    [],
    [1, 2, 3],
    [1, 2, 3, 4, 5],
    [1, 2, 3, None],
    ["1", "2", "3", "4"],
    [True, True, 9, 9],
    [9, 9, 1, 1],
    [5, 5, 5, 9],
    [NAN, 1, 9, 9],
    [0, 0, INFINITE, 9],
    [-INFINITE, 0, 9, 9],
    [-500, 0, 9, 9],
    [0, 0, 9, 4000],
    [500, 500, 600, 600],
    [1e300, 0, 2e300, 9],
]
SIZES = [None, 7, "60x40", [], [60], [40, 60], [40, 60, 3], [60, 41], [60.5, 40], ["60", "40"], [NAN, NAN]]
IDS = [
    None,
    3,
    "abc",
    [],
    ["0", "4"],
    ["0", "4", "4"],
    [0, 4, None],
    [[0], [4], [11]],
    [0, 4, True],
    [{}, {}, {}],
]

OTHERS = [None, 3, "", [], "2008_c.jpg", "../2008_a.jpg"]

CASES = [
    *(("viewpoint_variation", value) for value in [*NUMBERS, 3]),
    *(("scale_variation", value) for value in [*NUMBERS, 3]),
    *(("truncation", value) for value in [*NUMBERS, 4]),
    *(("occlusion", value) for value in [*NUMBERS, 4]),
    *(("src_kps", value) for value in POINTS),
    *(("trg_kps", value) for value in POINTS),
    *(("src_bndbox", value) for value in BOXES),
    *(("trg_bndbox", value) for value in BOXES),
    *(("src_imsize", value) for value in SIZES),
    *(("trg_imsize", value) for value in SIZES),
    *(("kps_ids", value) for value in IDS),
    *(("src_imname", value) for value in OTHERS),
    *(("trg_imname", value) for value in OTHERS),
    *(("category", value) for value in [*OTHERS, "dog"]),
    *(("mirror", value) for value in [*NUMBERS, 2]),
]
NAMING = ("src_imname", "trg_imname", "category", "mirror")
"""What an annotation may leave out: the pair's name says it."""

FILES = {
    "empty": b"",
    "cut off": b'{"src_kps": [[10, 20], [30',
    "no object": b"[1, 2, 3]",
    "a number": b"17",
    "binary": bytes(range(256)),
    "utf-16": '{"src_kps": []}'.encode("utf-16"),
    "a lone surrogate": b'{"category": "\\ud800"}',
    "a NUL": b'{"category": "a\\u0000b"}',
    "nested deep": b"[" * DEEP + b"]" * DEEP,
    "nested somewhat": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    "400 digits": b'{"truncation": ' + b"9" * 400 + b"}",
    "5,000 digits": b'{"truncation": ' + b"9" * 5000 + b"}",
    "two values": b"{} {}",
    "a comment": b"// SPair\n{}",
    "conflict marks": b"<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n",
}

LINES = {
    "no category": "000001-2008_a-2008_b",
    "unknown category": "000001-2008_a-2008_b:unicorn",
    "one stem": "000001-2008_a:cat",
    "four parts": "000001-2008_a-2008_b-c:cat",
    "spaces": "000001 2008_a 2008_b:cat",
    "markup": "![x](a.png):cat",
    "a terminal's escape": "\x1b[31m1-2-3:dog\x1b[0m:cat-",
}

ESCAPES = ["../../../secret", "/etc/passwd", "a/../../b", "x" * 300, "nul\0byte", "..\\..\\b"]


@pytest.fixture
def root(tmp_path):
    return layouts.write_spair(tmp_path / "data", [PAIR])


def annotation(root):
    return root / "PairAnnotation" / "test" / f"{NAME}.json"


@pytest.mark.parametrize(("field", "value"), CASES, ids=lambda value: repr(value)[:40])
def test_a_field_that_means_nothing_is_named(root, field, value):
    annotation(root).write_text(json.dumps(layouts.spair_annotation(*PAIR) | {field: value}))
    refused(lambda: SpairDataset(root, "test")[0], f"{NAME}.json", field)


@pytest.mark.parametrize(
    "field", [name for name in layouts.spair_annotation(*PAIR) if name in dict(CASES) and name not in NAMING]
)
def test_a_missing_field_is_named(root, field):
    fields = layouts.spair_annotation(*PAIR)
    del fields[field]
    annotation(root).write_text(json.dumps(fields))
    refused(lambda: SpairDataset(root, "test")[0], f"{NAME}.json", f"'{field}' is missing")


def test_an_annotation_may_leave_out_what_the_pairs_name_says(root):
    fields = layouts.spair_annotation(*PAIR)
    for field in NAMING:
        del fields[field]
    annotation(root).write_text(json.dumps(fields))
    assert SpairDataset(root, "test")[0].category == "cat"


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_an_annotation_that_is_none_is_named(root, content):
    annotation(root).write_bytes(content)
    refused(lambda: SpairDataset(root, "test")[0], f"{NAME}.json")


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_that_names_no_pair_is_named(root, line):
    listed = root / "Layout" / "large" / "test.txt"
    listed.write_text(f"{NAME}\n{line}\n", encoding="utf-8")
    refused(lambda: SpairDataset(root, "test"), "test.txt", "fetch")


@pytest.mark.parametrize("stem", ESCAPES)
def test_no_line_leads_out_of_the_data(root, stem):
    secret = root.parent.parent / "secret.jpg"
    layouts.write_picture(secret)
    (root / "Layout" / "large" / "test.txt").write_text(f"000001-{stem}-2008_b:cat\n")
    refused(lambda: SpairDataset(root, "test")[0])
    secret.unlink()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"1-2-3:cat\n\0\n", f"{NAME}\n{NAME}\n".encode()])
def test_a_list_that_is_none_is_named(root, content):
    (root / "Layout" / "large" / "test.txt").write_bytes(content)
    refused(lambda: SpairDataset(root, "test"), "test.txt")


@pytest.mark.parametrize("what", ["Layout/large/test.txt", f"PairAnnotation/test/{NAME}.json"])
def test_a_folder_in_the_place_of_a_file_is_named(root, what):
    (root / what).unlink()
    (root / what).mkdir()
    refused(lambda: SpairDataset(root, "test")[0], os.path.basename(what), "folder")


@pytest.mark.parametrize("what", ["Layout/large/test.txt", f"PairAnnotation/test/{NAME}.json"])
def test_a_pipe_is_not_waited_for(root, what):
    (root / what).unlink()
    os.mkfifo(root / what)
    refused(lambda: SpairDataset(root, "test")[0], os.path.basename(what), "pipe")
