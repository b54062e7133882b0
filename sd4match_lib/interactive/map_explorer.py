"""Explorers: a point's correlation map under a slider of timesteps or of prompts, computed beforehand."""

from collections.abc import Mapping, Sequence

import ipywidgets
from PIL import Image

from sd4match_lib.errors import UserError
from sd4match_lib.interactive.still import StillBox, encode
from sd4match_lib.matcher.drawing import draw_match
from sd4match_lib.matcher.files import matcher_note
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matcher.picture import PictureLike
from sd4match_lib.matcher.result import Match
from sd4match_lib.utils.progress import progress

_STILL_WIDTH = 900


class MapExplorer(StillBox):
    """One point, its match and its correlation map under several matchers; the slider computes nothing.

    Attributes:
        slider: over the matchers, with a play button beside it.
        matches: a matcher's label -> what was found.
    """

    def __init__(
        self,
        matchers: Mapping[str | int, Matcher],
        src: PictureLike,
        trg: PictureLike,
        point: tuple[float, float],
        *,
        description: str,
    ) -> None:
        """Compute the maps.

        Args:
            matchers: what the slider calls a matcher, at least one.
            src: the source picture.
            trg: the target picture.
            point: x, y in pixels of the source.
            description: what the slider chooses.

        Raises:
            UserError: there is no matcher; a picture that cannot be read.
        """
        if not matchers:
            raise UserError(f"the explorer needs at least one {description}.")
        self.matches: dict[str | int, Match] = {}
        self._drawn: dict[str | int, Image.Image] = {}
        for label, at in progress(list(matchers.items()), description=f"{description}s", unit="map"):
            match = at.match(at.picture(src, "src"), at.picture(trg, "trg"), [point], maps=True)
            self.matches[label] = match
            self._drawn[label] = _draw(match, matcher_note(at), 300)
        labels = list(self.matches)
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self._picture.value = encode(self._drawn[labels[0]], "PNG")
        self.slider = ipywidgets.SelectionSlider(
            options=labels, value=labels[0], description=description, layout=ipywidgets.Layout(width="420px")
        )
        play = ipywidgets.Play(min=0, max=len(labels) - 1, interval=700)
        ipywidgets.jslink((play, "value"), (self.slider, "index"))
        super().__init__([ipywidgets.HBox([self.slider, play]), self._picture])
        self.slider.observe(lambda event: self._show(event["new"]), "value")

    def still(self) -> Image.Image:
        """Return all maps under one another: what the slider would show."""
        panels = list(self._drawn.values())
        columns = 2 if len(panels) > 1 else 1
        width = _STILL_WIDTH // columns
        small = [panel.resize((width, round(panel.height * width / panel.width))) for panel in panels]
        height = max(panel.height for panel in small)
        sheet = Image.new("RGB", (columns * width, -(-len(small) // columns) * height), "white")
        for place, panel in enumerate(small):
            sheet.paste(panel, (place % columns * width, place // columns * height))
        return sheet

    def _show(self, label: str | int) -> None:
        self._picture.value = encode(self._drawn[label], "PNG")


def timestep_explorer(
    matcher: Matcher,
    src: PictureLike,
    trg: PictureLike,
    point: tuple[float, float],
    *,
    timesteps: Sequence[int] = (1, 51, 101, 201, 301, 401, 501, 701, 901),
) -> MapExplorer:
    """Explore one matcher at several timesteps, 0 to 999; see `MapExplorer`.

    Raises:
        UserError: a timestep that does not exist, or none; a picture that cannot be read.
    """
    steps: dict[str | int, Matcher] = {t: matcher.with_settings(timestep=t) for t in sorted(set(timesteps))}
    # Read once: a path read anew would be another picture to each step's cache.
    pictures = matcher.picture(src, "src"), matcher.picture(trg, "trg")
    return MapExplorer(steps, *pictures, point, description="timestep")


def _draw(match: Match, note: str, height: int) -> Image.Image:
    assert match.maps is not None
    return draw_match(
        match.src.read(),
        match.trg.read(),
        match.src_px,
        match.trg_px,
        heat=match.maps[0],
        heat_extent_px=match.maps_extent_px,
        note=note,
        height=height,
    )
