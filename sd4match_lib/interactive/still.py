"""A box of widgets that is a picture wherever widgets cannot live."""

import base64
import io
from abc import ABCMeta, abstractmethod
from typing import Any

import ipywidgets
from PIL import Image
from traitlets import MetaHasTraits

from sd4match_lib.utils.progress import is_headless

MAX_SIDE = 1600
"""Pictures are sent to the browser no larger than this; points keep the original's pixels."""


class _AbstractWidget(MetaHasTraits, ABCMeta):
    """Widgets have a metaclass of their own, abstract classes another."""


class StillBox(ipywidgets.VBox, metaclass=_AbstractWidget):
    """A column of widgets that notebooks without a browser, exports and code hosts show as a picture."""

    @abstractmethod
    def still(self) -> Image.Image:
        """Return what there is to see now, as one picture; every kind of box draws its own."""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        # JupyterLab prefers the widget; whoever cannot show it falls back on the picture beside it.
        bundle = {} if is_headless() else dict(super()._repr_mimebundle_(**kwargs) or {})
        bundle["image/jpeg"] = base64.b64encode(encode(self.still(), "JPEG")).decode()
        bundle.setdefault("text/plain", f"{type(self).__name__}()")
        return bundle


def encode(image: Image.Image, kind: str) -> bytes:
    """Return a picture's bytes in one of Pillow's formats."""
    buffer = io.BytesIO()
    if kind == "JPEG":
        image = image.convert("RGB")
    image.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return buffer.getvalue()


def for_browser(image: Image.Image) -> bytes:
    """Return a picture as JPEG, no larger than `MAX_SIDE`; small ones enlarge better from PNG."""
    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return encode(small, "JPEG" if max(small.size) > 512 else "PNG")
