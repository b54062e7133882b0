"""The point picker in a real browser: JupyterLab, Debian's Chromium, the notebook as users run it.

SD4MATCH_SCREENSHOTS=<folder> keeps what it saw.
"""

import os
import warnings
from pathlib import Path

import pytest
from lab import TOKEN, Kernel, find_browser, running_lab

from sd4match_lib.config.profile import load_profile
from sd4match_lib.reproduce.prepare import prepare_data

PROJECT = Path(__file__).resolve().parent.parent
STEM = "12_point_picker"
PATIENCE_MS = 600_000  # a cell may wait for models to load on a busy machine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The page with the notebook run to its end, and its kernel."""
    browser = find_browser()
    if browser is None:
        reason = "NO CHROMIUM: the point picker was not tried in a browser; apt-get install chromium"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("lab")
    prepare_data(load_profile("smoke"))
    _write_notebook(folder)
    with running_lab(folder) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1280, "height": 1000}, has_touch=True)
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}/lab/tree/{STEM}.ipynb?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_selector(".sd4-pane[data-role=trg] .sd4-point")
        # The last cell has run when its record is there.
        record = folder / "results" / "notebooks" / f"{STEM}.json"
        _until(page, lambda: record.is_file() or _failed(page))
        assert not _failed(page), page.locator(".jp-RenderedText[data-mime-type*=error]").first.inner_text()
        kernel = Kernel(folder)
        yield page, kernel
        kernel.close()
        chromium.close()


@pytest.fixture
def picker(seen):
    """The picker in view at its own zoom, with three points, whatever the test before left."""
    page, kernel = seen
    kernel.run("picker.canvas.error = ''; picker.canvas.overlay = False; picker.canvas.selected = -1")
    kernel.run("picker.controls.prompt.value = 'text'")
    kernel.run("picker.canvas.zoom = 1; picker.points = [(30, 40), (64.5, 20), (100, 90)]")
    widget = page.locator(".sd4-picker")
    widget.scroll_into_view_if_needed()
    _until(page, lambda: _points(page, "trg").count() == 3 and _zoom_label(page) == "Fit")
    return Picker(page, kernel)


class Picker:
    def __init__(self, page, kernel):
        self.page, self.kernel = page, kernel

    @property
    def points(self):
        return self.kernel.ask("picker.points")

    @property
    def matches(self):
        return self.kernel.ask("picker.matches")

    def settled(self):
        """Wait until the browser shows a match for every point that Python has."""
        _until(self.page, lambda: _points(self.page, "trg").count() == len(self.points))
        _until(self.page, lambda: self.page.locator(".sd4-busy").count() == 0)

    def screen(self, role, xy):
        """Where a point of a picture belongs on the screen."""
        box = self.page.locator(f".sd4-pane[data-role={role}] img").bounding_box()
        height, width = self.kernel.ask(f"picker.canvas.{role}_hw")
        return box["x"] + (xy[0] + 0.5) * box["width"] / width, box["y"] + (xy[1] + 0.5) * box[
            "height"
        ] / height

    def drawn(self, role, index):
        """Where a point is drawn on the screen."""
        box = _points(self.page, role).nth(index).locator("circle").bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def assert_drawn_where_they_are(self):
        self.settled()
        for index, (point, match) in enumerate(zip(self.points, self.matches, strict=True)):
            assert self.drawn("src", index) == pytest.approx(self.screen("src", point), abs=1)
            assert self.drawn("trg", index) == pytest.approx(self.screen("trg", match["trg"]), abs=1)

    def zoom(self, presses):
        for _ in range(presses):
            self.page.get_by_title("zoom in (+)").click()


@pytest.mark.parametrize(("presses", "factor"), [(0, 1), (2, 2)])
def test_points_are_drawn_and_clicked_to_a_pixel_at_every_zoom(picker, presses, factor):
    before = picker.page.locator(".sd4-pane[data-role=src] img").bounding_box()["width"]
    picker.zoom(presses)
    now = picker.page.locator(".sd4-pane[data-role=src] img").bounding_box()["width"]
    assert now == pytest.approx(factor * before, abs=1)
    picker.assert_drawn_where_they_are()
    aim = (20.25, 60.75)
    picker.page.mouse.click(*picker.screen("src", aim))
    picker.settled()
    assert len(picker.points) == 4
    # The browser rounds to whole screen pixels.
    assert picker.points[3] == pytest.approx(aim, abs=1 / (now / 128))
    assert picker.matches[3]["src"] == picker.points[3]
    picker.assert_drawn_where_they_are()
    _keep(picker.page, f"point_picker_zoom{factor}", ".sd4-picker")


def test_dragging_moves_a_point_and_its_match_follows(picker):
    old = picker.matches[0]
    start, end = picker.screen("src", picker.points[0]), picker.screen("src", (80, 110))
    picker.page.mouse.move(*start)
    picker.page.mouse.down()
    _until(picker.page, lambda: picker.kernel.ask("picker.canvas.selected") == 0)
    assert picker.screen("src", (80, 110)) == end, "the picture moved when a point was taken"
    picker.page.mouse.move(*end, steps=6)
    picker.page.mouse.up()
    _until(picker.page, lambda: abs(picker.points[0][0] - 80) < 1)
    picker.settled()
    assert picker.points[0] == pytest.approx((80, 110), abs=0.6)
    assert picker.matches[0]["src"] == picker.points[0] != old["src"]
    picker.assert_drawn_where_they_are()
    picker.page.keyboard.press("Control+z")
    _until(picker.page, lambda: picker.points[0] == [30, 40])


def test_delete_and_undo_by_key_leave_the_notebook_alone(picker):
    cells = picker.page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.length")
    picker.page.mouse.click(*picker.screen("src", (64.5, 20)))
    picker.page.keyboard.press("Delete")
    _until(picker.page, lambda: len(picker.points) == 2)
    picker.settled()
    assert picker.points == [[30, 40], [100, 90]]
    assert _points(picker.page, "src").locator("text").all_text_contents() == ["1", "2"]
    for key in ("2", "ArrowRight", "Shift+ArrowDown", "m"):
        picker.page.keyboard.press(key)
    _until(picker.page, lambda: picker.points[1] == [101, 100])
    _until(picker.page, lambda: picker.kernel.ask("picker.canvas.overlay"))
    for _ in range(3):
        picker.page.keyboard.press("Control+z")
    _until(picker.page, lambda: picker.points == [[30, 40], [64.5, 20], [100, 90]])
    assert picker.page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.length") == cells
    picker.assert_drawn_where_they_are()


def test_a_finger_adds_a_point(picker):
    picker.page.touchscreen.tap(*picker.screen("src", (110, 30)))
    _until(picker.page, lambda: len(picker.points) == 4)
    picker.settled()
    assert picker.points[3] == pytest.approx((110, 30), abs=0.6)


def test_switching_the_prompt_asks_anew_and_keeps_the_points(picker):
    before, points = picker.matches, picker.points
    picker.page.locator(".widget-dropdown", has_text="prompt").locator("select").select_option("empty")
    _until(picker.page, lambda: picker.kernel.ask("picker.canvas.about")["prompt"]["kind"] == "empty")
    _until(picker.page, lambda: picker.matches != before)
    assert picker.points == points
    picker.assert_drawn_where_they_are()


def test_a_correlation_map_lies_on_the_target_on_toggle_and_on_hover(picker):
    heat = picker.page.locator(".sd4-heat").last
    picker.page.mouse.move(5, 5)
    _until(picker.page, lambda: heat.get_attribute("data-index") == "-1")
    picker.page.mouse.move(*picker.screen("src", picker.points[1]))
    _until(picker.page, lambda: heat.get_attribute("data-index") == "1")
    picker.page.mouse.move(5, 5)
    _until(picker.page, lambda: heat.get_attribute("data-index") == "-1")
    picker.page.mouse.click(*picker.screen("src", picker.points[2]))
    picker.page.mouse.move(5, 5)
    picker.page.get_by_title("keep the selected point's correlation map").click()
    _until(picker.page, lambda: heat.get_attribute("data-index") == "2")
    # The brightest place of the drawn map is where Python's map has its best cell.
    peak = heat.evaluate(
        """canvas => { const {width, height} = canvas;
        const data = canvas.getContext('2d').getImageData(0, 0, width, height).data; let best = 0;
        for (let at = 3; at < data.length; at += 4) if (data[at] > data[best * 4 + 3]) best = (at - 3) / 4;
        return [(best % width) / width, Math.floor(best / width) / height]; }"""
    )
    grid = picker.kernel.ask("picker.canvas.maps_hw")
    cell = divmod(picker.kernel.ask("int(picker.match.maps[2].argmax())"), grid[1])
    assert peak == pytest.approx(((cell[1] + 0.5) / grid[1], (cell[0] + 0.5) / grid[0]), abs=1.5 / grid[0])
    _keep(picker.page, "point_picker_map", ".sd4-picker")


def test_errors_are_shown_in_the_widget_and_go_away(picker):
    picker.kernel.run("picker.points = [(9999, 1)]")
    alert = picker.page.locator(".sd4-error")
    _until(picker.page, lambda: alert.is_visible())
    assert "the point (9999, 1) lies outside its picture" in alert.inner_text()
    picker.kernel.run("picker.points = [(30, 40)]")
    _until(picker.page, lambda: not alert.is_visible())
    picker.settled()


def test_the_picture_is_saved_with_its_points(picker):
    with picker.page.expect_download() as download:
        picker.page.get_by_text("Save picture").click()
    from PIL import Image

    with Image.open(download.value.path()) as image:
        assert image.format == "PNG" and image.height == 624


def test_the_browser_and_the_slider_answer_too(seen):
    page, kernel = seen
    page.locator(".widget-dropdown", has_text="category").locator("select").select_option(index=1)
    _until(page, lambda: kernel.ask("browser.category.value") != "any")
    assert 0 < len(kernel.ask("browser.chosen")) < 6
    slider = page.locator(".widget-hslider", has_text="timestep").last
    slider.scroll_into_view_if_needed()
    slider.locator("[role=slider], .noUi-handle").first.press("ArrowRight")
    _until(page, lambda: kernel.ask("explorer.slider.value") != kernel.ask("list(explorer.matches)")[0])
    _keep(page, "pair_browser", ".widget-dropdown:has-text('difficulty')")
    _keep(page, "timestep_explorer", ".widget-play")


def _points(page, role):
    return page.locator(f".sd4-pane[data-role={role}] .sd4-point")


def _zoom_label(page):
    return page.get_by_title("fit to width (0)").inner_text()


def _failed(page):
    return page.locator(".jp-RenderedText[data-mime-type*=error]").count() > 0


def _until(page, done, seconds=PATIENCE_MS / 1000):
    import time

    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come to pass"
        page.wait_for_timeout(100)


def _keep(page, name, inside):
    """Photograph the output that holds an element."""
    folder = os.environ.get("SD4MATCH_SCREENSHOTS")
    if folder:
        output = page.locator(".jp-OutputArea-output", has=page.locator(inside))
        output.screenshot(path=f"{folder}/{name}.jpg", type="jpeg", quality=80)


def _write_notebook(folder):
    """The notebook as it is committed, but with results and cache of its own."""
    (folder / "lab.toml").write_text(
        f'extends = "smoke"\nname = "lab"\nprepare = ""\n'
        f'results_dir = "{folder.as_posix()}/results"\ncache_dir = "{folder.as_posix()}/cache"\n'
    )
    source = (PROJECT / "notebooks" / f"{STEM}.ipynb").read_text(encoding="utf-8")
    changes = {'PROFILE = \\"mini\\"': 'PROFILE = \\"lab.toml\\"', "PAIRS = 54": "PAIRS = 6"}
    changes["PAIR = -1"] = "PAIR = 5"  # a picture large enough for the points below
    for old, new in {**changes, "[1, 101, 261, 501, 801]": "[1, 501]"}.items():
        assert source.count(old) == 1
        source = source.replace(old, new)
    (folder / f"{STEM}.ipynb").write_text(source, encoding="utf-8")
