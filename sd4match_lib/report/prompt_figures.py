"""Pictures of learned prompts: how alike they are, and what they listen to in a pair."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from sd4match_lib.backbones.vision import seen_box
from sd4match_lib.config.schema import VisionConfig
from sd4match_lib.data.types import Pair
from sd4match_lib.report.style import figure_style


def plot_heatmap(table: pd.DataFrame, *, title: str) -> Axes:
    """Draw a symmetric table of cosines, blue below zero and red above.

    Args:
        table: (K, K), named on both axes.
        title: the axes' title.
    """
    with figure_style():
        _, ax = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
        limit = float(np.abs(table.to_numpy() - np.eye(len(table))).max())
        sns.heatmap(table, cmap="vlag", center=0, vmin=-limit, vmax=limit, square=True, ax=ax)
        ax.set(title=title)
    return ax


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
