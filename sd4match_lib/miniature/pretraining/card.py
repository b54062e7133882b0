"""The pictures of the model card: how the losses fell, what the probe measured, and what the model paints."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from sd4match_lib.miniature.objects.catalogue import CATEGORIES
from sd4match_lib.miniature.pretraining.caption import plain_caption
from sd4match_lib.miniature.pretraining.samples import sample_pictures
from sd4match_lib.report.pictures import plot_image_grid
from sd4match_lib.report.style import figure_style, save_figure

_STAGES = ("vae", "text", "vision", "diffusion", "captioner")
_PROBED = (
    ("vision", "probe", ("category_accuracy", "pck_patches", "pck_pixels")),
    ("diffusion", "probe", ("pck_text_50", "pck_empty_50", "pck_full_50", "pck_text_261", "pck_latents")),
    ("diffusion", "held-out pictures", ("held_out", "influence")),
)


def draw_card(folder: Path) -> None:
    """Draws `curves` and `samples` beside the finished models.

    Args:
        folder: the recipe's working folder, with its logs and `weights/`.
    """
    with figure_style():
        figure, grid = plt.subplots(2, 4, figsize=(12, 4.6), layout="constrained")
    axes = iter(grid.flat)
    for stage in _STAGES:
        if not (folder / f"{stage}.csv").is_file():
            continue
        log = pd.read_csv(folder / f"{stage}.csv")
        axis = next(axes)
        axis.plot(log["samples"] / 1000, log["loss"])
        axis.set(title=f"{stage}: loss", xlabel="thousand samples seen", yscale=_scale(log["loss"]))
    for stage, title, names in _PROBED:
        probe = pd.read_csv(folder / f"{stage}_probe.csv")
        axis = next(axes)
        for name in names:
            axis.plot(probe["samples"] / 1000, probe[name], marker="o", markersize=3, label=name)
        axis.set(title=f"{stage}: {title}", xlabel="thousand samples seen", ylim=(0, None))
        axis.legend(fontsize=7)
    save_figure(figure, folder / "weights", "curves", note="profile mini")
    pictures = sample_pictures(folder / "weights" / "diffusion", [plain_caption(name) for name in CATEGORIES])
    cells = plot_image_grid(pictures, list(CATEGORIES))
    save_figure(cells[0].figure, folder / "weights", "samples", note="profile mini")


def _scale(losses: "pd.Series[float]") -> str:
    """A loss that falls to less than a fifth shows its later fall on a logarithmic axis only."""
    return "log" if losses.max() > 5 * losses.min() else "linear"
