"""Figures of where points are found: correlation maps under prompts (Fig. 6), matches of methods (Fig. 9)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from sd4match_lib.data.types import Pair
from sd4match_lib.matcher.result import Match
from sd4match_lib.metrics.keypoints import is_correct, matched_rows, thresholds
from sd4match_lib.report.estimates import ALPHA, Evaluated, Results, estimate, with_values
from sd4match_lib.report.pictures import plot_annotations, plot_matches
from sd4match_lib.report.sentences import counted, listed
from sd4match_lib.report.style import figure_style, set_title

Points: TypeAlias = npt.NDArray[Any]
"""``(N, 2)``, in pixels."""

_SIDE = 1.55
_CROP = 0.28
"""Half the side of a source's crop, as a share of the picture's shorter side."""
_QUERY, _TRUTH, _FOUND = "#D55E00", "#FFFFFF", "#D55E00"


def plot_correlation_maps(
    matches: Mapping[str, Match],
    truth_px: npt.ArrayLike,
    *,
    reach_px: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw each query point's correlation maps over the target, with its peak and the truth (Fig. 6).

    Args:
        matches: a prompt's name to the match of the same points in the same pair, with its maps.
        truth_px: the true places ``(N, 2)`` in the target picture.
        reach_px: half the width and height of what PCK counts as found, from `pck_reach`; drawn around the
            truth.
        title: the figure's title.

    Returns:
        The figure: a row a point, the source around the point and then a map a prompt.
    """
    first = next(iter(matches.values()))
    queries, truths = first.src_px, np.asarray(truth_px, float)
    src, trg = np.asarray(first.src.read()), first.trg.read()
    maps = {name: match.maps for name, match in matches.items() if match.maps is not None}
    left, right, top, bottom = first.maps_extent_px or (0.0, 0.0, 0.0, 0.0)
    # Grey and light, so that only the map has colour.
    backdrop = np.asarray(trg.convert("L"))
    rows, columns = len(queries), 1 + len(maps)
    with figure_style():
        figure, grid = plt.subplots(
            rows, columns, figsize=(_SIDE * columns + 0.6, _SIDE * rows + 0.5), squeeze=False
        )
        for row, (query, truth) in enumerate(zip(queries, truths, strict=True)):
            # The duller half of all cells stays dark: similarities lie close together near their top.
            low = float(np.median([found[row] for found in maps.values()]))
            high = max(float(found[row].max()) for found in maps.values())
            grid[row, 0].imshow(src)
            grid[row, 0].plot(*query, "o", color=_QUERY, markersize=7, markeredgecolor="white")
            _crop(grid[row, 0], query, src.shape[:2])
            for axes, (name, found) in zip(grid[row, 1:], maps.items(), strict=True):
                axes.imshow(backdrop, cmap="gray", vmin=0, vmax=255)
                best = _peak(found[row], (left, right, top, bottom))
                shown = axes.imshow(
                    found[row],
                    extent=(left, right, bottom, top),
                    cmap="cividis",
                    alpha=0.75,
                    vmin=low,
                    vmax=high,
                )
                if reach_px is not None:
                    sides = 2 * reach_px[0], 2 * reach_px[1]
                    axes.add_patch(Ellipse(truth, *sides, fill=False, color=_TRUTH, linewidth=1.2))
                axes.plot(*truth, "D", color=_TRUTH, markersize=5, markeredgecolor="black")
                axes.plot(*best, "X", color=_FOUND, markersize=7, markeredgecolor="white")
                axes.set(xlim=(-0.5, trg.width - 0.5), ylim=(trg.height - 0.5, -0.5))
                if row == 0:
                    axes.set_title(name, loc="center", fontsize=8)
            figure.colorbar(shown, ax=grid[row, -1], shrink=0.85, label="similarity" if row == 0 else None)
        grid[0, 0].set_title("source", loc="center", fontsize=8)
        for axes in grid.ravel():
            axes.axis("off")
        set_title(figure, title)
    return figure


def peaks_headline(
    matches: Mapping[str, Match], truth_px: npt.ArrayLike, reach_px: tuple[float, float]
) -> str:
    """Say in a line how many peaks lie where PCK counts a point as found; see `plot_correlation_maps`."""
    truths = np.asarray(truth_px, float)
    told = []
    for name, match in matches.items():
        assert match.maps is not None and match.maps_extent_px is not None
        peaks = np.array([_peak(found, match.maps_extent_px) for found in match.maps])
        inside = (((peaks - truths) / reach_px) ** 2).sum(axis=1) <= 1
        told.append(f"{name} {inside.sum()}")
    return f"Peaks in the ellipse, of {len(truths)}: {', '.join(told)}"


def _peak(found: npt.NDArray[np.float32], extent: tuple[float, float, float, float]) -> tuple[float, float]:
    """The highest cell's centre in pixels; the extent is left, right, top, bottom."""
    left, right, top, bottom = extent
    height, width = found.shape
    y, x = np.unravel_index(int(found.argmax()), (height, width))
    return left + (x + 0.5) * (right - left) / width, top + (y + 0.5) * (bottom - top) / height


def _crop(axes: Axes, point: npt.NDArray[np.float32], hw: tuple[int, ...]) -> None:
    """Show the square around a point, moved inside the picture where it reaches beyond."""
    half = _CROP * min(hw)
    height, width = hw
    x, y = (min(max(at, half), side - half) - 0.5 for at, side in zip(point, (width, height), strict=True))
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))


def pck_reach(pair: Pair, hw_in: tuple[int, int]) -> tuple[float, float]:
    """Return half the width and height, in target pixels, of the ellipse that PCK counts as found.

    It is a circle in the stretched network input, where distances are measured.
    """
    radius = ALPHA * thresholds(pair, hw_in)[0]
    height, width = pair.trg.hw_px
    return radius * width / hw_in[1], radius * height / hw_in[0]


def plot_match_grid(pairs: Sequence[Pair], runs: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw pairs in rows and methods in columns, right matches (PCK@0.1) blue, wrong ones vermilion.

    `runs` maps a method to its rows, which hold all the pairs; the title counts what each found.
    """
    with figure_style():
        shape = (len(pairs), len(runs))
        figure, grid = plt.subplots(*shape, figsize=(3.4 * shape[1], 2.1 * shape[0] + 0.3), squeeze=False)
        right, asked = dict.fromkeys(runs, 0), 0
        for line, pair in zip(grid, pairs, strict=True):
            src, trg = pair.src.read(), pair.trg.read()
            for axes, (name, rows) in zip(line, runs.items(), strict=True):
                found = found_points(rows, pair.pair_id)
                hits = found[-1]
                right[name] += int(hits.sum())
                plot_matches(src, trg, *found, ax=axes)
                axes.set_title(f"{name}: {pair.category}, {hits.sum()} of {len(hits)}", fontsize=8)
                if (legend := axes.get_legend()) is not None:
                    legend.remove()
            asked += len(hits)
        told = listed([f"{name} {count}" for name, count in right.items()])
        set_title(figure, f"Points found, of {asked} in pairs chosen where methods differ most: {told}")
    return figure


def found_points(
    rows: pd.DataFrame, pair_id: str, alpha: float = ALPHA
) -> tuple[Points, Points, Points, npt.NDArray[np.bool_]]:
    """Return a pair's points in a run's rows, and whether each counts as found.

    Returns:
        Three arrays ``(N, 2)``: the source's in its pixels, the true and the found ones in the target's; and
        ``(N,)``.
    """
    own = matched_rows(rows[rows["pair_id"] == pair_id])
    src, trg, pred = (own[[f"{kind}_x_px", f"{kind}_y_px"]].to_numpy() for kind in ("src", "trg", "pred"))
    return src, trg, pred, is_correct(own, alpha).to_numpy()


def plot_truth(pair: Pair) -> Axes:
    """Draw a pair with its annotated points joined."""
    pictures = pair.src.read(), pair.trg.read()
    title = f"{pair.category}: {counted(len(pair.src_px), 'point')} that both pictures show"
    return plot_annotations(*pictures, pair.src_px, pair.trg_px, title=title)


def plot_scored_pair(pair: Pair, rows: pd.DataFrame, *, title: str) -> Axes:
    """Draw where a run found a pair's points: right ones blue, wrong ones vermilion, counted in the title."""
    found = found_points(rows, pair.pair_id)
    told = f"{title}: {found[-1].sum()} of {len(found[-1])} points found"
    return plot_matches(pair.src.read(), pair.trg.read(), *found, title=told)


def worst_and_best(pairs: Sequence[Pair], rows: pd.DataFrame) -> dict[str, Pair]:
    """Return the pairs of which a run found the fewest and the most points, as "worst" and "best"."""
    rows = matched_rows(rows)
    hits = is_correct(rows, ALPHA).groupby(rows["pair_id"]).mean()
    order = hits.sort_values(kind="stable").index
    by_id = {pair.pair_id: pair for pair in pairs}
    return {"worst": by_id[order[0]], "best": by_id[order[-1]]}


def well_matched(pairs: Sequence[Pair], rows: pd.DataFrame) -> tuple[int, npt.NDArray[np.float64]]:
    """Return the place of the pair of which a run found most points, wrong ones taken off, and these points.

    Returns:
        The place, and the found points ``(N, 2)`` in pixels of the source; where no pair has one, all points.
    """
    rows = matched_rows(rows)
    rows = rows.assign(hit=is_correct(rows, ALPHA))
    balance = rows["hit"].map({True: 1, False: -1}).groupby(rows["pair_id"]).sum()
    name = balance.sort_values(kind="stable", ascending=False).index[0]
    own = rows[rows["pair_id"] == name]
    own = own[own["hit"]] if own["hit"].any() else own
    place = next(place for place, pair in enumerate(pairs) if pair.pair_id == name)
    return place, own[["src_x_px", "src_y_px"]].to_numpy(float)


def first_of_each_category(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """Return each category's first pair, in the order of appearance."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.category, pair)
    return first


def one_measure(results: Results, name: str) -> dict[int, Evaluated]:
    """Return measurements of maps with one of their numbers as the keypoints' ``value``, for comparisons."""
    return with_values(results, lambda rows: rows.assign(value=rows[name]))


def constant(results: Results, value: float) -> dict[int, Evaluated]:
    """Return measurements with the same ``value`` everywhere, to compare others with."""
    return with_values(results, lambda rows: rows.assign(value=value))


def share_table(measured: Mapping[str, Results], column: str) -> pd.DataFrame:
    """Tabulate measurements whose keypoints have a ``value``: `prompt` and `column` (`Interval`)."""
    return pd.DataFrame({"prompt": prompt, column: estimate(run)} for prompt, run in measured.items())


def measures_table(measured: Mapping[str, Results], names: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate measurements of which keypoints have several numbers (`analysis.localisation`, `.reliance`).

    Args:
        measured: by prompt.
        names: the numbers' columns -> what they are called.

    Returns:
        One row per prompt: `prompt`, and each number under its name (`Interval`).
    """
    return pd.DataFrame(
        {"prompt": prompt, **{label: estimate(one_measure(run, name)) for name, label in names.items()}}
        for prompt, run in measured.items()
    )


def choose_pairs(pairs: Sequence[Pair], categories: Sequence[str]) -> list[Pair]:
    """Return of each category the pair with most points, or the first pair's category where none is there."""
    known = [pair.category for pair in pairs]
    wanted = [name for name in categories if name in known] or known[:1]
    return [
        max((pair for pair in pairs if pair.category == name), key=lambda pair: len(pair.src_px))
        for name in wanted
    ]


def telling_pairs(pairs: Sequence[Pair], runs: Mapping[str, pd.DataFrame], count: int) -> list[Pair]:
    """Choose the pairs on which the last method differs most from the first: half gains, half losses.

    Only pairs of different categories are taken as long as there are such, so that the choice shows both
    sides and many objects.
    """
    shares = []
    for rows in map(matched_rows, (list(runs.values())[-1], next(iter(runs.values())))):
        hits = is_correct(rows, ALPHA)
        shares.append(hits.groupby(rows["pair_id"]).mean())
    gain = (shares[0] - shares[1]).sort_values(kind="stable")
    by_id = {pair.pair_id: pair for pair in pairs}
    best, worst = list(gain.index[::-1]), list(gain.index)
    order = [name for both in zip(best, worst, strict=True) for name in both]
    chosen: list[Pair] = []
    for strict in (True, False):
        for name in order:
            seen = {pair.category for pair in chosen}
            new = by_id[name] not in chosen and (not strict or by_id[name].category not in seen)
            if new and len(chosen) < count:
                chosen.append(by_id[name])
    return chosen
