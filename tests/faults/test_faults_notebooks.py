"""Notebooks that are none, and outputs that no regular expression survives."""

import json
import time

import pytest
from nbformat import v4
from refusal import refused
from tiny_notebooks import write_notebook

from sd4match_lib.config.profile import load_profile
from sd4match_lib.reproduce.notebook import clean_notebook, literal_path, open_notebook

CELL = {
    "cell_type": "code",
    "id": "a",
    "metadata": {},
    "outputs": [],
    "source": "x = 1",
    "execution_count": None,
}

FILES = {
    "empty": b"",
    "text": b"print('hello')",
    "binary": bytes(range(256)),
    "cut off": b'{"cells": [{"cell_type": "co',
    "conflict marks": b'{\n<<<<<<< ours\n "cells": []\n=======\n "cells": []\n>>>>>>> theirs\n}',
    "list": b"[]",
    "number": b"4",
    "no format": b'{"cells": []}',
    "format 2": b'{"nbformat": 2, "nbformat_minor": 0, "metadata": {}, "worksheets": []}',
    "format 3": b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": []}]}',
    "format 5": b'{"nbformat": 5, "nbformat_minor": 0, "metadata": {}, "cells": []}',
    "format as text": b'{"nbformat": "4", "nbformat_minor": 5, "metadata": {}, "cells": []}',
    "no cells": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "cells no list": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": {}}',
    "cells of numbers": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [1]}',
    "a cell without a kind": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
    "nested deep": b"[" * 100_000,
    "a source that is a number": json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [CELL | {"source": 3}]}
    ).encode(),
}


def with_cell(**over):
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [CELL | over]}


CONTENTS = [
    *(with_cell(metadata=value) for value in ([], None, {"tags": "parameters"}, {"tags": [3]})),
    *(with_cell(id=value) for value in (3, "x" * 100, "a b")),
    *(with_cell(source=value) for value in ([1, 2], "x = '\ud800'", "x = '\0'", None)),
    *(with_cell(outputs=value) for value in ({}, [1], [{"output_type": "poem"}])),
    *(with_cell(cell_type=value) for value in ("haiku", None)),
    *(with_cell() | {"nbformat_minor": value} for value in ("5", None)),
    *(with_cell() | {"metadata": value} for value in (None, {"kernelspec": 3})),
    *(with_cell() | {"nbformat": value} for value in (True, "4")),
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: json.dumps(content)[-60:])
def test_a_notebook_with_a_field_that_means_nothing_is_named(tmp_path, content):
    (tmp_path / "00_a.ipynb").write_text(json.dumps(content))
    refused(lambda: open_notebook(tmp_path / "00_a.ipynb", load_profile("mini"), {}), "00_a.ipynb")


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_notebook_that_is_none_is_named(tmp_path, content):
    (tmp_path / "00_a.ipynb").write_bytes(content)
    refused(lambda: open_notebook(tmp_path / "00_a.ipynb", load_profile("mini"), {}), "00_a.ipynb")


def test_a_folder_in_the_place_of_a_notebook_is_named(tmp_path):
    (tmp_path / "00_a.ipynb").mkdir()
    refused(lambda: open_notebook(tmp_path / "00_a.ipynb", load_profile("mini"), {}), "00_a.ipynb", "folder")


def test_braces_in_a_path_are_no_parameters(tmp_path):
    source = write_notebook(tmp_path / "{WORD} {0}" / "00_a.ipynb")
    assert open_notebook(source, load_profile("mini"), {"WORD": "x"}).parameters["WORD"] == "x"
    assert literal_path(source).format() == str(source)


def stream(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def cleaned(tmp_path, *outputs):
    cell = v4.new_code_cell("x", id="a", outputs=list(outputs))
    path = tmp_path / "executed.ipynb"
    path.write_text(json.dumps(v4.new_notebook(cells=[cell])))
    return clean_notebook(path, tmp_path).cells[0].outputs


def test_a_line_of_a_megabyte_is_cleaned_at_once(tmp_path):
    started = time.process_time()
    (output,) = cleaned(tmp_path, stream("x" * 10**6))
    assert output.text == "x" * 10**6
    assert time.process_time() - started < 5, "a regular expression takes minutes for it"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10 %\r100 %\n", "100 %\n"),
        ("a\rb\r\nc", "b\r\nc"),
        ("a\nb\rc\nd", "a\nc\nd"),
        ("a\r", ""),
        ("", ""),
        ("\r\n", "\r\n"),
    ],
)
def test_what_a_terminal_overwrites_is_not_kept(tmp_path, text, shown):
    assert cleaned(tmp_path, stream(text))[0].text == shown


def test_pieces_of_a_stream_are_joined_and_the_error_stream_comes_second(tmp_path):
    outputs = cleaned(tmp_path, stream("e1", "stderr"), stream("a"), stream("b"), stream("e2", "stderr"))
    assert [(output.name, output.text) for output in outputs] == [("stdout", "ab"), ("stderr", "e1e2")]
