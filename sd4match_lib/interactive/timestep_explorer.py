"""The timestep explorer: a point's correlation map under a slider of diffusion steps, computed beforehand."""

from __future__ import annotations

from collections.abc import Sequence

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


class TimestepExplorer(StillBox):
    """One point, its match and its correlation map at several timesteps; moving the slider computes nothing.

    Attributes:
        slider: over the timesteps, with a play button beside it.
        matches: timestep -> what was found.
    """

    def __init__(
        self,
        matcher: Matcher,
        src: PictureLike,
        trg: PictureLike,
        point: tuple[float, float],
        *,
        timesteps: Sequence[int] = (1, 51, 101, 201, 301, 401, 501, 701, 901),
    ) -> None:
        """Compute the maps.

        Args:
            matcher: how to match; its timestep is varied.
            src: the source picture.
            trg: the target picture.
            point: x, y in pixels of the source.
            timesteps: at least one diffusion step of 0 to 999.

        Raises:
            UserError: a timestep that does not exist, or none; a picture that cannot be read.
        """
        if not timesteps:
            raise UserError("the timestep explorer needs at least one timestep.")
        pictures = matcher.picture(src, "src"), matcher.picture(trg, "trg")
        self.matches: dict[int, Match] = {}
        self._drawn: dict[int, Image.Image] = {}
        for timestep in progress(sorted(set(timesteps)), description="timesteps", unit="step"):
            at = matcher.with_settings(timestep=timestep)
            match = at.match(*pictures, [point], maps=True)
            self.matches[timestep] = match
            self._drawn[timestep] = _draw(match, matcher_note(at), 300)
        steps = list(self.matches)
        self._picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self._picture.value = encode(self._drawn[steps[0]], "PNG")
        self.slider = ipywidgets.SelectionSlider(
            options=steps, value=steps[0], description="timestep", layout=ipywidgets.Layout(width="420px")
        )
        play = ipywidgets.Play(min=0, max=len(steps) - 1, interval=700)
        ipywidgets.jslink((play, "value"), (self.slider, "index"))
        super().__init__([ipywidgets.HBox([self.slider, play]), self._picture])
        self.slider.observe(lambda event: self._show(event["new"]), "value")

    def still(self) -> Image.Image:
        """Return all timesteps under one another: what the slider would show."""
        panels = list(self._drawn.values())
        columns = 2 if len(panels) > 1 else 1
        width = _STILL_WIDTH // columns
        small = [panel.resize((width, round(panel.height * width / panel.width))) for panel in panels]
        height = max(panel.height for panel in small)
        sheet = Image.new("RGB", (columns * width, -(-len(small) // columns) * height), "white")
        for place, panel in enumerate(small):
            sheet.paste(panel, (place % columns * width, place // columns * height))
        return sheet

    def _show(self, timestep: int) -> None:
        self._picture.value = encode(self._drawn[timestep], "PNG")


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
