"""The point picker: click a point on one picture and see where it is on the other."""

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import traitlets
from PIL import Image

from sd4match_lib.data.reading import count_outside
from sd4match_lib.errors import UserError
from sd4match_lib.interactive.canvas import PickerCanvas, check_points
from sd4match_lib.interactive.controls import PickerControls
from sd4match_lib.interactive.still import StillBox
from sd4match_lib.matcher.drawing import draw_match, save_picture
from sd4match_lib.matcher.files import matcher_note, settings_document
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matcher.picture import PictureLike
from sd4match_lib.matcher.result import Match
from sd4match_lib.matcher.settings import MatcherSettings, PromptLike
from sd4match_lib.utils.progress import is_headless

_log = logging.getLogger(__name__)

_LOADING = "loading the models …"


class PointPicker(StillBox):
    """Two pictures; points on the source, their matches on the target.

    Click adds a point, dragging moves it, Delete or a right click deletes it, Ctrl+Z takes back. With the
    keyboard: Enter adds, 1 to 9 select, arrows move (with Shift by ten), m keeps the correlation map, + - 0
    zoom. Setting `points` from a script does what a click does; when it returns, `matches` are there.

    Pictures and controls show at once while models load; what is clicked before is answered as soon as they
    are there. `wait` waits for that; where nobody watches, models are loaded first.

    Attributes:
        points: [x, y] each, in pixels of the source.
        matches: one row a point as `Match.rows` makes it, in the points' order; a script may set its own, as
            rows or as [x, y] each in pixels of the target.
        canvas: the drawn part, with `selected`, `overlay`, `zoom`, `busy` and `error`.
        controls: prompt, timestep, matcher, profile and category.
        match: the last answer with its correlation maps, or None.
    """

    points: Any = traitlets.List()
    matches: Any = traitlets.List()

    def __init__(
        self,
        src: PictureLike,
        trg: PictureLike,
        *,
        matcher: Matcher | None = None,
        profile: str = "mini",
        prompts: Sequence[str | Path] = ("empty", "text", "captioner"),
        prompt: PromptLike | None = None,
        category: str | None = None,
        points: npt.ArrayLike = (),
    ) -> None:
        """Open two pictures.

        Args:
            src: the source; anything that `Matcher.match` takes.
            trg: the target.
            matcher: a matcher to begin with; None is `profile`'s.
            profile: a profile's name or path, where no matcher is given.
            prompts: the prompts to choose from: names, or files of learned ones.
            prompt: the first one; None is the matcher's own.
            category: what the pictures show.
            points: points to begin with, (N, 2) in pixels of the source.

        Raises:
            UserError: a picture, model or prompt is not there, or a point lies outside the source.
        """
        first = matcher or Matcher.from_profile(profile, prompt=prompt, category=category)
        if matcher is not None and (prompt is not None or category is not None):
            first = matcher.with_settings(prompt=prompt, category=category)
        self.canvas = PickerCanvas()
        self.controls = PickerControls(first, prompts, prompt, self._switch)
        self.match: Match | None = None
        super().__init__([self.controls.box, self.canvas])
        self._matcher = first
        self._src, self._trg = first.picture(src, "src"), first.picture(trg, "trg")
        self.canvas.show_pictures(self._src, self._trg)
        self._describe()
        traitlets.link((self, "matches"), (self.canvas, "matches"))
        first_px = np.asarray(points, float).reshape(-1, 2)
        count_outside(first_px, self._src.hw_px, tolerance_px=1.0, where="points")
        self.canvas.points = first_px.tolist()
        traitlets.dlink((self.canvas, "points"), (self, "points"))
        self.observe(self._points_set, "points")
        self._loading = not is_headless()
        self._loader = threading.Thread(target=self._load, name="picker", daemon=True)
        if self._loading:
            self._loader.start()
        else:
            self._answer()
            self.wait()

    @property
    def matcher(self) -> Matcher:
        """What matches now, as the controls say."""
        return self._matcher

    @traitlets.validate("points")
    def _check_points(self, proposal: dict[str, Any]) -> list[list[float]]:
        return check_points(proposal["value"])

    @traitlets.validate("matches")
    def _check_matches(self, proposal: dict[str, Any]) -> list[dict[str, Any]]:
        rows = list(proposal["value"])
        if all(isinstance(row, dict) for row in rows):
            return rows
        pairs = zip(self.points, check_points(rows), strict=False)
        return [
            {"point": number, "src": src, "trg": trg, "confidence": None}
            for number, (src, trg) in enumerate(pairs, start=1)
        ]

    def open_pair(self, src: PictureLike, trg: PictureLike) -> None:
        """Show another pair, without points; see `__init__`.

        Raises:
            DataError: a picture cannot be read.
        """
        pictures = self._matcher.picture(src, "src"), self._matcher.picture(trg, "trg")
        self.points = []
        self._src, self._trg = pictures
        self.canvas.show_pictures(*pictures)
        self._describe()

    def wait(self) -> Self:
        """Return this picker once the models are loaded and the points so far have their matches.

        Raises:
            UserError: that could not be done; the picker shows it too.
        """
        if self._loader.is_alive():
            self._loader.join()
        if self.canvas.error:
            raise UserError(self.canvas.error)
        return self

    def to_json(self) -> str:
        """Return points, matches and settings as JSON, as the button copies them."""
        return json.dumps({**self.canvas.about, "points": self.points, "matches": self.matches}, indent=2)

    def still(self) -> Image.Image:
        """Draw both pictures with the points, and the selected or last one's map where the overlay is on."""
        rows = [row for row in self.matches if isinstance(row, dict)]
        heat = extent = None
        if self.canvas.overlay and self.match is not None and self.match.maps is not None and len(self.match):
            heat = self.match.maps[min(max(self.canvas.selected, -1), len(self.match) - 1)]
            extent = self.match.maps_extent_px
        return draw_match(
            self._src.read(),
            self._trg.read(),
            self.points,
            [row["trg"] for row in rows],
            heat=heat,
            heat_extent_px=extent,
            note=self.canvas.note,
        )

    def save_picture(self, path: Path | str) -> Path:
        """Write `still` to a file and return its path.

        Raises:
            UserError: Pillow writes no such format.
        """
        return save_picture(self.still(), path)

    def _points_set(self, change: dict[str, Any]) -> None:
        by_script = self.canvas.points != change["new"]
        self.canvas.points = change["new"]
        if by_script and self._loader.is_alive():
            self._loader.join()
        self._answer()

    def _load(self) -> None:
        """Load the models by matching, until what is asked for has not changed meanwhile."""
        while self._loading:
            asked = self._asked()
            self._match_points(_LOADING)
            with self.canvas.lock:
                self._loading = self._asked() != asked
                self._rest()

    def _asked(self) -> tuple[Any, ...]:
        return self._matcher, self._src, self._trg, self.points

    def _answer(self) -> None:
        """Match the points, unless whoever loads the models is about to."""
        with self.canvas.lock:
            if self._loading:
                return
        self._match_points("matching …")

    def _match_points(self, status: str) -> None:
        """Match the points; what goes wrong is shown in the widget and logged."""
        with self._working(status):
            match = self._matcher.match(self._src, self._trg, self.points, maps=True)
            with self.canvas.lock, self.canvas.hold_sync():
                self.canvas.show_maps(match)
                self.matches = match.rows()
            self.match = match
            return
        self.match, self.matches = None, []

    def _switch(self, change: dict[str, Any]) -> MatcherSettings | None:
        """Take over what a control says; returns the settings then, or None where it could not be done."""
        done = False
        with self._working("loading …"):
            profile = change.pop("profile", None)
            if profile is not None and profile != self._matcher.profile.name:
                now = self._matcher.settings
                self._matcher = Matcher.from_profile(profile, category=now.category, **change)
            else:
                self._matcher = self._matcher.with_settings(**change)
            self._describe()
            done = True
        if not done:
            return None
        self._answer()
        return self._matcher.settings

    @contextmanager
    def _working(self, status: str) -> Iterator[None]:
        self.canvas.error, self.canvas.status, self.canvas.busy = "", status, True
        try:
            yield
        except UserError as error:
            self.canvas.error = str(error)
        except Exception as error:  # a widget's callback has nobody above it who would tell the user
            _log.exception("the point picker failed")
            self.canvas.error = f"{type(error).__name__}: {error}"
        finally:
            self._rest()

    def _rest(self) -> None:
        """Say that nothing is being done, or that the models are still loading."""
        self.canvas.busy, self.canvas.status = self._loading, _LOADING if self._loading else ""

    def _describe(self) -> None:
        # A data set's picture keeps its own category, whatever the control says.
        self.controls.category.placeholder = self._src.category
        pictures = {"src": str(self._src.path), "trg": str(self._trg.path)}
        self.canvas.about = {**settings_document(self._matcher), **pictures}
        self.canvas.note = matcher_note(self._matcher)
