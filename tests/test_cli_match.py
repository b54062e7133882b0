import json
import shutil

import layouts
import numpy as np
import pytest
import tiny
from PIL import Image

from sd4match_lib.cli import main as cli
from sd4match_lib.matcher.drawing import draw_match


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A profile of a tiny model, and pictures; b is larger than a and has another shape."""
    root = tmp_path_factory.mktemp("match")
    tiny.write_profile(root)
    layouts.write_picture(root / "a.png", (40, 60))
    layouts.write_picture(root / "b.png", (300, 90), seed=1)
    for number in (1, 2, 10):
        layouts.write_picture(root / "frames" / f"f{number}.png", seed=number)
    (root / "frames" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture
def match(folder, capsys):
    def run(*arguments, code=0):
        command = [
            str(folder / name) if str(name).endswith((".png", "frames")) else str(name) for name in arguments
        ]
        assert (
            cli.main(["match", *command, "--profile", str(folder / "tiny.toml"), "--device", "cpu"]) == code
        )
        return capsys.readouterr()

    return run


def test_the_answer_is_a_table_a_json_and_a_picture(match, folder, tmp_path):
    out = match(
        "a.png",
        "b.png",
        "--points",
        "12,8; 59,39",
        "--json",
        tmp_path / "m.json",
        "--picture",
        tmp_path / "m.jpg",
    ).out
    document = json.loads((tmp_path / "m.json").read_text())
    (target,) = document["targets"]
    assert document["points"] == [[12, 8], [59, 39]] and document["src_hw"] == [40, 60]
    assert target["trg_hw"] == [300, 90] and [row["point"] for row in target["matches"]] == [1, 2]
    x, y = target["matches"][1]["trg"]
    assert 0 <= x <= 89 and 0 <= y <= 299
    assert [float(word) for word in out.splitlines()[-1].replace(",", " ").split()][3:5] == pytest.approx(
        [x, y], abs=0.06
    )
    assert document["profile"] == "tiny" and document["prompt"] == {"kind": "empty"}
    assert document["matcher"] == "kernel_softargmax" and document["sigma"] > 0 and document["window"] is None
    assert Image.open(tmp_path / "m.jpg").format == "JPEG"


def test_points_come_from_files_and_from_an_earlier_answer(match, folder, tmp_path):
    (tmp_path / "p.csv").write_text("x,y\n12,8\n59,39\n")
    (tmp_path / "p.json").write_text("[[12, 8], [59, 39]]")
    answers = []
    for name in ("p.csv", "p.json"):
        out = match("a.png", "b.png", "--points-file", tmp_path / name, "--json", "-").out
        answers.append(json.loads(out))
    (tmp_path / "earlier.json").write_text(json.dumps(answers[0]))
    answers.append(
        json.loads(match("a.png", "b.png", "--points-file", tmp_path / "earlier.json", "--json", "-").out)
    )
    assert answers[0] == answers[1] == answers[2]


def test_a_folder_of_frames_is_matched_in_the_order_of_its_numbers(match, folder, tmp_path):
    match(
        "a.png",
        "frames",
        "b.png",
        "--points",
        "5,5",
        "--json",
        tmp_path / "m.json",
        "--picture",
        tmp_path / "m.png",
    )
    targets = json.loads((tmp_path / "m.json").read_text())["targets"]
    assert [target["trg"].split("/")[-1] for target in targets] == ["f1.png", "f2.png", "f10.png", "b.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "m-1-f1.png",
        "m-2-f2.png",
        "m-3-f10.png",
        "m-4-b.png",
    ]


def test_mutual_leaves_out_what_is_not_found_back_and_keeps_the_numbers(match):
    points = ";".join(f"{x},{y}" for x in range(0, 60, 10) for y in range(0, 40, 10))
    out = match("a.png", "b.png", "--points", points, "--mutual", "--json", "-").out
    (target,) = json.loads(out)["targets"]
    numbers = [row["point"] for row in target["matches"]]
    assert 0 < len(numbers) < 24 and numbers == sorted(numbers) and numbers[-1] > len(numbers)


def test_the_answer_says_every_setting_that_decided_it(match, folder, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(
        "sd4match_lib.matcher.files.draw_match",
        lambda *points, note, **drawing: notes.append(note) or draw_match(*points, note=note, **drawing),
    )
    extras = ["--window", "5", "--mutual", "--flip", "--dino", "0.25", "--denser", "2"]
    asked = ["--points", "12,8", "--json", tmp_path / "m.json", "--picture", tmp_path / "m.jpg"]
    match("a.png", "b.png", *asked, *extras, "--category", "cat", "--timestep", "120", "--matcher", "nn")
    said = json.loads((tmp_path / "m.json").read_text())
    assert (
        said["matcher"] == "windowed_softargmax" and "sigma" not in said
    )  # and not "nn", which was not used
    options = {"window": 5, "mutual": True, "flip": True, "dino_weight": 0.25, "denser": 2}
    numbers = {"timestep": 120, "ensemble": 1, "seed": 0, "temperature": 0.04}
    words = {"category": "cat", "extractor": "sd", "layers": ["up_blocks.1"]}
    wanted = options | numbers | words
    assert {name: said[name] for name in wanted} == wanted
    assert said["prompt"]["kind"] == "text" and said["model"]["image_hw"] == [64, 64]
    assert all(len(digest) == 64 for digest in said["weights"].values())
    assert said["weights"].keys() == {"model", "vision"}
    (note,) = notes
    parts = [
        "profile tiny",
        "prompt text",
        "t = 120",
        "up_blocks.1",
        "ensemble 1",
        "seed 0",
        "mutual",
        "flip",
    ]
    parts += ["windowed_softargmax of 5 cells", "DINOv2 0.25", "grid 2 times denser"]
    assert all(part in note for part in parts) and "nn" not in note.replace("DINOv2", "")


def test_the_miniature_says_that_photographs_are_beyond_it(match, monkeypatch):
    command = ("a.png", "b.png", "--points", "5,6")
    assert "photographs" not in match(*command).err
    monkeypatch.setattr("sd4match_lib.cli.match.PACKAGE_PREFIX", "/")  # where the models of tests are
    assert "what it finds on photographs means nothing" in match(*command).err


def test_a_folder_without_pictures_is_told(match, folder, tmp_path):
    shutil.copy(folder / "frames" / "notes.txt", tmp_path)
    assert "there is no picture in this folder" in match("a.png", tmp_path, "--points", "1,1", code=2).err


@pytest.mark.parametrize(
    "trg", ["cartoon.png", "painting_cat.jpg", "guitar.png", "target_guitar.png", "guitar_cat.jpg"]
)
def test_real_pictures_of_any_kind_and_shape_are_matched(match, shared_data, trg):
    own = shared_data / "own-photos" / "cats-and-guitars"
    (target,) = json.loads(match(own / "cat.png", own / trg, "--points", "420,380", "--json", "-").out)[
        "targets"
    ]
    with Image.open(own / trg) as image:
        assert target["trg_hw"] == [image.height, image.width]
    x, y = target["matches"][0]["trg"]
    assert 0 <= x <= target["trg_hw"][1] and 0 <= y <= target["trg_hw"][0]


def test_a_drawing_of_a_strip_stays_a_picture():
    strip, tall = Image.new("RGB", (5000, 10)), Image.new("RGB", (10, 5000))
    assert max(draw_match(strip, tall, [(4999, 9)], [(9, 4999)]).size) < 2000


def test_a_long_note_is_broken_into_lines_within_the_drawing():
    narrow = Image.new("RGB", (40, 80), "white")
    plain, one, many = (
        draw_match(narrow, narrow, [], [], height=100, note=note)
        for note in ("", "short", "a note that is a good deal longer than two narrow pictures are wide")
    )
    assert plain.width == one.width == many.width and plain.height < one.height < many.height
    # Nothing is cut off: the margins left and right of the text are white.
    text = np.asarray(many)[plain.height :]
    assert (text < 200).any() and (text[:, :4] > 250).all() and (text[:, -4:] > 250).all()


def test_the_drawing_puts_points_where_they_are():
    src, trg = Image.new("RGB", (100, 50), "white"), Image.new("RGB", (50, 100), "white")
    drawn = np.asarray(draw_match(src, trg, [(20, 30)], [(40, 90)], height=200)).astype(int)
    blue = (abs(drawn - (0, 114, 178)).sum(-1) < 60) * 1.0
    rows, columns = np.nonzero(blue)
    left = columns < 8 + 400
    # 4 drawn pixels per pixel on the source and 2 on the target, which begins 12 right of the source.
    assert (columns[left].mean(), rows[left].mean()) == pytest.approx((8 + 20.5 * 4, 8 + 30.5 * 4), abs=1.5)
    assert (columns[~left].mean(), rows[~left].mean()) == pytest.approx(
        (420 + 40.5 * 2, 8 + 90.5 * 2), abs=1.5
    )
