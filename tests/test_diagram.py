import base64
import re
import xml.etree.ElementTree as ElementTree

import pytest

from sd4match_lib.config.profile import load_profile
from sd4match_lib.errors import UserError
from sd4match_lib.report.diagram import Diagram

NAMES = ("pipeline", "cpm")


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_says_what_it_shows_and_brings_its_own_colours(name):
    root = ElementTree.fromstring(Diagram(name).svg)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text and repr(Diagram(name)) == root.find(f"{space}desc").text
    ids = {element.get("id") for element in root.iter()} - {None}
    assert set(root.get("aria-labelledby").split()) <= ids
    style = root.find(f"{space}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    assert ".bg { fill" in light and ".bg { fill" in dark, "readable on a page of either colour"
    assert not re.search(r"href|url\((?!#)", Diagram(name).svg.replace("http://www.w3.org/2000/svg", ""))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_lies_inside_the_drawing(name):
    root = ElementTree.fromstring(Diagram(name).svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y = float(element.get("x")), float(element.get("y"))
        assert 0 < x < width and 0 < y < height, "".join(element.itertext())


def test_the_shapes_on_the_arrows_are_those_of_the_paper_profile():
    words = {name: " ".join(re.findall(r">([^<>]+)<", Diagram(name).svg)) for name in NAMES}
    words = {name: found.replace("\N{MULTIPLICATION SIGN}", "x") for name, found in words.items()}
    profile = load_profile("paper")
    side = profile.model.image_hw[0]
    assert f"3 x {side} x {side}" in words["pipeline"]
    assert f"4 x {side // 8} x {side // 8}" in words["pipeline"]
    k = profile.training.kernel_size
    assert f"{k} x {k}" in words["pipeline"] and f"β = {profile.training.temperature}" in words["pipeline"]
    patches = (profile.vision.crop // 14) ** 2
    assert f"{patches} x {2 * 768}" in words["cpm"]


def test_a_notebook_gets_it_as_a_picture_of_its_own():
    shown = Diagram("cpm")._repr_html_()
    data = re.fullmatch(r'<img alt="[^"]+" style="[^"]+" src="data:image/svg\+xml;base64,([^"]+)">', shown)[1]
    assert base64.b64decode(data).decode() == Diagram("cpm").svg


def test_an_unknown_drawing_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match="no drawing 'unet'; there are: cpm, pipeline"):
        Diagram("unet")
