"""The one style of all figures, and writing them reproducibly."""

import base64
import io
import re
import textwrap
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.paths import package_path

MAX_BYTES = 300_000
"""Larger files are written again with pictures compressed harder: fewer colours in PNG, JPEG inside SVG."""

_NOTE = "note"

_LETTERS_PER_INCH = 11.5
"""Of the bold titles, so that a finding as a title is broken where its figure ends."""

_NOTE_LETTERS_PER_INCH = 18


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which figures of this project are drawn and saved."""
    # A notebook's kernel turns interactive mode on when the backend is first used. Inside the context that
    # would end with it, and of a notebook's figures the first alone would be shown. This draws nothing.
    plt.draw_if_interactive()
    return plt.style.context(str(package_path("report/style.mplstyle")))


def set_title(figure: Figure, text: str | None, *, axes: Axes | None = None) -> None:
    """Set a figure's title, broken into lines that fit its width; left, bold, as every figure's is.

    Args:
        figure: the figure.
        text: the title, a finding as a rule; None sets nothing.
        axes: the title stands above these, the figure's only ones, instead of above all.
    """
    if not text:
        return
    lines = textwrap.fill(text, max(20, int(_LETTERS_PER_INCH * figure.get_figwidth())))
    if axes is not None:
        axes.set_title(lines)
    else:
        figure.suptitle(lines, x=0.01, ha="left", fontsize=10, fontweight="bold")


def save_figure(
    figure: Figure, folder: Path | str, name: str, *, note: str | None = None
) -> tuple[Path, Path]:
    """Write a figure as ``<name>.png`` (150 dpi) and ``<name>.svg``, atomically; same figure, same bytes.

    Args:
        figure: the figure, such as ``ax.figure``.
        folder: where to write; made when missing.
        name: the files' name without suffix.
        note: small print below, such as the profile; it stays on the figure.

    Returns:
        The paths of the PNG and of the SVG file.
    """
    paths = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    with figure_style():
        if note is not None:
            for text in [text for text in figure.texts if text.get_gid() == _NOTE]:
                text.remove()
            # A line longer than the figure would widen the picture with white.
            lines = textwrap.fill(note, max(40, int(_NOTE_LETTERS_PER_INCH * figure.get_figwidth())))
            figure.text(0.01, 0, lines, ha="left", va="top", fontsize=7, color="0.4", gid=_NOTE)
        # Without date, creator and software, which would make every writing another file.
        png = _draw(figure, "png", {"Software": None})
        svg = _draw(figure, "svg", {"Date": None, "Creator": None})
    atomic_write_bytes(paths[0], png if len(png) <= MAX_BYTES else _fewer_colours(png))
    atomic_write_bytes(paths[1], svg if len(svg) <= MAX_BYTES else _jpeg_pictures(svg))
    return paths


def _draw(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _fewer_colours(png: bytes) -> bytes:
    """The PNG with 256 colours, of which the background keeps exactly its own."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    palette = image.quantize(256, method=Image.Quantize.MEDIANCUT)
    background = int(np.asarray(palette)[0, 0])
    colours = palette.getpalette("RGB") or []
    colours[3 * background : 3 * background + 3] = np.asarray(image)[0, 0].tolist()
    palette.putpalette(colours)
    buffer = io.BytesIO()
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _jpeg_pictures(svg: bytes) -> bytes:
    """The SVG with its embedded pictures as JPEG where they are opaque; all else stays as it is."""

    def reencode(found: re.Match[bytes]) -> bytes:
        image = Image.open(io.BytesIO(base64.b64decode(found[1])))
        if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            return found[0]  # JPEG has no transparency
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85)
        return b"data:image/jpeg;base64," + base64.b64encode(buffer.getvalue())

    return re.sub(rb"data:image/png;base64,([A-Za-z0-9+/=\s]+)", reencode, svg)
