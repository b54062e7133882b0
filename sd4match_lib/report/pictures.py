"""Figures that show pictures: matches between two of them, and grids of many."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from PIL import Image

from sd4match_lib.report.style import figure_style, set_title

Picture: TypeAlias = Image.Image | npt.NDArray[np.uint8]
"""A PIL picture, or an array ``(H, W, 3)`` or ``(H, W)`` in 0..255."""

# What a match is called, its colour (Okabe and Ito's) and its marker, so that neither alone has to tell.
_KINDS = {
    "right": ("#0072B2", "o"),
    "wrong": ("#D55E00", "X"),
    "unknown": ("#CC79A7", "s"),
    "annotated": ("#009E73", "o"),
}
_GAP = 0.04
_SIDE = 1.3


def plot_matches(
    src_img: Picture,
    trg_img: Picture,
    src_px: npt.ArrayLike,
    trg_px: npt.ArrayLike | None,
    pred_px: npt.ArrayLike,
    correct: Sequence[bool] | npt.NDArray[np.bool_] | None,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw two pictures side by side, and a line from every source point to where it was found.

    Right matches are blue circles; wrong ones vermilion crosses, with a dotted line to a diamond at the true
    point; matches whose truth is not known are purple squares.

    Args:
        src_img: the source picture.
        trg_img: the target picture; drawn at the source's height.
        src_px: source points ``(N, 2)`` in pixels of the source picture.
        trg_px: the true points ``(N, 2)`` in pixels of the target picture, or None where they are not known.
        pred_px: the predicted points ``(N, 2)`` in pixels of the target picture.
        correct: for each point whether the prediction counts as right, or None where the truth is not known.
        title: the axes' title.
        ax: where to draw; new axes when None.

    Returns:
        The axes; its unit is a pixel of the source picture.
    """
    starts = np.asarray(src_px, float)
    kinds = ["unknown"] * len(starts) if correct is None else ["right" if hit else "wrong" for hit in correct]
    return _draw_pair(src_img, trg_img, starts, trg_px, pred_px, kinds, title, ax)


def plot_annotations(
    src_img: Picture,
    trg_img: Picture,
    src_px: npt.ArrayLike,
    trg_px: npt.ArrayLike,
    *,
    title: str | None = None,
) -> Axes:
    """Draw two pictures side by side with their annotated points joined, in a colour that no match has.

    Parameters are those of `plot_matches`.
    """
    starts = np.asarray(src_px, float)
    return _draw_pair(src_img, trg_img, starts, trg_px, trg_px, ["annotated"] * len(starts), title, None)


def _draw_pair(
    src_img: Picture,
    trg_img: Picture,
    starts: npt.NDArray[Any],
    trg_px: npt.ArrayLike | None,
    pred_px: npt.ArrayLike,
    kinds: Sequence[str],
    title: str | None,
    ax: Axes | None,
) -> Axes:
    """Both pictures and a line a point, of the kinds of `_KINDS`."""
    src, trg = np.asarray(src_img), np.asarray(trg_img)
    scale, left = src.shape[0] / trg.shape[0], (1 + _GAP) * src.shape[1]
    width = left + scale * trg.shape[1]
    ends = np.asarray(pred_px, float) * scale + (left, 0)
    truths = ends if trg_px is None else np.asarray(trg_px, float) * scale + (left, 0)
    with figure_style():
        ax = ax or plt.subplots(figsize=(6.4, 6.4 * src.shape[0] / width + 0.5))[1]
        _show(ax, src, 0.0, 1.0)
        _show(ax, trg, left, scale)
        for start, end, truth, kind in zip(starts, ends, truths, kinds, strict=True):
            _draw_match(ax, start, end, truth, kind)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(src.shape[0] - 0.5, -0.5))
        ax.axis("off")
        _legend(ax, kinds)
        if title:
            ax.set_title(title)
    return ax


def plot_image_grid(
    images: Sequence[Picture],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 6,
    title: str | None = None,
) -> npt.NDArray[np.object_]:
    """Draw one picture or more in rows, a line above each.

    Returns:
        One axes per picture, ``(len(images),)``.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height = _SIDE + (0.2 if titles else 0)
    with figure_style():
        grid = plt.subplots(rows, columns, figsize=(columns * _SIDE, rows * height), squeeze=False)[1].ravel()
        for axes in grid:
            axes.axis("off")
        for axes, image, line in zip(grid, images, titles or [""] * len(images), strict=False):
            axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
            axes.set_title(line, fontsize=8, fontweight="normal", loc="center", pad=2)
        set_title(grid[0].figure, title)
    return grid[: len(images)]


def _show(ax: Axes, picture: npt.NDArray[Any], left: float, scale: float) -> None:
    """Draw a picture so that its pixel ``(x, y)`` has its centre at ``(left + scale * x, scale * y)``."""
    height, width = picture.shape[:2]
    x, y = np.array([-0.5, width - 0.5]) * scale + left, np.array([height - 0.5, -0.5]) * scale
    ax.imshow(picture, extent=(x[0], x[1], y[0], y[1]), cmap="gray", vmin=0, vmax=255)
    ax.grid(False)


def _draw_match(
    ax: Axes, start: npt.NDArray[Any], end: npt.NDArray[Any], truth: npt.NDArray[Any], kind: str
) -> None:
    colour, marker = _KINDS[kind]
    outline = [withStroke(linewidth=2.4, foreground="white", alpha=0.7)]
    ax.plot(*zip(start, end, strict=True), color=colour, linewidth=1.1, path_effects=outline)
    spots: dict[str, Any] = {
        "color": colour,
        "markersize": 6.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.8,
    }
    ax.plot(*start, marker="o", **{**spots, "markersize": 5})
    if kind == "wrong":
        ax.plot(
            *zip(end, truth, strict=True), color=colour, linewidth=1.1, linestyle=":", path_effects=outline
        )
        ax.plot(*truth, marker="D", **{**spots, "markerfacecolor": "white", "markeredgecolor": colour})
    ax.plot(*end, marker=marker, **spots)


def _legend(ax: Axes, kinds: Sequence[str]) -> None:
    for kind, (colour, marker) in _KINDS.items():
        if kind in kinds:
            ax.plot([], [], color=colour, marker=marker, label=f"{kind} ({kinds.count(kind)})")
    if "wrong" in kinds:
        ax.plot([], [], "D", color="white", markeredgecolor=_KINDS["wrong"][0], label="truth")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4)
