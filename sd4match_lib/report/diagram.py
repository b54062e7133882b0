"""Drawings of the method, the paper's Figures 1 and 2 at SD2-1's shapes, which the package brings."""

import base64
import re

from sd4match_lib.errors import UserError
from sd4match_lib.utils.paths import package_path


class Diagram:
    """A drawing that a notebook's cell ends in; elsewhere it is what it shows, in a sentence."""

    def __init__(self, name: str) -> None:
        """Read a drawing.

        Args:
            name: "pipeline" (Fig. 1) or "cpm" (Fig. 2).

        Raises:
            UserError: there is no such drawing.
        """
        path = package_path(f"report/diagrams/{name}.svg")
        if not path.is_file():
            known = ", ".join(sorted(other.stem for other in path.parent.glob("*.svg")))
            raise UserError(f"there is no drawing {name!r}; there are: {known}.")
        self.svg = path.read_text(encoding="utf-8")
        found = re.search(r"<desc[^>]*>(.*?)</desc>", self.svg, re.S)
        self.text = found[1] if found else name

    def __repr__(self) -> str:
        """Return what is drawn."""
        return self.text

    def _repr_html_(self) -> str:
        # As a picture of its own: inside the page its styles would reach other drawings.
        data = base64.b64encode(self.svg.encode()).decode()
        wide = "width: 100%; max-width: 62rem"
        return f'<img alt="{self.text}" style="{wide}" src="data:image/svg+xml;base64,{data}">'
