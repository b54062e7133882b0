"""Pictures of learned prompts: how alike they are, and what they listen to in a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from sd4match_lib.backbones.vision import seen_box
from sd4match_lib.config.schema import VisionConfig
from sd4match_lib.data.types import Pair
from sd4match_lib.report.sentences import listed
from sd4match_lib.report.style import figure_style


def plot_similarities(tables: Mapping[str, pd.DataFrame], *, title: str) -> Figure:
    """Draw symmetric tables of cosines on one scale, alike beside alike; blue below zero and red above.

    Args:
        tables: what a table is called -> (K, K), named on both axes, all by the same names; the first one's
            clusters order all of them.
        title: stands above.
    """
    order = cluster_order(next(iter(tables.values())))
    limit = max(float(np.abs(table.to_numpy() - np.eye(len(table))).max()) for table in tables.values())
    with figure_style():
        size = (5.2 * len(tables) + 0.8, 5.0)
        figure, grid = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False)
        for place, (name, table) in enumerate(tables.items()):
            sns.heatmap(
                table.loc[order, order],
                cmap="vlag",
                center=0,
                vmin=-limit,
                vmax=limit,
                square=True,
                ax=grid[0, place],
                cbar=place == len(tables) - 1,
            )
            grid[0, place].set_title(name)
        figure.suptitle(title)
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
    """Say which prompts ended up most alike, and how much of it was there before learning.

    Args:
        learned: (K, K) cosines, named on both axes.
        before: those of the prompts that learning started from.
    """
    rows, columns = np.triu_indices(len(learned), 1)
    values, earlier = (table.to_numpy()[rows, columns] for table in (learned, before))
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(earlier) == 0:
        return "There are too few categories to say which are alike."
    order = np.argsort(-values)
    pairs = [
        f"{learned.index[rows[k]]} and {learned.index[columns[k]]} ({values[k]:+.2f})" for k in order[:3]
    ]
    r = float(np.corrcoef(values, earlier)[0, 1])
    return (
        f"Most alike are {listed(pairs)}. Over the {len(values)} pairs of categories, the cosines after "
        f"learning correlate at r = {r:.2f} with those of the start, whose words were drawn at random: "
        f"{100 * r * r:.0f} % of how they vary was there before anything was learned."
    )


def plot_saliency(
    pairs: Sequence[Pair], src: Tensor, trg: Tensor, vision: VisionConfig, *, title: str
) -> Figure:
    """Draw pairs of pictures with how strongly a prompt listens to their patches laid over them.

    Args:
        pairs: `B` pairs.
        src: (B, M) shares of the sources' patches; `M` is a square number and covers what
            the vision model saw.
        trg: (B, M) those of the targets.
        vision: how the vision model was fed.
        title: stands above all.
    """
    side = round(src.shape[1] ** 0.5)
    with figure_style():
        size = (2.2 * len(pairs) * 2, 2.5)
        figure, axes = plt.subplots(1, 2 * len(pairs), figsize=size, layout="constrained", squeeze=False)
        for number, pair in enumerate(pairs):
            for offset, (record, shares) in enumerate(((pair.src, src[number]), (pair.trg, trg[number]))):
                ax = axes[0, 2 * number + offset]
                image = record.read()
                ax.imshow(image.convert("L"), cmap="gray")
                left, right, top, bottom = seen_box(image, vision)
                box = (left, right, bottom, top)
                ax.imshow(shares.view(side, side).numpy(), extent=box, cmap="magma", alpha=0.55)
                ax.set(title=f"{pair.category}, {'target' if offset else 'source'}", xticks=[], yticks=[])
                ax.set(xlim=(-0.5, image.width - 0.5), ylim=(image.height - 0.5, -0.5))
        figure.suptitle(title)
    return figure
