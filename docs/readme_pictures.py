"""Draws the README's two pictures as a browser shows them: the picker at work, the report.

`.venv/bin/python docs/readme_pictures.py`, where Chromium and the tests' Playwright are; the report is
`overnight`'s. Nothing else may depend on it.
"""

import sys
import tempfile
from io import BytesIO
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "tests"))

from lab import TOKEN, find_browser, running_lab  # noqa: E402

from sd4match_lib.config.profile import load_profile  # noqa: E402
from sd4match_lib.data.datasets import open_dataset  # noqa: E402
from sd4match_lib.evaluation.evaluate import evaluate  # noqa: E402
from sd4match_lib.metrics.keypoints import is_correct  # noqa: E402

PROMPT = "mini/class"
POINTS = 5
CELLS = ("parameters", "setup", "matcher", "picker")
PICKER = ".sd4-picker"
POINTER = """([x, y]) => {
    const found = document.getElementById("pointer");
    const shown = found ?? document.body.appendChild(document.createElement("div"));
    shown.id = "pointer";
    shown.style = `position: fixed; z-index: 9999; pointer-events: none; left: ${x - 11}px; top: ${y - 11}px;
        width: 22px; height: 22px; border-radius: 50%; border: 2px solid white; background: #0006`;
}"""
"""Shows where the mouse is, which a screenshot leaves out."""


def picker_notebook(folder: Path, prompt: str, pair_index: int) -> None:
    """Write notebook 12's picker, opened on the pair under the prompt, to `folder/picker.ipynb`."""
    notebook = nbformat.read(PROJECT / "notebooks" / "12_point_picker.ipynb", 4)
    notebook.cells = [cell for cell in notebook.cells if cell.id in CELLS]
    parameters = notebook.cells[0]
    parameters.source += f'\nPROMPT, PAIR = "{prompt}", {pair_index}\nPROMPTS = [PROMPT, *PROMPTS]\n'
    for cell in notebook.cells:
        cell.source = cell.source.replace("pair.src_px[:3]", "[]")
    nbformat.write(notebook, folder / "picker.ipynb")


def film_picker(page: Page, folder: Path, points: list[tuple[float, float]], out: Path) -> None:
    """Click the points (fractions of the source picture) and show the last one's map, a frame each."""
    frames, durations_ms = [], []

    def shoot(duration_ms: int) -> None:
        output = page.locator(".jp-OutputArea-output", has=page.locator(PICKER))
        frames.append(Image.open(BytesIO(output.screenshot())).convert("RGB"))
        durations_ms.append(duration_ms)

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
        shoot(900)
        for number, (x, y) in enumerate(points, 1):
            place = box["x"] + x * box["width"], box["y"] + y * box["height"]
            page.evaluate(POINTER, place)
            shoot(500)
            page.mouse.click(*place)
            found = "document.querySelectorAll('.sd4-pane[data-role=trg] .sd4-point').length"
            page.wait_for_function(f"{found} == {number}")
            page.wait_for_timeout(300)
            shoot(900)
        toggle = page.get_by_text("Map", exact=True)
        middle = toggle.bounding_box()
        assert middle
        page.evaluate(POINTER, (middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2))
        shoot(500)
        toggle.click()
        page.wait_for_timeout(2000)
        shoot(3000)
    frames[0].save(
        out, save_all=True, append_images=frames[1:], duration=durations_ms, loop=0, quality=80, method=6
    )


def main() -> None:
    """Draw both."""
    profile, screenshots = load_profile("mini"), PROJECT / "docs" / "screenshots"
    # A pair that comes out right, as not every keypoint does.
    rows = evaluate(profile, dataset="spair", prompt=PROMPT).keypoints
    hits = is_correct(rows, 0.1, "in").groupby(rows["pair_id"]).agg(["mean", "size"])
    best = hits[hits["size"] >= POINTS]["mean"].idxmax()
    pairs = list(open_dataset(profile.dataset("spair"), "test"))
    place = next(i for i, pair in enumerate(pairs) if pair.pair_id == best)
    width, height = pairs[place].src.read().size
    points = [(float(x + 0.5) / width, float(y + 0.5) / height) for x, y in pairs[place].src_px[:POINTS]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(200_000)
        picker_notebook(Path(folder), PROMPT, place)
        film_picker(page, Path(folder), points, screenshots / "readme_picker.webp")
        page.set_viewport_size({"width": 1000, "height": 1170})
        page.goto((load_profile("overnight").results_path / "report.html").as_uri())
        page.wait_for_timeout(800)
        page.screenshot(path=screenshots / "report.jpg", type="jpeg", quality=80)
        browser.close()


if __name__ == "__main__":
    main()
