"""Draws the README's two pictures as a browser shows them: the picker under a learned prompt, the report.

`.venv/bin/python docs/readme_pictures.py`, after `make reproduce` (whose Class prompt and report it takes),
where Chromium and the tests' Playwright are. Nothing else may depend on it.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "tests"))

from lab import TOKEN, find_browser, running_lab  # noqa: E402

from sd4match_lib.config.profile import load_profile  # noqa: E402
from sd4match_lib.data.datasets import open_dataset  # noqa: E402
from sd4match_lib.training.train import train  # noqa: E402

PAIR = "000171-test_000061-test_000060:cat"  # one that comes out right, as not half of the keypoints do
KEYPOINTS = (0, 1, 2, 4, 5)
CELLS = ("parameters", "setup", "matcher", "picker")
PICKER = ".sd4-picker"


def picker_notebook(folder: Path, prompt: Path, pair_index: int) -> None:
    """Write notebook 12's picker, opened on the pair under the prompt, to `folder/picker.ipynb`."""
    notebook = nbformat.read(PROJECT / "notebooks" / "12_point_picker.ipynb", 4)
    notebook.cells = [cell for cell in notebook.cells if cell.id in CELLS]
    parameters = notebook.cells[0]
    parameters.source += f'\nPROMPT, PAIR = "{prompt}", {pair_index}\nPROMPTS = [PROMPT, *PROMPTS]\n'
    for cell in notebook.cells:
        cell.source = cell.source.replace("pair.src_px[:3]", "[]")
    nbformat.write(notebook, folder / "picker.ipynb")


def photograph_picker(page: Page, folder: Path, points: list[tuple[float, float]], out: Path) -> None:
    """Click the points (fractions of the source picture), show the last one's map, photograph the picker."""
    with running_lab(folder) as address:
        page.goto(f"{address}/lab/tree/picker.ipynb?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        source = page.locator(".sd4-pane[data-role=src] img")
        source.wait_for()
        page.wait_for_timeout(2000)
        page.locator(PICKER).scroll_into_view_if_needed()
        box = source.bounding_box()
        assert box
        for number, (x, y) in enumerate(points, 1):
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
            found = "document.querySelectorAll('.sd4-pane[data-role=trg] .sd4-point').length"
            page.wait_for_function(f"{found} == {number}")
        page.get_by_text("Map", exact=True).click()
        page.wait_for_timeout(2000)
        output = page.locator(".jp-OutputArea-output", has=page.locator(PICKER))
        output.screenshot(path=out, type="jpeg", quality=85)


def main() -> None:
    """Draw both."""
    profile, screenshots = load_profile("mini"), PROJECT / "docs" / "screenshots"
    pairs = list(open_dataset(profile.dataset("spair"), "test"))
    place = next(i for i, pair in enumerate(pairs) if pair.pair_id == PAIR)
    width, height = pairs[place].src.read().size
    points = [(float(x + 0.5) / width, float(y + 0.5) / height) for x, y in pairs[place].src_px[[*KEYPOINTS]]]
    prompt = train(profile, "class").folder / "prompt.safetensors"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(200_000)
        picker_notebook(Path(folder), prompt, place)
        photograph_picker(page, Path(folder), points, screenshots / "readme_picker.jpg")
        page.set_viewport_size({"width": 1000, "height": 1170})
        page.goto((profile.results_path / "report.html").as_uri())
        page.wait_for_timeout(800)
        page.screenshot(path=screenshots / "report.jpg", type="jpeg", quality=80)
        browser.close()


if __name__ == "__main__":
    main()
