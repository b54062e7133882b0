"""The drawn part of the point picker: an anywidget whose front is `picker.js`, served from this package."""

import threading
from typing import Any

import anywidget
import numpy as np
import traitlets

from sd4match_lib.interactive.still import for_browser
from sd4match_lib.matcher.drawing import HEAT_ALPHA, HEAT_COLOURS, POINT_COLOURS, heat_levels
from sd4match_lib.matcher.picture import Picture
from sd4match_lib.matcher.result import Match
from sd4match_lib.utils.paths import package_path


class PickerCanvas(anywidget.AnyWidget):
    """Two pictures side by side with numbered points and a correlation map; it knows no models.

    Attributes:
        points: [x, y] each, in pixels of the source.
        matches: rows as `Match.rows` makes them; one that does not say a point's place is not shown for it.
        selected: index of the selected point, or -1.
        overlay: whether the selected point's correlation map stays on the target.
        zoom: 1 fits the pictures to the width.
        busy: whether an answer is being computed.
        status: what is going on.
        error: what went wrong, in one sentence; "" is nothing.
        about: what is copied along with points and matches.
        note: the line below saved pictures.
        lock: held while the browser's changes are taken over, and by threads that answer meanwhile.
    """

    _esm = package_path("interactive/picker.js")
    _css = package_path("interactive/picker.css")

    points: Any = traitlets.List().tag(sync=True)
    matches: Any = traitlets.List().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    overlay = traitlets.Bool(False).tag(sync=True)
    zoom = traitlets.Float(1.0).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    about = traitlets.Dict().tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    src_picture = traitlets.Bytes(b"").tag(sync=True)
    trg_picture = traitlets.Bytes(b"").tag(sync=True)
    src_hw = traitlets.List([0, 0]).tag(sync=True)
    trg_hw = traitlets.List([0, 0]).tag(sync=True)
    maps = traitlets.Bytes(b"").tag(sync=True)
    maps_hw = traitlets.List([0, 0]).tag(sync=True)
    maps_extent_px = traitlets.List([0.0, 0.0, 0.0, 0.0]).tag(sync=True)
    colours = traitlets.List(list(POINT_COLOURS)).tag(sync=True)
    heat_alpha = traitlets.Float(HEAT_ALPHA).tag(sync=True)
    heat_colours = traitlets.List(list(HEAT_COLOURS)).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        """Make an empty canvas."""
        self.lock = threading.RLock()
        super().__init__(**traits)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take over what the browser changed."""
        with self.lock:
            super().set_state(sync_data)

    @traitlets.validate("points")
    def _check_points(self, proposal: dict[str, Any]) -> list[list[float]]:
        return check_points(proposal["value"])

    def show_pictures(self, src: Picture, trg: Picture) -> None:
        """Show another pair; points and matches are left alone."""
        with self.hold_sync():
            self.src_hw, self.trg_hw = list(src.hw_px), list(trg.hw_px)
            self.src_picture, self.trg_picture = for_browser(src.read()), for_browser(trg.read())

    def show_maps(self, match: Match | None) -> None:
        """Hand over a match's correlation maps, scaled by `heat_levels`; None takes them away."""
        if match is None or match.maps is None or match.maps_extent_px is None or not len(match):
            self.maps = b""
            return
        self.maps_hw = list(match.maps.shape[1:])
        self.maps_extent_px = list(match.maps_extent_px)
        self.maps = np.rint(heat_levels(match.maps) * 255).astype(np.uint8).tobytes()


def check_points(value: Any) -> list[list[float]]:
    """Return points as lists of two floats, rounded to hundredths of a pixel as everything here.

    Raises:
        TraitError: they are not [x, y] each.
    """
    try:
        return [[round(float(x), 2), round(float(y), 2)] for x, y in value]
    except (TypeError, ValueError) as error:
        raise traitlets.TraitError(f"points must be [x, y] each ({error}).") from error
