"""Damaged lists and MATLAB files of PF-Pascal's and PF-Willow's layouts."""

import io
import zlib

import layouts
import numpy as np
import pytest
from refusal import refused
from scipy.io import savemat

from sd4match_lib.data.pf_pascal import PfPascalDataset
from sd4match_lib.data.pf_willow import PfWillowDataset

KPS = [[5.0, 6], [20, 10], [30, 30]]
INFINITE, NAN = float("inf"), float("nan")


def mat(**fields):
    stream = io.BytesIO()
    savemat(stream, fields)
    return stream.getvalue()


def packed_mat(size):
    """A compressed element that unpacks to `size` zeros."""
    data = zlib.compress(bytes(size), 9)
    return mat(x=np.zeros(1))[:128] + np.array([15, len(data)], "<i4").tobytes() + data


MATS = {
    "empty": b"",
    "text": b"kps = [1 2; 3 4]",
    "random": np.random.default_rng(0).bytes(500),
    "header only": mat(kps=np.array(KPS))[:128],
    "cut off": mat(kps=np.array(KPS))[:180],
    "another field": mat(points=np.array(KPS)),
    "text field": mat(kps="1 2 3"),
    "cells": mat(kps=np.array([[1, "a"]], dtype=object)),
    "struct": mat(kps={"x": np.zeros(3)}),
    "complex": mat(kps=np.array(KPS) * 1j),
    "infinite": mat(kps=np.full((3, 2), INFINITE)),
    "three columns": mat(kps=np.zeros((3, 3))),
    "three axes": mat(kps=np.zeros((3, 2, 2))),
    "far outside": mat(kps=np.full((3, 2), 1e9)),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(500),
    "matlab 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),
    "bomb": packed_mat(50 * 2**20),
    "too large": mat(kps=np.random.default_rng(0).random((40_000, 2))),
    "a promise of gigabytes": mat(kps=np.array(KPS)).replace(
        np.array([3, 2], "<i4").tobytes(), np.array([2**30, 2], "<i4").tobytes()
    ),
}


@pytest.fixture
def pascal(tmp_path):
    root = tmp_path / "pf"
    return layouts.write_pf_pascal(root, {"a": KPS, "b": KPS}, [["a", "b", 1, 0]])


@pytest.fixture
def willow(tmp_path):
    return layouts.write_pf_willow(tmp_path / "willow", {"car(G)": ["a", "b"]})


def listed_test(root, rows, header=("source_image", "target_image", "class", "XA", "YA", "XB", "YB")):
    layouts.write_csv(root / "test_pairs.csv", list(header), rows)
    return root


SAID_OF_MATS = {
    "cut off": "a.mat: ",
    "text": "a.mat: this is not a readable MATLAB file",
    "another field": "a.mat: the field 'kps' is missing",
    "three columns": "a.mat, field 'kps': the shape is (3, 3)",
    "text field": "a.mat: the field 'kps' is not a matrix of numbers",
    "gone": "a.mat: there is no such file",
}


@pytest.mark.parametrize("name", [*MATS, "gone"])
def test_an_annotation_of_pf_pascal_that_is_none_is_named(pascal, name):
    path = pascal / "PF-dataset-PASCAL/Annotations/aeroplane/a.mat"
    path.write_bytes(MATS[name]) if name in MATS else path.unlink()
    refused(lambda: PfPascalDataset(pascal, "train")[0], SAID_OF_MATS.get(name, ""))


@pytest.mark.parametrize("name", MATS)
def test_an_annotation_of_pf_willow_that_is_none_is_named(willow, name):
    path = willow / "PF-dataset/car(G)/a.mat"
    path.write_bytes(MATS[name].replace(b"\x03\x00kps", b"\x03\x00kps"))
    refused(lambda: PfWillowDataset(willow)[0], "a.mat")


PASCAL_ROW = [
    "PF-dataset-PASCAL/JPEGImages/a.jpg",
    "PF-dataset-PASCAL/JPEGImages/b.jpg",
    "1",
    "5;6",
    "6;7",
    "5;6",
    "6;7",
]
PASCAL_CELLS = [
    (0, "gone.jpg"),
    (0, ""),
    (0, "../../a.jpg"),
    (0, "/etc/passwd"),
    (0, "x" * 300),
    (0, "..\\a.jpg"),
    (1, "../b.jpg"),
    (1, "a/../../b.jpg"),
    (1, "PF-dataset-PASCAL"),
    (2, ""),
    (2, "0"),
    (2, "21"),
    (2, "-1"),
    (2, "1.5"),
    (2, "cat"),
    (2, "9" * 5000),
    (2, "\u0663"),
    (2, "1e0"),
    (3, "5"),
    (3, "5;x"),
    (3, "5;inf"),
    (3, "5;nan"),
    (3, "5;1e400"),
    (3, "5;" + "9" * 5000),
    (3, ""),
    (3, "5;5;5"),
    (4, "6;-500"),
    (5, "6;1e39"),
    (6, "a;b"),
    (6, "6,7"),
    (6, "6 7"),
]


SAID_OF_CELLS = {
    (2, "21"): "test_pairs.csv, line 2, column 'class': '21'",
    (3, "5;x"): "test_pairs.csv, line 2, column 'XA'",
    (4, "6"): "'XA', 'YA', 'XB', 'YB' hold 2, 1, 2, 2",
    (4, "6;"): "columns 'XA', 'YA': a coordinate is not a finite",
}


@pytest.mark.parametrize(
    ("column", "cell"), [*PASCAL_CELLS, (4, "6"), (4, "6;")], ids=lambda value: str(value)[:20]
)
def test_a_cell_of_pf_pascals_list_that_means_nothing_is_named(pascal, column, cell):
    row = list(PASCAL_ROW)
    row[column] = cell
    said = SAID_OF_CELLS.get((column, cell), "")
    refused(lambda: PfPascalDataset(listed_test(pascal, [row]), "test")[0], said)


def test_the_row_that_is_changed_above_is_whole(pascal):
    assert len(PfPascalDataset(listed_test(pascal, [PASCAL_ROW]), "test")[0].src_px) == 2


@pytest.mark.parametrize("flip", ["", "2", "yes", "-0", "1.0"])
def test_a_flip_that_is_neither_0_nor_1_is_named(pascal, flip):
    text = (pascal / "train_pairs.csv").read_text().replace(",1,0", f",1,{flip}")
    (pascal / "train_pairs.csv").write_text(text)
    refused(lambda: PfPascalDataset(pascal, "train"), f"train_pairs.csv, line 2, column 'flip': {flip!r}")


LISTS = {
    "empty": "",
    "header only, another": "a,b,c\n",
    "columns twice": "source_image,source_image,target_image,class,XA,YA,XB,YB\n",
    "ragged": "source_image,target_image,class,XA,YA,XB,YB\na,b\n",
    "surplus": "source_image,target_image,class,XA,YA,XB,YB\na,b,1,1,1,1,1,9,9\n",
    "an open quote": 'source_image,target_image,class,XA,YA,XB,YB\n"a,b,1,1,1,1,1\n',
    "binary": "\x00\x01\x02",
    "json": '{"source_image": 1}',
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("reader", [PfPascalDataset, PfWillowDataset])
def test_a_list_that_is_none_is_named(tmp_path, reader, text):
    (tmp_path / "test_pairs.csv").write_text(text)
    refused(lambda: reader(tmp_path, "test"), "test_pairs.csv")


WILLOW_HEADER = ["imageA", "imageB", "XA1", "XA2", "YA1", "YA2", "XB1", "XB2", "YB1", "YB2"]
WILLOW_ROW = ["PF-dataset/car(G)/a.png", "PF-dataset/car(G)/b.png", 5, 9, 6, 9, 5, 9, 6, 9]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        (0, "../a.png"),
        (0, "/etc/passwd"),
        (0, ""),
        (1, "gone.png"),
        (1, "x" * 300),
        (2, "x"),
        (2, "inf"),
        (3, "1e400"),
        (4, "-900"),
        (5, "9" * 5000),
        (6, "1;2"),
        (7, "5e38"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_cell_of_pf_willows_list_that_means_nothing_is_named(willow, column, cell):
    row = list(WILLOW_ROW)
    row[column] = cell
    layouts.write_csv(willow / "test_pairs.csv", WILLOW_HEADER, [row])
    refused(lambda: PfWillowDataset(willow)[0])


def test_a_pair_that_is_listed_twice_is_named_before_anything_is_matched(willow):
    layouts.write_csv(willow / "test_pairs.csv", WILLOW_HEADER, [WILLOW_ROW, WILLOW_ROW])
    refused(lambda: PfWillowDataset(willow), "test_pairs.csv", "twice")
