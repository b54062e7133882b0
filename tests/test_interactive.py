import base64
import io
import json
import threading

import layouts
import numpy as np
import pytest
import tiny
import traitlets
from PIL import Image

from sd4match_lib import Matcher
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.errors import UserError
from sd4match_lib.evaluation.evaluate import evaluate
from sd4match_lib.features.build import MethodModels
from sd4match_lib.interactive.map_explorer import MapExplorer, timestep_explorer
from sd4match_lib.interactive.pair_browser import PairBrowser
from sd4match_lib.interactive.picker import PointPicker
from sd4match_lib.interactive.still import encode
from sd4match_lib.matcher.files import read_points
from sd4match_lib.prompts.per_class import ClassPrompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("interactive")
    tiny.write_profile(root)
    layouts.write_picture(root / "a.png", (40, 60))
    layouts.write_picture(root / "b.png", (90, 70), seed=1)
    return root


@pytest.fixture(scope="module")
def matcher(folder):
    return Matcher.from_profile(folder / "tiny.toml", device="cpu")


@pytest.fixture
def picker(folder, matcher):
    return PointPicker(folder / "a.png", folder / "b.png", matcher=matcher, prompts=("empty", "text"))


def test_setting_points_from_a_script_is_a_click(picker, folder, matcher):
    picker.points = [(12, 8), (30.126, 20)]
    assert picker.points == [[12, 8], [30.13, 20]] == picker.canvas.points
    expected = matcher.match(folder / "a.png", folder / "b.png", picker.points)
    assert picker.matches == expected.rows()
    assert picker.canvas.matches == picker.matches
    # One map a point, each with its highest value where the best cell is.
    maps = np.frombuffer(picker.canvas.maps, np.uint8).reshape(2, *picker.canvas.maps_hw)
    assert (maps.max(axis=(1, 2)) == 255).all()
    assert (maps.reshape(2, -1).argmax(1) == picker.match.maps.reshape(2, -1).argmax(1)).all()


def test_a_click_in_the_browser_reaches_python_and_its_answer_comes_back(picker):
    picker.canvas.set_state({"points": [[5, 6]], "selected": 0})
    assert picker.points == [[5, 6]] and picker.matches[0]["src"] == [5, 6]
    assert not picker.canvas.busy and picker.canvas.error == ""


def test_a_script_may_show_matches_of_its_own(picker):
    picker.points = [(12, 8), (30, 20)]
    picker.matches = [(1, 2), (3.5, 4)]
    assert [row["trg"] for row in picker.canvas.matches] == [[1, 2], [3.5, 4]]
    assert [row["src"] for row in picker.canvas.matches] == picker.points


def test_controls_change_what_is_asked_and_keep_the_points(picker):
    picker.points = [(12, 8)]
    before = picker.matches
    picker.controls.category.value = "cat"
    picker.controls.prompt.value = "text"
    assert picker.canvas.about["prompt"]["kind"] == "text" and picker.canvas.about["category"] == "cat"
    assert "prompt text" in picker.canvas.note
    picker.controls.timestep.value = 700
    picker.controls.matcher.value = "nn"
    assert (picker.matcher.settings.method.timestep, picker.canvas.about["matcher"]) == (700, "nn")
    assert picker.points == [[12, 8]] and picker.matches != before
    expected = picker.matcher.match(picker.match.src, picker.match.trg, [(12, 8)])
    assert picker.matches == expected.rows()


def test_another_extractor_is_a_control_too_and_the_others_follow(picker):
    picker.points = [(12, 8)]
    controls = picker.controls
    controls.prompt.value = "text"
    controls.extractor.value = "dift"
    assert (controls.timestep.value, controls.matcher.value) == (261, "nn")
    assert picker.canvas.about["extractor"] == "dift" and picker.canvas.about["prompt"]["kind"] == "text"
    controls.extractor.value = "dinov2"
    assert controls.prompt.disabled and picker.canvas.about["prompt"] is None and not picker.canvas.error
    assert "dinov2" in picker.canvas.note and len(picker.matches) == 1
    controls.extractor.value = "sd"
    assert not controls.timestep.disabled and picker.canvas.about["prompt"]["kind"] == "text"


def test_what_cannot_be_had_is_said_in_the_widget_and_the_control_jumps_back(picker):
    picker.points = [(12, 8)]
    before = picker.matches
    picker.controls.profile.value = "paper"
    assert "was not found; tried models/stable-diffusion-2-1" in picker.canvas.error
    assert picker.controls.profile.value == "tiny" and picker.matches == before
    picker.points = [(12, 9)]
    assert picker.canvas.error == "" and picker.matches


def test_learned_prompts_are_chosen_by_what_they_are(folder, matcher):
    about = {"dataset": "spair", "steps": 40, "seed": 1}
    files = [folder / run / "prompt.safetensors" for run in ("run-a", "run-b", "run-c")]
    for file in files[:2]:
        ClassPrompt(16, ["cat", "dog"]).save(file, about)
    files[2].parent.mkdir()
    files[2].write_bytes(b"no prompt")
    picker = PointPicker(folder / "a.png", folder / "b.png", matcher=matcher, prompts=["empty", *files])
    picker.points = [(12, 8)]
    name = "class, spair, 40 steps, seed 1"
    labels = ["empty", name, f"{name}, run-b", "run-c/prompt.safetensors"]
    assert [label for label, _ in picker.controls.prompt.options] == labels
    picker.controls.prompt.label = name
    assert "was not trained on 'object'; it knows cat, dog" in picker.canvas.error and not picker.matches
    picker.controls.category.value = "cat"
    assert picker.canvas.error == "" and picker.canvas.about["prompt"]["kind"] == "class" and picker.matches


def test_a_failure_nobody_foresaw_is_shown_too(picker, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(picker.matcher), "match", fail)
    picker.points = [(12, 8)]
    assert picker.canvas.error == "RuntimeError: out of memory"
    assert picker.matches == [] and not picker.canvas.busy


def test_points_outside_are_told_and_leave_no_match(picker, folder, matcher):
    picker.points = [(70, 10)]
    assert "the point (70, 10) lies outside its picture" in picker.canvas.error and picker.matches == []
    with pytest.raises(UserError, match="outside its picture"):
        PointPicker(folder / "a.png", folder / "b.png", matcher=matcher, points=[(70, 10)])
    with pytest.raises(traitlets.TraitError, match=r"points must be \[x, y\] each"):
        picker.points = [1, 2]


class Loading:
    """Holds up whoever loads models until it is told to go on."""

    def __init__(self, monkeypatch):
        self.begun, self.go = threading.Event(), threading.Event()
        load = MethodModels.load

        def slowly(*given):
            self.begun.set()
            assert self.go.wait(60)
            return load(*given)

        monkeypatch.setattr("sd4match_lib.interactive.picker.is_headless", lambda: False)
        monkeypatch.setattr(MethodModels, "load", slowly)


@pytest.fixture
def loading(monkeypatch):
    held = Loading(monkeypatch)
    yield held
    held.go.set()


def test_it_opens_while_models_load_and_answers_the_clicks_before(folder, loading):
    fresh = Matcher.from_profile(folder / "tiny.toml", device="cpu")
    picker = PointPicker(folder / "a.png", folder / "b.png", matcher=fresh, points=[(12, 8)])
    assert loading.begun.wait(60) and picker.canvas.busy and picker.canvas.status == "loading the models …"
    assert picker.canvas.src_picture and picker.canvas.trg_hw == [90, 70] and not picker.matches
    picker.canvas.set_state({"points": [[12, 8], [30, 20]]})
    picker.controls.prompt.value = "text"
    assert picker.canvas.busy and not picker.matches and picker.still().width > 400
    loading.go.set()
    found = picker.wait().matches
    expected = fresh.with_settings(prompt="text").match(folder / "a.png", folder / "b.png", picker.points)
    assert found == expected.rows() and len(found) == 2
    assert not picker.canvas.busy and picker.canvas.status == ""
    # From then on a click is answered before it returns.
    picker.canvas.set_state({"points": [[5, 6]]})
    assert picker.matches[0]["src"] == [5, 6]


def test_a_script_that_sets_points_while_models_load_waits_for_its_matches(folder, loading):
    fresh = Matcher.from_profile(folder / "tiny.toml", device="cpu")
    picker = PointPicker(folder / "a.png", folder / "b.png", matcher=fresh)
    threading.Thread(target=lambda: loading.begun.wait(60) and loading.go.set()).start()
    picker.points = [(12, 8)]
    assert picker.matches[0]["src"] == [12, 8]


def test_models_that_cannot_be_loaded_are_said_in_the_picker(folder, loading, monkeypatch):
    fresh = Matcher.from_profile(folder / "tiny.toml", device="cpu")

    def damaged(*_):
        raise UserError("unet cannot be loaded; copy or fetch the model again.")

    with monkeypatch.context() as broken:
        broken.setattr(MethodModels, "load", damaged)
        picker = PointPicker(folder / "a.png", folder / "b.png", matcher=fresh, points=[(12, 8)])
        with pytest.raises(UserError, match="copy or fetch the model again"):
            picker.wait()
        assert picker.canvas.error.startswith("unet cannot be loaded") and not picker.canvas.busy
    loading.go.set()
    picker.canvas.set_state({"points": [[30, 20]]})
    assert picker.canvas.error == "" and picker.wait().matches[0]["src"] == [30, 20]


def test_what_is_copied_can_be_given_to_the_command(picker, tmp_path):
    picker.points = [(12, 8), (30, 20)]
    (tmp_path / "copied.json").write_text(picker.to_json())
    assert read_points(None, tmp_path / "copied.json").tolist() == [[12, 8], [30, 20]]
    assert json.loads(picker.to_json())["profile"] == "tiny"


def test_another_pair_starts_without_points(picker, folder):
    picker.points = [(12, 8)]
    picker.open_pair(folder / "b.png", folder / "a.png")
    assert picker.points == [] == picker.matches and picker.canvas.src_hw == [90, 70]
    picker.points = [(69, 89)]
    assert picker.canvas.error == "" and picker.matches


def test_where_nobody_watches_the_cell_is_a_picture(picker, monkeypatch):
    picker.points = [(12, 8)]
    bundle = picker._repr_mimebundle_()
    assert set(bundle) == {"image/jpeg", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/jpeg"]))).width > 400
    # With somebody there it is the widget, and still a picture for the page that cannot run it.
    monkeypatch.setattr("sd4match_lib.interactive.still.is_headless", lambda: False)
    assert {"application/vnd.jupyter.widget-view+json", "image/jpeg"} <= set(picker._repr_mimebundle_())


def test_the_browser_finds_pairs_by_what_became_of_them(folder):
    root = layouts.write_pf_willow(folder / "willow", {"car(G)": ["a", "b", "c"], "duck(S)": ["a", "b"]})
    profile = load_profile(folder / "tiny.toml")
    rows = evaluate(profile, dataset="pf_willow", data_root=root, prompt="empty", device="cpu").keypoints
    pairs = open_dataset(profile.dataset("pf_willow"), "test", root)
    browser = PairBrowser({"willow": (pairs, rows)}, alpha=0.5)
    assert len(browser.chosen) == len(pairs) == browser.place.max
    share = (rows.distance_in <= 0.5 * rows.theta_in).groupby(rows.pair_id).mean()
    for word, expected in (("all wrong", share == 0), ("some wrong", (share > 0) & (share < 1))):
        browser.difficulty.value = word
        assert browser.chosen == list(share.index[expected])
    browser.difficulty.value = "any"
    browser.category.value = "duck(S)"
    assert browser.chosen and all("duck" in pair_id for pair_id in browser.chosen)
    before = browser.still().tobytes()
    browser.place.value = 2
    assert browser.still().tobytes() != before
    with pytest.raises(UserError, match="at least one evaluation"):
        PairBrowser({})


def test_the_explorer_computes_beforehand_and_then_only_shows(folder, matcher):
    explorer = timestep_explorer(matcher, folder / "a.png", folder / "b.png", (12, 8), timesteps=(400, 1))
    passes = matcher.shared.passes
    assert list(explorer.matches) == [1, 400]
    first = explorer.children[1].value
    explorer.slider.value = 400
    assert explorer.children[1].value != first and matcher.shared.passes == passes


def test_the_explorer_switches_prompts_too_and_its_still_has_all_of_them(folder, matcher):
    prompts = {name: matcher.with_settings(prompt=name) for name in ("empty", "text")}
    explorer = MapExplorer(prompts, folder / "a.png", folder / "b.png", (12, 8), description="prompt")
    assert list(explorer.slider.options) == ["empty", "text"]
    alone = MapExplorer(
        {"text": prompts["text"]}, folder / "a.png", folder / "b.png", (12, 8), description="x"
    )
    assert (explorer.matches["text"].maps == alone.matches["text"].maps).all()
    assert (explorer.matches["text"].maps != explorer.matches["empty"].maps).any()
    one, two = alone.still(), explorer.still()
    assert one.size[0] == two.size[0] and two.size[1] < one.size[1], "two panels share a line"
    with pytest.raises(UserError, match="at least one prompt"):
        MapExplorer({}, folder / "a.png", folder / "b.png", (12, 8), description="prompt")


def test_a_still_with_an_alpha_channel_is_shown_too():
    clear = Image.new("RGBA", (40, 30), (10, 200, 30, 255))
    back = Image.open(io.BytesIO(encode(clear, "JPEG")))
    assert back.size == (40, 30) and back.mode == "RGB" and abs(back.getpixel((5, 5))[1] - 200) < 4


def test_exports_show_the_picture(picker, monkeypatch):
    import nbformat
    from nbconvert import HTMLExporter

    picker.points = [(12, 8)]
    monkeypatch.setattr("sd4match_lib.interactive.still.is_headless", lambda: False)
    bundle = picker._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=bundle)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("picker", outputs=[output])])
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert f"data:image/jpeg;base64,{bundle['image/jpeg'][:200]}" in page
