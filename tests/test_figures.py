import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.dots import COLOURS, dots_of, plot_dots
from sd4match_lib.report.pictures import plot_image_grid, plot_matches
from sd4match_lib.report.style import figure_style, save_figure

BLUE, VERMILION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"


pytestmark = pytest.mark.usefixtures("close_figures")


@pytest.fixture
def scores() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "category": ["cat", "cat", "dog", "all"],
            "prompt": ["empty", "text", "text", "text"],
            "PCK": [Interval(0.2, 0.15, 0.3), 0.4, None, Interval(0.5, 0.45, 0.55)],
        }
    )


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def dots(scores: pd.DataFrame) -> Figure:
    kinds = dots_of(scores, "category", "PCK", "prompt")
    return plot_dots({"": ["cat", "dog", "all"]}, kinds, xlabel="PCK", title="Prompts")


def test_dots_stand_at_their_values_with_asymmetric_intervals_on_the_right_row(scores: pd.DataFrame):
    figure = dots(scores)
    axes = figure.axes[0]

    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "all"]
    drawn = [
        (line.get_marker(), [round(x, 3) for x in line.get_xdata()], round(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_color() in COLOURS
    ]
    # The dog's missing value leaves its row empty; the two kinds differ in more than colour.
    assert [spot for spot in drawn if spot[0] != "None"] == [
        ("o", [0.2], 0),
        ("s", [0.4], 0),
        ("s", [0.5], 2),
    ]
    assert [bar[1:] for bar in drawn if bar[0] == "None"] == [([0.15, 0.3], 0), ([0.45, 0.55], 2)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["empty", "text"]
    assert axes.get_xlabel() == "PCK (lines: 95 % interval)"
    figure.canvas.draw()
    assert all(text.get_text().endswith(" %") for text in axes.get_xticklabels())


def test_matches_lie_on_their_pixels_and_right_and_wrong_differ_in_colour_and_marker():
    # The target is half as high: its points are drawn at twice their coordinates, right of source and gap.
    ax = plot_matches(
        noise(40, 60), noise(20, 30), [[5, 6], [7, 8]], [[1, 2], [3, 4]], [[1, 2], [9, 9]], [True, False]
    )

    spots = {
        (*(float(v[0]) for v in line.get_data()), line.get_marker(), to_hex(line.get_color()))
        for line in ax.lines
        if len(line.get_xdata()) == 1
    }
    left = 60 * 1.04
    assert {(5, 6, "o", BLUE), (left + 2, 4, "o", BLUE)} <= spots
    assert {(7, 8, "o", VERMILION), (left + 18, 18, "X", VERMILION), (left + 6, 8, "D", VERMILION)} <= spots
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["right (1)", "wrong (1)", "truth"]


def test_matches_without_truth_are_neither_right_nor_wrong():
    source = Image.fromarray(noise(20, 30)).convert("L")

    ax = plot_matches(source, noise(20, 30), [[5, 6]], None, [[1, 2]], None)

    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["unknown (1)"]
    assert {to_hex(line.get_color()) for line in ax.lines} == {PURPLE}


def test_image_grid_has_one_axes_per_image_and_hides_the_rest():
    pictures = [noise(8, 8, seed) for seed in range(5)]
    grid = plot_image_grid(pictures, list("abcde"), columns=3, title="Letters")

    assert [axes.get_title() for axes in grid] == list("abcde")
    drawn = [axes for axes in grid[0].figure.axes if axes.axison or axes.images]
    assert len(drawn) == 5
    assert grid[0].figure.get_suptitle() == "Letters"


def test_saving_twice_gives_the_same_bytes_and_no_dates(scores: pd.DataFrame, tmp_path: Path):
    def save(folder: Path) -> list[bytes]:
        written = save_figure(dots(scores), folder, "bars", note="profile mini")
        return [path.read_bytes() for path in written]

    png, svg = save(tmp_path / "a")

    assert [png, svg] == save(tmp_path / "b")
    assert b"<dc:date>" not in svg
    assert b"Matplotlib v" not in svg
    assert Image.open(tmp_path / "a/bars.png").info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert Image.open(tmp_path / "a/bars.png").text == {}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["bars.png", "bars.svg"]


def test_saving_a_figure_again_keeps_a_single_note(scores: pd.DataFrame, tmp_path: Path):
    figure = dots(scores)

    save_figure(figure, tmp_path, "bars", note="profile smoke")
    save_figure(figure, tmp_path, "bars", note="profile mini")

    assert [text.get_text() for text in figure.texts if text.get_gid() == "note"] == ["profile mini"]


def test_large_pictures_are_compressed_with_the_background_still_white(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sd4match_lib.report.style.MAX_BYTES", 20_000)
    grid = plot_image_grid([noise(64, 64, seed) for seed in range(4)], columns=2)

    png, svg = save_figure(grid[0].figure, tmp_path, "grid")

    image = Image.open(png)
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert b"data:image/jpeg" in svg.read_bytes()
    assert b"data:image/png" not in svg.read_bytes()


def test_transparent_pictures_stay_transparent(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sd4match_lib.report.style.MAX_BYTES", 1000)
    with figure_style():
        ax = plt.subplots()[1]
    ax.imshow(np.arange(16.0).reshape(4, 4), alpha=0.4)

    _, svg = save_figure(ax.figure, tmp_path, "heat")

    assert re.search(rb"data:image/png", svg.read_bytes())


def test_drawing_leaves_no_style_behind(scores: pd.DataFrame):
    before = dict(matplotlib.rcParams)

    dots(scores)
    plot_image_grid([noise(4, 4)])

    assert {key: value for key, value in matplotlib.rcParams.items() if before[key] != value} == {}
