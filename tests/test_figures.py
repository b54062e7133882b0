import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from sd4match_lib.metrics.bootstrap import Interval
from sd4match_lib.report.figures import (
    figure_style,
    plot_bars_with_intervals,
    plot_curve_with_band,
    plot_image_grid,
    plot_matches,
    save_figure,
)

BLUE, VERMILION, PURPLE = "#0072b2", "#d55e00", "#cc79a7"


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


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


def error_bars(ax: plt.Axes) -> list[tuple[float, float, float]]:
    """(x, low, high) of every error bar drawn."""
    ends = [segment for lines in ax.collections for segment in lines.get_segments() if len(segment)]
    return sorted((float(low[0]), float(low[1]), float(high[1])) for low, high in ends)


def test_bars_stand_at_their_values_with_asymmetric_intervals_on_the_right_bar(scores: pd.DataFrame):
    ax = plot_bars_with_intervals(scores, "category", "PCK", hue="prompt", title="Prompts")

    # Three groups at 0, 1, 2 in the rows' order; two bars of width 0.4 each, so centres at -0.2 and +0.2.
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog", "all"]
    bars = {
        (round(p.get_x() + p.get_width() / 2, 3), round(p.get_height(), 3))
        for p in ax.patches
        if p.get_width()
    }
    assert {(-0.2, 0.2), (0.2, 0.4), (2.2, 0.5)} <= bars
    assert error_bars(ax) == [pytest.approx((-0.2, 0.15, 0.3)), pytest.approx((2.2, 0.45, 0.55))]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["empty", "text"]
    assert ax.get_title(loc="left") == "Prompts"


def test_fractions_are_labelled_as_percent_and_losses_are_not(scores: pd.DataFrame):
    percent = plot_bars_with_intervals(scores, "category", "PCK", hue="prompt").yaxis.get_major_formatter()
    plain = plot_curve_with_band(
        pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0]}), "step", "loss", percent=False
    )

    assert (percent(0.125), percent(0.3)) == ("12.5 %", "30 %")
    assert "%" not in plain.yaxis.get_major_formatter()(1.0)


def test_curve_is_drawn_in_order_with_a_band_from_low_to_high():
    frame = pd.DataFrame(
        {
            "t": [261, 1, 50],
            "PCK": [Interval(0.2, 0.1, 0.3), Interval(0.4, 0.35, 0.5), Interval(0.6, 0.5, 0.65)],
        }
    )

    ax = plot_curve_with_band(frame, "t", "PCK", xlabel="timestep")

    assert ax.lines[0].get_xdata().tolist() == [1, 50, 261]
    assert ax.lines[0].get_ydata().tolist() == [0.4, 0.6, 0.2]
    band = ax.collections[0].get_paths()[0].vertices
    assert {(1, 0.35), (1, 0.5), (50, 0.65), (261, 0.1), (261, 0.3)} <= {(x, y) for x, y in band.tolist()}
    assert ax.get_xlabel() == "timestep"


def test_lines_differ_in_more_than_colour():
    few = pd.DataFrame({"x": [0, 1] * 2, "y": [0.1, 0.2, 0.3, 0.4], "run": ["a", "a", "b", "b"]})
    many = pd.DataFrame({"x": [*range(50)] * 2, "y": 0.5, "run": ["a"] * 50 + ["b"] * 50})

    markers = {line.get_marker() for line in plot_curve_with_band(few, "x", "y", hue="run").lines[:2]}
    dashes = {line.is_dashed() for line in plot_curve_with_band(many, "x", "y", hue="run").lines[:2]}

    assert len(markers) == 2
    assert dashes == {True, False}


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
        ax = plot_bars_with_intervals(scores, "category", "PCK", hue="prompt")
        return [path.read_bytes() for path in save_figure(ax.figure, folder, "bars", note="profile mini")]

    png, svg = save(tmp_path / "a")

    assert [png, svg] == save(tmp_path / "b")
    assert b"<dc:date>" not in svg
    assert b"Matplotlib v" not in svg
    assert Image.open(tmp_path / "a/bars.png").info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert Image.open(tmp_path / "a/bars.png").text == {}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["bars.png", "bars.svg"]


def test_saving_a_figure_again_keeps_a_single_note(scores: pd.DataFrame, tmp_path: Path):
    figure = plot_bars_with_intervals(scores, "category", "PCK", hue="prompt").figure

    save_figure(figure, tmp_path, "bars", note="profile smoke")
    save_figure(figure, tmp_path, "bars", note="profile mini")

    assert [text.get_text() for text in figure.texts] == ["profile mini"]


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

    plot_bars_with_intervals(scores, "category", "PCK", hue="prompt")
    plot_image_grid([noise(4, 4)])

    assert {key: value for key, value in matplotlib.rcParams.items() if before[key] != value} == {}
