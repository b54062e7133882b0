"""Widgets for notebooks: a point picker, a pair browser and a timestep explorer.

Each is an ipywidgets box that shows itself; where nobody watches (`progress.is_headless`), in exports and on
code hosts, the same cell shows a still picture.
"""

from sd4match_lib.interactive.pair_browser import PairBrowser
from sd4match_lib.interactive.picker import PointPicker
from sd4match_lib.interactive.timestep_explorer import TimestepExplorer

__all__ = ["PairBrowser", "PointPicker", "TimestepExplorer"]
