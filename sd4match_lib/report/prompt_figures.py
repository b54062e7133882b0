"""Pictures of learned prompts: how alike they are, and what they listen to in a pair."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from sd4match_lib.backbones.vision import seen_box
from sd4match_lib.config.schema import VisionConfig
from sd4match_lib.data.types import Pair
from sd4match_lib.report.sentences import listed
from sd4match_lib.report.style import figure_style, set_title

_LISTENING = LinearSegmentedColormap.from_list("listening", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.9)])


def plot_similarities(tables: Mapping[str, pd.DataFrame], *, title: str) -> Figure:
    """Draw symmetric tables of cosines on one scale, alike beside alike; the brighter the more alike.

    Each is (K, K), named on both axes by the same names; the first one's clusters order all of them.
    """
    order = cluster_order(next(iter(tables.values())))
    limit = max(float(np.abs(table.to_numpy() - np.eye(len(table))).max()) for table in tables.values())
    with figure_style():
        size = (4.3 * len(tables) + 0.8, 4.4)
        figure, grid = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False)
        for place, (name, table) in enumerate(tables.items()):
            sns.heatmap(
                table.loc[order, order],
                cmap="cividis",
                vmin=-limit,
                vmax=limit,
                square=True,
                ax=grid[0, place],
                cbar=place == len(tables) - 1,
            )
            grid[0, place].set_title(name)
        set_title(figure, title)
    return figure


def cluster_order(similarity: pd.DataFrame) -> list[str]:
    """Return the names of a symmetric table of cosines so that what is alike stands side by side."""
    if len(similarity) < 3:
        return list(similarity.index)
    distance = np.clip(1 - similarity.to_numpy(), 0, None)
    np.fill_diagonal(distance, 0)
    condensed = squareform((distance + distance.T) / 2, checks=False)
    return [similarity.index[place] for place in leaves_list(linkage(condensed, "average", True))]


def how_alike(learned: pd.DataFrame, before: pd.DataFrame) -> str:
    """Say which prompts (named (K, K) cosines) ended most alike, and how much of it was there before."""
    rows, columns = np.triu_indices(len(learned), 1)
    values = learned.to_numpy()[rows, columns]
    r = _correlation(learned, before)
    if r is None:
        return "There are too few categories to say which are alike."
    order = np.argsort(-values)
    pairs = [
        f"{learned.index[rows[k]]} and {learned.index[columns[k]]} ({values[k]:+.2f})" for k in order[:3]
    ]
    return (
        f"Most alike are {listed(pairs)}. Over the {len(values)} pairs of categories, the cosines after "
        f"learning correlate at r = {r:.2f} with those of the start: "
        f"{100 * r * r:.0f} % of how they vary was there before anything was learned."
    )


def alike_headline(learned: pd.DataFrame, start: pd.DataFrame) -> str:
    """Say in a line how much of how alike prompts are, (K, K) cosines, was there before learning."""
    r = _correlation(learned, start)
    if r is None:
        return "Too few categories to say which are alike"
    return f"Likeness of categories' prompts, after learning against before: r = {r:.2f}"


def _correlation(learned: pd.DataFrame, before: pd.DataFrame) -> float | None:
    """Over the pairs of categories; None where there is too little to correlate."""
    rows, columns = np.triu_indices(len(learned), 1)
    values, earlier = (table.to_numpy()[rows, columns] for table in (learned, before))
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(earlier) == 0:
        return None
    return float(np.corrcoef(values, earlier)[0, 1])


def plot_saliency(
    pairs: Sequence[Pair], prompts: Mapping[str, tuple[Tensor, Tensor]], vision: VisionConfig, *, title: str
) -> Figure:
    """Draw pairs of pictures with how strongly prompts listen to their patches laid over them.

    Args:
        pairs: `B` pairs, the columns.
        prompts: what a row is called -> (B, M) of the sources' and of the targets' patches, each as a
            multiple of its position's mean; `M` is a square number and covers what the vision model saw.
        vision: how the vision model was fed.
        title: the finding.
    """
    side = round(next(iter(prompts.values()))[0].shape[1] ** 0.5)
    # The loudest hundredth has the full colour, so that faint differences are seen; the bar says how faint.
    every = np.concatenate([shares.numpy().ravel() for sides in prompts.values() for shares in sides])
    loud = max(float(np.quantile(every, 0.99)), 1.001)
    with figure_style():
        size = (1.25 * len(pairs) * 2 + 0.8, 0.95 * len(prompts) + 0.8)
        figure, grid = plt.subplots(
            len(prompts), 2 * len(pairs), figsize=size, layout="constrained", squeeze=False
        )
        for row, (line, (name, sides)) in enumerate(zip(grid, prompts.items(), strict=True)):
            for number, pair in enumerate(pairs):
                for offset, (record, shares) in enumerate(zip((pair.src, pair.trg), sides, strict=True)):
                    ax = line[2 * number + offset]
                    image = record.read()
                    ax.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
                    left, right, top, bottom = seen_box(image, vision)
                    # Up to what is the mean of its place the picture stays as it is: only what is listened
                    # to more than that has colour.
                    shown = ax.imshow(
                        shares[number].view(side, side).numpy(),
                        extent=(left, right, bottom, top),
                        cmap=_LISTENING,
                        vmin=1,
                        vmax=loud,
                    )
                    ax.set(xlim=(-0.5, image.width - 0.5), ylim=(image.height - 0.5, -0.5))
                    ax.set(xticks=[], yticks=[])
                    ax.spines[:].set_visible(False)
                    if row == 0:
                        ax.set_title(f"{pair.category}, {'BA'[not offset]}", fontsize=8, loc="center")
            line[0].set_ylabel(name)
        figure.colorbar(shown, ax=grid, shrink=0.8, label="times the mean of its place")
        set_title(figure, title)
    return figure
