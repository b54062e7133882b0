"""What the method computes on its way, as pictures side by side: feature maps, score maps, tokens, points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from sd4match_lib.report.style import figure_style

# Okabe and Ito's colours, each with a marker of its own, in the order in which marks are named.
_MARKS = (("#D55E00", "X"), ("#FFFFFF", "D"), ("#56B4E9", "o"), ("#F0E442", "s"), ("#CC79A7", "^"))


class Circle(NamedTuple):
    """A circle on a panel, in its pixels or cells."""

    centre: tuple[float, float]
    radius: float


def plot_panels(
    panels: Mapping[str, npt.ArrayLike],
    *,
    marks: Mapping[str, npt.ArrayLike] | None = None,
    circles: Sequence[Circle] = (),
    columns: int = 4,
    side_inches: float = 2.0,
) -> Figure:
    """Draw arrays side by side, numbers with a colour bar of their own.

    Args:
        panels: a line above each, to a picture ``(H, W, 3)`` in 0..255 or numbers ``(H, W)``.
        marks: what is marked, to its points ``(N, 2)`` (x, y) in the panel's pixels or cells.
        circles: drawn on every panel, as marks are.
        columns: panels in a row, at most.
        side_inches: width of a panel.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with figure_style():
        size = (columns * (side_inches + 0.45), rows * (side_inches + 0.15) + 0.45)
        figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for axes in grid.ravel():
            axes.axis("off")
        handles: dict[str, Any] = {}
        for axes, (line, values) in zip(grid.ravel(), panels.items(), strict=False):
            shown = np.asarray(values)
            # Rows of numbers need not look like their shape; pictures and grids of cells do.
            equal = shown.ndim == 3 or shown.shape[0] == shown.shape[1]
            drawn = axes.imshow(shown, aspect="equal" if equal else "auto", interpolation="nearest")
            axes.set_title(line, loc="center", fontsize=8, fontweight="normal")
            if shown.ndim == 2:
                figure.colorbar(drawn, ax=axes, shrink=0.75 if equal else 1.0).ax.tick_params(labelsize=6)
            for (name, points), (colour, marker) in zip((marks or {}).items(), _MARKS, strict=False):
                spots = np.asarray(points, float).reshape(-1, 2).T
                style = {"color": colour, "markeredgecolor": "black", "markersize": 6, "linestyle": ""}
                handles[name] = axes.plot(*spots, marker=marker, markeredgewidth=0.6, **style)[0]
            for circle in circles:
                patch = plt.Circle(circle.centre, circle.radius, fill=False, color="#FFFFFF", lw=1.1)
                patch.set_path_effects([withStroke(linewidth=2.2, foreground="black", alpha=0.5)])
                axes.add_patch(patch)
        if handles:
            legend = figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
            legend.set(frame_on=True)
            legend.get_frame().set(facecolor="0.85", edgecolor="none")
    return figure


def pca_colours(*maps: Tensor) -> list[npt.NDArray[np.uint8]]:
    """Show feature maps in three colours: their first three principal components, the same for all maps.

    Args:
        maps: ``(C, h, w)`` each, with the same `C`, at least 3.

    Returns:
        ``(h, w, 3)`` each. Equal features have equal colours, in whichever map; a component's sign, which a
        decomposition leaves open, is such that its largest weight is positive.
    """
    cells = torch.cat([one.detach().double().cpu().flatten(1) for one in maps], 1).T
    directions = torch.linalg.svd(cells - cells.mean(0), full_matrices=False).Vh[:3]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    seen = (cells - cells.mean(0)) @ (directions * largest.sign()).T
    # A few extreme cells must not leave all others grey.
    low, high = seen.quantile(0.02, 0), seen.quantile(0.98, 0)
    colours = ((seen - low) / (high - low).clamp(min=math.ulp(1.0))).clamp(0, 1)
    parts = colours.mul(255).round().byte().split([one[0].numel() for one in maps])
    return [part.view(*one.shape[1:], 3).numpy() for part, one in zip(parts, maps, strict=True)]
