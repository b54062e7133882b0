import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from sd4match_lib.report.panels import Circle, pca_colours, plot_panels
from sd4match_lib.report.training import plot_losses

pytestmark = pytest.mark.usefixtures("close_figures")


def test_equal_features_have_equal_colours_in_whichever_map():
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randn(8, 6, 5, generator=draw), torch.randn(8, 4, 7, generator=draw)
    second[:, 1, 2] = first[:, 3, 4]
    colours = pca_colours(first, second)
    assert [one.shape for one in colours] == [(6, 5, 3), (4, 7, 3)] and colours[0].dtype == np.uint8
    assert (colours[0][3, 4] == colours[1][1, 2]).all()


def test_colours_follow_what_differs_and_not_where_the_features_lie():
    draw = torch.Generator().manual_seed(1)
    feature = torch.randn(6, 5, 5, generator=draw) * torch.tensor([9, 7, 5, 0.1, 0.1, 0.1])[:, None, None]
    moved = 3 * feature + torch.arange(6)[:, None, None]
    plain, shifted = pca_colours(feature)[0].astype(int), pca_colours(moved)[0].astype(int)
    assert abs(plain - shifted).max() <= 1  # the last bit of a colour may round the other way
    # The first colour is the direction in which the cells differ most: here, the first channel.
    strongest = feature[0].flatten().argmax(), feature[0].flatten().argmin()
    reds = plain[..., 0].ravel()[list(strongest)]
    assert sorted(reds) == [0, 255]


def test_a_map_that_is_the_same_everywhere_is_drawn_without_a_division_by_zero():
    assert (pca_colours(torch.ones(4, 3, 3))[0] == 0).all()


def test_panels_show_numbers_with_a_bar_and_all_have_the_marks():
    picture = np.zeros((8, 8, 3), np.uint8)
    figure = plot_panels(
        {"picture": picture, "scores": torch.eye(8), "tokens": torch.eye(4).repeat(1, 9)},
        marks={"truth": [[2.0, 3.0]], "found": [[4.0, 5.0]]},
        circles=[Circle((2.0, 3.0), 1.5)],
    )
    axes = {ax.get_title(loc="center"): ax for ax in figure.axes}
    assert len(figure.axes) == 3 + 2, "two panels of numbers have a colour bar each"
    for name in ("picture", "scores", "tokens"):
        assert [line.get_xydata().tolist() for line in axes[name].lines] == [[[2.0, 3.0]], [[4.0, 5.0]]]
        assert axes[name].patches[0].radius == 1.5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["truth", "found"]


def test_losses_are_drawn_from_before_the_first_step():
    figure = plot_losses({"same": [3.0, 2.0, 1.0], "other": [3.0, 3.0, 2.5]}, title="Three values, two steps")
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["same"] == [[0.0, 3.0], [1.0, 2.0], [2.0, 1.0]] and set(lines) == {"same", "other"}


@pytest.mark.slow
def test_a_notebook_shows_every_figure_once_not_only_its_first(monkeypatch, project):
    # The kernel chooses its own backend, as it does in JupyterLab and in batch runs.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(project))
    start = "from tempfile import mkdtemp\nfrom sd4match_lib.report import panels, style"
    draw = "_ = style.save_figure(panels.plot_panels({'a': [[1, 2], [3, 4]]}), mkdtemp(), 'a')"
    cells = [nbformat.v4.new_code_cell(source) for source in (start, draw, draw, draw)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    pictures = [sum("image/png" in out.get("data", {}) for out in cell.outputs) for cell in notebook.cells]
    assert pictures == [0, 1, 1, 1]
