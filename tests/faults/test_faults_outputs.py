"""Outputs: never over an input, through links, to streams; and names from outside in the report."""

import json
import os
import re
import subprocess
import sys
import time

import layouts
import pandas as pd
import pytest
from refusal import refused

from sd4match_lib.errors import DataError, WriteError
from sd4match_lib.report.html import html_page
from sd4match_lib.report.tables import markdown_table
from sd4match_lib.utils.files import atomic_write_text, check_output

HOSTILE = [
    "![x](../secret.png)",
    "![x](/etc/passwd)",
    "![x](http://evil.example/a.png)",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "a|b",
    "two\nlines",
    "`code`",
    "\u202eright to left",
]


def test_an_output_that_is_an_input_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("picture")
    (tmp_path / "link.png").symlink_to("a.png")
    os.link(tmp_path / "a.png", tmp_path / "hard.png")
    for name in ("a.png", "link.png", "hard.png", "./a.png"):
        refused(lambda name=name: check_output(tmp_path / name, tmp_path / "a.png"), "overwritten")
    check_output(tmp_path / "b.png", tmp_path / "a.png")


@pytest.mark.parametrize("place", ["folder", "file/x.json", "x" * 300, "nul\0byte"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError) as caught:
        atomic_write_text(tmp_path / place, "text")
    assert str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_link_is_followed_and_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("there.txt", "dangling.txt"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere" / "there.txt").write_text("old")
    for name in ("there.txt", "dangling.txt"):
        atomic_write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / "elsewhere" / name).read_text() == "new"


def test_a_link_that_leads_back_to_itself_is_refused(tmp_path):
    (tmp_path / "a.txt").symlink_to("b.txt")
    (tmp_path / "b.txt").symlink_to("a.txt")
    with pytest.raises(WriteError, match=r"a\.txt cannot be used"):
        atomic_write_text(tmp_path / "a.txt", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_standard_output_is_written_to_and_not_replaced(tmp_path):
    script = "from sd4match_lib.utils.files import atomic_write_text as w\nprint('zero')\n"
    script += "w('/dev/stdout', 'one\\n'); w('/dev/fd/1', 'two\\n'); print('three')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "zero\none\ntwo\nthree\n"
    with (tmp_path / "kept.txt").open("w") as stream:
        subprocess.run([sys.executable, "-c", script], stdout=stream, check=True)
    assert (tmp_path / "kept.txt").read_text() == "zero\none\ntwo\nthree\n"


def test_a_pipe_is_written_to_where_somebody_reads_it_and_not_waited_for_otherwise(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="pipe"):
        atomic_write_text(tmp_path / "pipe", "text")
    script = f"print(open({str(tmp_path / 'pipe')!r}).read(), end='')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=-1, text=True) as reader:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                atomic_write_text(tmp_path / "pipe", "text" * 100_000)
                break
            except WriteError:  # the reader has not opened it yet
                time.sleep(0.05)
        assert reader.communicate()[0] == "text" * 100_000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_from_outside_is_text_in_tables_and_pages(tmp_path, name):
    (tmp_path / "figures").mkdir()
    layouts.write_picture(tmp_path.parent / "secret.png")
    table = markdown_table(pd.DataFrame({"method": [name, "other"], name: [0.5, 0.25]}), "A table.")
    assert table.count("\n| ") >= 3 and "\u202e" not in table
    assert not re.search(r"(?<!\\)(<|\]\()", table), "nor where the Markdown itself is shown"
    page = html_page(table, "A page", tmp_path)
    for mark in ("<script", "<img", "onerror=alert(1)>", 'href="javascript', "base64"):
        assert mark not in page.split("</head>")[1]
    assert page.count("<tr>") == 3, "a name cannot make a row"


def test_a_page_embeds_its_own_figures_alone(tmp_path):
    layouts.write_picture(tmp_path / "figures" / "own.png")
    layouts.write_picture(tmp_path / "other" / "secret.png")
    (tmp_path / "figures" / "link.png").symlink_to(tmp_path / "other" / "secret.png")
    names = [
        "figures/link.png",
        "figures/own.png",
        "other/secret.png",
        "figures/../other/secret.png",
        "/etc/passwd",
        "figures/gone.png",
    ]
    page = html_page("\n\n".join(f"![x]({name})" for name in names), "A page", tmp_path)
    assert page.count("base64") == 1 and page.count('src=""') == len(names) - 1


@pytest.fixture
def frames(tmp_path, monkeypatch):
    """Three frames, the second damaged, with the source, a hidden file and a document among them."""
    for seed, name in enumerate(("src.png", "f1.png", "f2.png", "f3.png")):
        layouts.write_picture(tmp_path / "frames" / name, seed=seed)
    (tmp_path / "frames" / "f2.png").write_bytes(b"damaged")
    (tmp_path / "frames" / ".hidden.png").write_bytes(b"hidden")
    (tmp_path / "frames" / "paper.pdf").write_bytes(b"%PDF-1.7")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "frames"


def test_a_damaged_frame_loses_no_other(frames, tiny_models, capsys):
    from sd4match_lib.cli.main import main

    command = ["match", "frames/src.png", "frames", "--points", "5,6", "--json", "m.json", "--device", "cpu"]
    assert main([*command, "--profile", str(tiny_models)]) == 1
    document = json.loads((frames.parent / "m.json").read_text())
    assert [entry["trg"] for entry in document["targets"]] == ["frames/f1.png", "frames/f3.png"]
    assert [entry["trg"] for entry in document["failed"]] == ["frames/f2.png"]
    err = capsys.readouterr().err
    assert "frames/f2.png: this is not a picture" in err and "1 of 3 targets could not be matched" in err


def test_what_was_matched_is_kept_when_matching_ends_early(frames, tiny_models, monkeypatch, capsys):
    from sd4match_lib.cli.main import main
    from sd4match_lib.matcher.matcher import Matcher

    answer = Matcher.match

    def stop_at_the_third(self, src, trg, points, *, maps=False):
        if trg.path.name == "f3.png":
            raise KeyboardInterrupt
        return answer(self, src, trg, points, maps=maps)

    monkeypatch.setattr(Matcher, "match", stop_at_the_third)
    command = ["match", "frames/src.png", "frames", "--points", "5,6", "--json", "m.json", "--device", "cpu"]
    assert main([*command, "--profile", str(tiny_models)]) == 130
    document = json.loads((frames.parent / "m.json").read_text())
    assert [entry["trg"] for entry in document["targets"]] == ["frames/f1.png"]
    assert "goes on from what is complete" in capsys.readouterr().err


def test_a_damaged_source_is_refused_before_anything_is_matched(frames):
    from sd4match_lib.images import image_hw

    with pytest.raises(DataError):
        image_hw(frames / "f2.png")
