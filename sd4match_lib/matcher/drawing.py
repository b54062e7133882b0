"""Matches as one still picture: numbered points on both pictures, and a correlation map on the target."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sd4match_lib.errors import UserError
from sd4match_lib.utils.files import atomic_write_bytes
from sd4match_lib.utils.paths import user_path

POINT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's, told apart with any kind of colour vision; beyond eight, a point's number tells."""

HEAT_COLOURS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#FDE725")
"""Low to high (viridis), as bright as they are high."""

HEAT_ALPHA = 0.75
"""Opacity of the highest value."""

_LIGHT = {"#E69F00", "#56B4E9", "#F0E442", "#CC79A7"}
_WRITTEN = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_OVERSAMPLE = 2
_WIDEST = 2.5
_GAP, _MARGIN, _RADIUS = 12, 8, 11


def draw_match(
    src: Image.Image,
    trg: Image.Image,
    src_px: npt.ArrayLike,
    trg_px: npt.ArrayLike,
    *,
    numbers: Sequence[int] | None = None,
    heat: npt.NDArray[np.floating] | None = None,
    heat_extent_px: tuple[float, float, float, float] | None = None,
    note: str = "",
    height: int = 420,
) -> Image.Image:
    """Draw two pictures side by side with numbered points.

    Args:
        src: the source picture, RGB.
        trg: the target picture, RGB.
        src_px: points ``(N, 2)`` in pixels of the source.
        trg_px: the same points ``(M, 2)`` in pixels of the target; fewer while some are not found yet.
        numbers: what the points are called; 1 to N when None.
        heat: a correlation map ``(h, w)`` to lay over the target, coloured by `heat_levels`.
        heat_extent_px: its edges (left, right, top, bottom) in pixels of the target; see `Match`.
        note: what stands below, such as profile and prompt; broken into lines where it is too wide.
        height: of both pictures in the drawing, in pixels; less for pictures wider than `_WIDEST` times it.
    """
    scales = [_scale(picture, height) for picture in (src, trg)]
    panes = [_resized(picture, scale) for picture, scale in zip((src, trg), scales, strict=True)]
    if heat is not None and heat_extent_px is not None:
        panes[1] = _with_heat(panes[1], heat, heat_extent_px, scales[1])
    gap, margin = _OVERSAMPLE * _GAP, _OVERSAMPLE * _MARGIN
    width = sum(pane.width for pane in panes) + gap + 2 * margin
    font = ImageFont.load_default(size=11 * _OVERSAMPLE)
    lines = _wrapped(note, font, width - 2 * margin)
    below = _OVERSAMPLE * (4 + 14 * len(lines)) if note else 0
    size = (width, max(pane.height for pane in panes) + 2 * margin + below)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = margin
    for pane, points_px, scale in zip(panes, (src_px, trg_px), scales, strict=True):
        sheet.paste(pane, (left, margin))
        for index, (x, y) in enumerate(np.asarray(points_px, float).reshape(-1, 2)):
            number = index + 1 if numbers is None else numbers[index]
            _draw_point(draw, (left + (x + 0.5) * scale, margin + (y + 0.5) * scale), number)
        left += pane.width + gap
    if note:
        end = (size[0] - margin, size[1] - margin / 2)
        draw.multiline_text(
            end, "\n".join(lines), fill="#555555", font=font, anchor="rd", align="right", spacing=3
        )
    return sheet.resize((size[0] // _OVERSAMPLE, size[1] // _OVERSAMPLE), Image.Resampling.LANCZOS)


def heat_rgba(heat: npt.NDArray[np.floating]) -> Image.Image:
    """Colour a map ``(h, w)`` by `heat_levels`; the lower, the more transparent."""
    level = heat_levels(heat)
    anchors = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in HEAT_COLOURS], float)
    at = np.linspace(0, 1, len(anchors))
    rgb = np.stack([np.interp(level, at, anchors[:, channel]) for channel in range(3)], -1)
    rgba = np.concatenate([rgb, (255 * HEAT_ALPHA * level)[..., None]], -1)
    return Image.fromarray(np.rint(rgba).astype(np.uint8))


def heat_levels(heat: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Scale maps ``(..., h, w)`` to 0..1 from their median to their highest value; what is lower becomes 0.

    From the median, because single far cells would otherwise take up the scale and hide the picture.
    """
    low = np.median(heat, axis=(-2, -1), keepdims=True)
    reach = np.maximum(heat.max(axis=(-2, -1), keepdims=True) - low, 1e-9)
    return np.clip((heat - low) / reach, 0, 1)


def save_picture(image: Image.Image, path: Path | str) -> Path:
    """Write a picture atomically, in the format that the path's ending says.

    Raises:
        UserError: pictures are not written in this format.
    """
    path = user_path(path)
    kind = check_picture_path(path)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    atomic_write_bytes(path, buffer.getvalue())
    return path


def check_picture_path(path: Path) -> str:
    """Return the format that a path's ending says.

    Raises:
        UserError: pictures are not written in this format.
    """
    kind = Image.registered_extensions().get(path.suffix.lower(), "")
    if kind not in _WRITTEN:
        raise UserError(f"{path}: a picture cannot be written as {path.suffix!r}; use .png or .jpg.")
    return kind


def _scale(picture: Image.Image, height: int) -> float:
    return min(height / picture.height, _WIDEST * height / picture.width) * _OVERSAMPLE


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _wrapped(note: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a note at its spaces where it would be wider than the drawing."""
    lines = [""]
    for word in note.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _with_heat(
    pane: Image.Image, heat: npt.NDArray, extent_px: tuple[float, float, float, float], scale: float
) -> Image.Image:
    left, right, top, bottom = ((edge + 0.5) * scale for edge in extent_px)
    # Every pixel of the pane asks the map where it lies: the map's edges stick out of the picture.
    columns, rows = heat.shape[1] / (right - left), heat.shape[0] / (bottom - top)
    way = (columns, 0, -left * columns, 0, rows, -top * rows)
    coloured = heat_rgba(heat).transform(
        pane.size, Image.Transform.AFFINE, way, resample=Image.Resampling.BILINEAR
    )
    return Image.alpha_composite(pane.convert("RGBA"), coloured).convert("RGB")


def _draw_point(draw: ImageDraw.ImageDraw, centre: tuple[float, float], number: int) -> None:
    colour = POINT_COLOURS[(number - 1) % len(POINT_COLOURS)]
    radius = _RADIUS * _OVERSAMPLE
    for reach, fill in ((radius + 2 * _OVERSAMPLE, "white"), (radius, colour)):
        draw.ellipse([centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach], fill=fill)
    font = ImageFont.load_default(size=12 * _OVERSAMPLE)
    draw.text(centre, str(number), fill="black" if colour in _LIGHT else "white", font=font, anchor="mm")
