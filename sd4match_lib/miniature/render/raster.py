"""Camera and z-buffer: from an object model to face, depth and keypoint positions in the picture.

Vertices are snapped to 1/64 pixel and depths to integers before any pixel is decided, so that the last bits
in which machines' floating-point libraries differ cannot change a picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sd4match_lib.miniature.objects.model import Keypoint
from sd4match_lib.miniature.objects.solids import Solid

SUPERSAMPLE = 2
FIRST_NEW = 10_000
_SNAP = 64.0
_DEPTH = float(1 << 26)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the object: angles in radians, `distance` in object units.

    `azimuth` 0 sees the object's front, a quarter turn its left side. `focal` is in longer sides of the
    picture (1 = a field of view of 53 degrees), `offset` moves the object, in widths and heights.
    """

    azimuth: float
    elevation: float
    roll: float
    distance: float
    focal: float
    offset: tuple[float, float]

    def axes(self) -> np.ndarray:
        """The rows right, down, forward in the object frame, `(3, 3)`."""
        ca, sa = math.cos(self.azimuth), math.sin(self.azimuth)
        ce, se = math.cos(self.elevation), math.sin(self.elevation)
        forward = np.array([-ca * ce, -sa * ce, -se])
        right = np.array([-sa, ca, 0.0])
        down = np.array([ca * se, sa * se, -ce])
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        return np.stack([cr * right + sr * down, -sr * right + cr * down, forward])

    def project(self, points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Projects `(V, 3)` points to `(V, 2)` pixels (x, y) of a picture of `size` (W, H), and their depth
        `(V,)`.
        """
        axes = self.axes()
        local = np.stack([(points * axis).sum(axis=1) for axis in axes], axis=1)
        depth = local[:, 2] + self.distance
        scale = self.focal * max(size) / depth
        x = local[:, 0] * scale + size[0] * (0.5 + self.offset[0])
        y = local[:, 1] * scale + size[1] * (0.5 + self.offset[1])
        return np.stack([x, y], axis=1), depth


@dataclass(frozen=True)
class Raster:
    """What the z-buffer saw, `(H, W)` each, at `SUPERSAMPLE` times the picture's size.

    `part` is the part index of each pixel (-1 background), `shade` its brightness in 0..255, `depth` its
    inverse depth (0 background).
    """

    part: np.ndarray
    shade: np.ndarray
    depth: np.ndarray


def rasterise(
    solids: Sequence[Solid],
    camera: Camera,
    light: np.ndarray,
    size: tuple[int, int],
    before: Raster | None = None,
) -> Raster:
    """Draws every face that looks at the camera into a z-buffer.

    Args:
        solids: what to draw, in the camera's frame of reference.
        camera: where it is seen from.
        light: unit vector towards the light.
        size: the picture's (W, H).
        before: draw among what this one shows already; its parts keep their numbers, the new ones count on
            from `FIRST_NEW`.
    """
    width, height = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
    face_of = np.full((height, width), -1, dtype=np.int32)
    depth = np.zeros((height, width), dtype=np.int64) if before is None else before.depth.copy()
    vertices, faces, counts, owners, smooth = _gather(solids)
    facing, level = _shade(vertices, faces, counts, owners, smooth, camera, light)
    xy, z = camera.project(vertices, (width, height))
    xy, inverse = np.round(xy * _SNAP) / _SNAP, np.round(_DEPTH / z)
    corners, nearness = xy[faces[facing]], inverse[faces[facing]]
    planes = _planes(corners, nearness)
    limits = np.array([width, height])
    low = np.maximum(np.floor(corners.min(axis=1)), 0).astype(np.int64).tolist()
    high = np.minimum(np.ceil(corners.max(axis=1)) + 1, limits).astype(np.int64).tolist()
    columns = zip(corners, counts[facing].tolist(), planes, low, high, strict=True)
    for index, (polygon, count, plane, (x0, y0), (x1, y1)) in enumerate(columns):
        if x0 >= x1 or y0 >= y1 or not np.isfinite(plane[0]):
            continue
        px, py = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
        window = (slice(y0, y1), slice(x0, x1))
        near = np.round(plane[0] + plane[1] * px[None] + plane[2] * py[:, None]).astype(np.int64)
        seen = _inside(polygon[:count], px, py) & (near > depth[window])
        np.copyto(depth[window], near, where=seen)
        face_of[window][seen] = index
    return _resolve(face_of, depth, owners[facing], _shade_planes(corners, counts[facing], level), before)


def _resolve(
    face_of: np.ndarray, depth: np.ndarray, owners: np.ndarray, shades: np.ndarray, before: Raster | None
) -> Raster:
    """From the face that each pixel shows (-1: none) to its part and brightness."""
    rows, columns = np.nonzero(face_of >= 0)
    face = face_of[rows, columns]
    level = shades[face, 0] + shades[face, 1] * (columns + 0.5) + shades[face, 2] * (rows + 0.5)
    if before is None:
        part, shade = np.full(face_of.shape, -1, dtype=np.int16), np.zeros(face_of.shape, dtype=np.uint8)
    else:
        part, shade = before.part.copy(), before.shade.copy()
    part[rows, columns] = owners[face] + (0 if before is None else FIRST_NEW)
    shade[rows, columns] = np.clip(np.round(level), 0, 255)
    return Raster(part, shade, depth)


def _gather(solids: Sequence[Solid]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All vertices `(V, 3)`, faces `(F, K)` (short ones repeat their last corner), and of each face the count
    of corners, the solid's index and whether it is shaded round, `(F,)` each.
    """
    start, faces, owners, smooth = 0, [], [], []
    for index, solid in enumerate(solids):
        faces += [[start + i for i in face] for face in solid.faces]
        owners += [index] * len(solid.faces)
        smooth += [solid.smooth and len(face) <= 4 for face in solid.faces]
        start += len(solid.vertices)
    longest = max(len(face) for face in faces)
    padded = [face + face[-1:] * (longest - len(face)) for face in faces]
    counts = np.array([len(face) for face in faces])
    vertices = np.concatenate([solid.vertices for solid in solids])
    return vertices, np.array(padded), counts, np.array(owners), np.array(smooth)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of `(F, 3)` rows."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _shade(
    vertices: np.ndarray,
    faces: np.ndarray,
    counts: np.ndarray,
    owners: np.ndarray,
    smooth: np.ndarray,
    camera: Camera,
    light: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the faces that look at the camera, and the brightness of their corners in 0..255, `(F, K)`:
    light from the sky above, and from the sun or lamp at `light`.
    """
    corners = vertices[faces]
    first = corners[:, 0]
    normal = _cross(corners[:, 1] - first, corners[:, 2] - first)
    length = np.sqrt((normal * normal).sum(axis=1))
    middle = corners.mean(axis=1)
    count = np.bincount(owners)
    centre = np.stack([np.bincount(owners, weights=middle[:, i]) / count for i in range(3)], axis=1)[owners]
    normal = np.where((((first - centre) * normal).sum(axis=1) < 0)[:, None], -normal, normal)
    eye = -camera.axes()[2] * camera.distance
    facing = np.flatnonzero((((eye - first) * normal).sum(axis=1) > 0) & (length > 1e-12))
    round_faces = np.flatnonzero(smooth)
    total = np.zeros_like(vertices)
    for k in range(4):
        once = round_faces[counts[round_faces] > k]
        for i in range(3):
            total[:, i] += np.bincount(faces[once, k], weights=normal[once, i], minlength=len(vertices))
    normals = np.where(smooth[facing, None, None], total[faces[facing]], normal[facing, None, :])
    normals = normals / np.maximum(np.sqrt((normals * normals).sum(axis=2)), 1e-12)[:, :, None]
    sun = np.maximum(0.0, (normals * light).sum(axis=2))
    return facing, np.round(255 * (0.36 + 0.1 * (1 + normals[:, :, 2]) + 0.5 * sun) * _SNAP) / _SNAP


def _shade_planes(corners: np.ndarray, counts: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Brightness of each face as a plane in the picture (offset, slope along x, slope along y), `(F, 3)`: the
    least-squares plane through its corners; flat where they leave it open.
    """
    weight = (np.arange(corners.shape[1])[None] < counts[:, None]).astype(np.float64)

    def total(values: np.ndarray) -> np.ndarray:
        sums = np.zeros(len(values))
        for k in range(values.shape[1]):
            sums = sums + weight[:, k] * values[:, k]
        return sums

    x, y = corners[:, :, 0], corners[:, :, 1]
    mx, my, mean = total(x) / counts, total(y) / counts, total(level) / counts
    dx, dy, dv = x - mx[:, None], y - my[:, None], level - mean[:, None]
    xx, yy, xy, xv, yv = total(dx * dx), total(dy * dy), total(dx * dy), total(dx * dv), total(dy * dv)
    area = xx * yy - xy * xy
    steep = area > 0.02 * xx * yy
    safe = np.where(steep, area, 1.0)
    slope_x = np.where(steep, (xv * yy - yv * xy) / safe, 0.0)
    slope_y = np.where(steep, (yv * xx - xv * xy) / safe, 0.0)
    return np.stack([mean - slope_x * mx - slope_y * my, slope_x, slope_y], axis=1)


def _planes(corners: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Inverse depth of each face as a plane in the picture: offset, slope along x, slope along y, `(F, 3)`;
    NaN seen edge-on.
    """
    x, y = corners[:, :3, 0], corners[:, :3, 1]
    d1, d2 = inverse[:, 1] - inverse[:, 0], inverse[:, 2] - inverse[:, 0]
    x1, x2, y1, y2 = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0], y[:, 1] - y[:, 0], y[:, 2] - y[:, 0]
    area = x1 * y2 - x2 * y1
    area = np.where(area == 0.0, np.nan, area)
    slope_x, slope_y = (d1 * y2 - d2 * y1) / area, (d2 * x1 - d1 * x2) / area
    return np.stack([inverse[:, 0] - slope_x * x[:, 0] - slope_y * y[:, 0], slope_x, slope_y], axis=1)


def _inside(polygon: np.ndarray, px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Which pixel centres lie in a convex polygon `(K, 2)`: `(len(py), len(px))` bool."""
    following = np.concatenate([polygon[1:], polygon[:1]])
    (x, y), (dx, dy) = polygon.T, (following - polygon).T
    if float((x * following[:, 1] - following[:, 0] * y).sum()) < 0:
        dx, dy = -dx, -dy
    across = dx[:, None] * (py[None] - y[:, None])
    along = dy[:, None] * (px[None] - x[:, None])
    inside: np.ndarray = (across[:, :, None] >= along[:, None, :]).all(axis=0)
    return inside


def locate(
    keypoint: Keypoint, camera: Camera, raster: Raster, size: tuple[int, int], tolerance: float = 0.05
) -> tuple[tuple[float, float], bool]:
    """Where a keypoint falls in the picture, in pixels (x, y; the first pixel's centre is 0) to 1/64, and
    whether it is seen.

    It is seen inside the frame where nothing within a pixel and a half around it lies more than `tolerance`
    object units before it everywhere: on an outline one free neighbour is enough.
    """
    point = np.array(keypoint.xyz, dtype=np.float64)
    if keypoint.side:
        right = np.array([-math.sin(camera.azimuth), math.cos(camera.azimuth), 0.0])
        point = point + keypoint.side * keypoint.radius * right
    xy, depth = camera.project(point[None], size)
    x, y = (round(v * _SNAP) / _SNAP - 0.5 for v in xy[0].tolist())
    if not (0 <= x <= size[0] - 1 and 0 <= y <= size[1] - 1):
        return (x, y), False
    threshold = math.floor(_DEPTH / (float(depth[0]) - tolerance))
    column, row = (int((v + 0.5) * SUPERSAMPLE) for v in (x, y))
    reach = SUPERSAMPLE
    near = raster.depth[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return (x, y), bool((near <= threshold).any())
