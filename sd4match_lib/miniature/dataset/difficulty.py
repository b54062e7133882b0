"""SPair-71k's four measures of how hard a pair is, computed from what the renderer knows.

Truncation and occlusion are coded as in SPair-71k's annotations: 0 neither picture, 1 the source, 2 the
target, 3 both. Viewpoint and scale have its three levels, 0 easy, 1 medium, 2 hard; where its annotators drew
the lines is not published in numbers, so the thresholds here are ours.
"""

import math

from sd4match_lib.data.types import Difficulty
from sd4match_lib.miniature.render.scene import Render

_VIEWPOINT_DEGREES = (30.0, 75.0)
_SCALE_RATIOS = (1.25, 1.6)


def pair_difficulty(src: Render, trg: Render) -> Difficulty:
    """The difficulty of matching `src` to `trg`.

    Viewpoint: the cameras' azimuths differ by less than 30 degrees (0), less than 75 (1), or more (2).
    Scale: the larger box is, by the root of its area, less than 1.25 times as large as the smaller one (0),
    less than 1.6 times (1), or more (2).
    """
    turn = math.degrees(abs(src.camera.azimuth - trg.camera.azimuth)) % 360.0
    sizes = sorted(_box_size(render) for render in (src, trg))
    return Difficulty(
        viewpoint=_level(min(turn, 360.0 - turn), _VIEWPOINT_DEGREES),
        scale=_level(sizes[1] / sizes[0], _SCALE_RATIOS),
        truncation=_sides(src.truncated, trg.truncated),
        occlusion=_sides(src.occluded, trg.occluded),
    )


def _box_size(render: Render) -> float:
    """The root of the box's area in pixels, its last row and column included."""
    x0, y0, x1, y1 = render.box
    return math.sqrt((x1 - x0 + 1) * (y1 - y0 + 1))


def _level(value: float, limits: tuple[float, float]) -> int:
    """How many of the limits `value` reaches."""
    return sum(value >= limit for limit in limits)


def _sides(src: bool, trg: bool) -> int:
    """0 neither, 1 source, 2 target, 3 both."""
    return int(src) + 2 * int(trg)
