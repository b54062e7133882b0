"""The pair browser: pairs of an evaluation by category and difficulty, with right and wrong keypoints."""

import io
from collections.abc import Mapping

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

from sd4match_lib.data.types import Pair, PairDataset
from sd4match_lib.errors import UserError
from sd4match_lib.interactive.still import StillBox, encode
from sd4match_lib.metrics.keypoints import is_correct, matched_rows
from sd4match_lib.report.maps import found_points
from sd4match_lib.report.pictures import plot_matches

ANY = "any"
_GRADES = ("easy", "medium", "hard")
_SIDES = ("none", "source", "target", "both")
_FLAGS = {"viewpoint": _GRADES, "scale": _GRADES, "truncation": _SIDES, "occlusion": _SIDES}
"""SPair-71k's flags, and what their numbers from 0 on mean (`data.Difficulty`)."""


class PairBrowser(StillBox):
    """Pairs of evaluated data sets, one at a time; right keypoints are blue circles, wrong ones crosses.

    Attributes:
        dataset, category, difficulty: dropdowns; the last of SPair-71k's flags, and what became of the pair.
        place: a slider over the pairs that are left.
        chosen: the ids of these pairs.
    """

    def __init__(
        self, results: Mapping[str, tuple[PairDataset, pd.DataFrame]], *, alpha: float = 0.1, note: str = ""
    ) -> None:
        """Open evaluations.

        Args:
            results: name -> the data set's split, and its rows (`EvaluationResult.keypoints`).
            alpha: a keypoint is right within this share of the pair's threshold.
            note: below the pictures, such as profile and prompt.

        Raises:
            UserError: there is nothing to show.
        """
        if not results or any(rows.empty for _, rows in results.values()):
            raise UserError("the pair browser needs at least one evaluation with at least one pair.")
        self._results = {name: (pairs, matched_rows(rows)) for name, (pairs, rows) in results.items()}
        self._alpha = alpha
        self._note = note
        self._known: dict[str, dict[str, int]] = {}
        self.chosen: list[str] = []
        self.dataset = ipywidgets.Dropdown(options=list(results), description="dataset")
        self.category = ipywidgets.Dropdown(options=[ANY], description="category")
        self.difficulty = ipywidgets.Dropdown(options=[ANY], description="difficulty")
        self.place = ipywidgets.IntSlider(min=1, max=1, description="pair", continuous_update=False)
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self._caption = ipywidgets.Label()
        for widget in (self.dataset, self.category, self.difficulty, self.place):
            widget.style.description_width = "60px"
        choices = [self.dataset, self.category, self.difficulty, self.place]
        row = ipywidgets.Box(choices, layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self._caption, self._picture])
        self.dataset.observe(lambda _: self._offer(), "value")
        self.category.observe(lambda _: self._choose(), "value")
        self.difficulty.observe(lambda _: self._choose(), "value")
        self.place.observe(lambda _: self._show(), "value")
        self._offer()

    def still(self) -> Image.Image:
        """Return the pair that is shown, drawn."""
        return Image.open(io.BytesIO(self._picture.value))

    def _offer(self) -> None:
        """Offer the categories and difficulties that the data set has."""
        rows = self._results[self.dataset.value][1]
        self.category.options = [ANY, *sorted(rows["category"].unique())]
        known = [flag for flag in _FLAGS if rows[flag].notna().any()]
        levels = [f"{flag}: {word}" for flag in known for word in _FLAGS[flag]]
        self.difficulty.options = [ANY, "all right", "some wrong", "all wrong", *levels]
        self._choose()

    def _choose(self) -> None:
        """Find the pairs that category and difficulty leave."""
        if self.category.value is None or self.difficulty.value is None:
            return  # the options are just being exchanged
        rows = self._results[self.dataset.value][1]
        if self.category.value != ANY:
            rows = rows[rows["category"] == self.category.value]
        share = is_correct(rows, self._alpha).groupby(rows["pair_id"]).mean()
        wanted = self.difficulty.value
        if wanted in ("all right", "some wrong", "all wrong"):
            kept = {"all right": share == 1, "some wrong": (share > 0) & (share < 1), "all wrong": share == 0}
            self.chosen = list(share.index[kept[wanted]])
        elif wanted == ANY:
            self.chosen = list(share.index)
        else:
            flag, _, word = wanted.partition(": ")
            self.chosen = sorted(rows.loc[rows[flag] == _FLAGS[flag].index(word), "pair_id"].unique())
        self.place.max = max(1, len(self.chosen))
        self.place.value = 1
        self._show()

    def _show(self) -> None:
        if not self.chosen:
            self._caption.value = "no pair is left; choose another category or difficulty"
            self._picture.value = encode(Image.new("RGB", (8, 8), "white"), "PNG")
            return
        pairs, rows = self._results[self.dataset.value]
        pair_id = self.chosen[min(self.place.value, len(self.chosen)) - 1]
        pair = self._pair(pairs, pair_id)
        found = found_points(rows, pair_id, self._alpha)
        ax = plot_matches(pair.src.read(), pair.trg.read(), *found, title=self._note)
        figure = ax.get_figure(root=True)
        assert figure is not None
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        plt.close(figure)  # or the notebook shows it once more below
        self._picture.value = buffer.getvalue()
        right = f"{found[-1].sum()} of {len(found[-1])} keypoints within {self._alpha:g}"
        self._caption.value = f"{pair_id} ({self.place.value} of {len(self.chosen)}): {right}"

    def _pair(self, pairs: PairDataset, pair_id: str) -> Pair:
        key = f"{pairs.name} {pairs.split}"
        if key not in self._known:
            self._known[key] = {pair.pair_id: place for place, pair in enumerate(pairs)}
        if pair_id not in self._known[key]:
            raise UserError(f"pair {pair_id} is not in {key}; open the split it is of.")
        return pairs[self._known[key][pair_id]]
