"""Camera and z-buffer: from an object model to face, depth and keypoint positions in the picture.

Vertices are snapped to 1/64 pixel and depths to integers before any pixel is decided, so that the last bits
in which machines' floating-point libraries differ cannot change a picture.
"""

import math
from dataclasses import dataclass

import numpy as np

from sd4match_lib.miniature.objects.model import Keypoint, ObjectModel

SUPERSAMPLE = 2
_SNAP = 64.0
_DEPTH = float(1 << 26)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the object: angles in radians, `distance` in object units.

    `azimuth` 0 sees the object's front, a quarter turn its left side. `focal` is in pictures (1 = a field of
    view of 53 degrees), `offset` moves the object in the picture, in pictures.
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

    def project(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Projects `(V, 3)` points to `(V, 2)` pixels (x, y) of a `size` x `size` picture, and their depth
        `(V,)`.
        """
        axes = self.axes()
        local = np.stack([(points * axis).sum(axis=1) for axis in axes], axis=1)
        depth = local[:, 2] + self.distance
        scale = self.focal * size / depth
        x = local[:, 0] * scale + size * (0.5 + self.offset[0])
        y = local[:, 1] * scale + size * (0.5 + self.offset[1])
        return np.stack([x, y], axis=1), depth

    def unproject(self, xy: np.ndarray, depth: np.ndarray, size: int) -> np.ndarray:
        """The points `(V, 3)` of the object frame that fall on pixels `(V, 2)` at depths `(V,)`."""
        scale = (self.focal * size / depth)[:, None]
        across = (xy - size * (0.5 + np.array(self.offset))) / scale
        return np.concatenate([across, depth[:, None] - self.distance], axis=1) @ self.axes()


@dataclass(frozen=True)
class Raster:
    """What the z-buffer saw, at `SUPERSAMPLE` times the picture's size.

    `part` is the part index of each pixel (-1 background), `shade` its brightness in 0..255, `depth` its
    inverse depth (0 background).
    """

    part: np.ndarray
    shade: np.ndarray
    depth: np.ndarray

    def points(self, camera: Camera) -> np.ndarray:
        """What each pixel of the picture shows, as a point of the object frame `(S, S, 3)`; NaN is the
        background.
        """
        near = self.depth[::SUPERSAMPLE, ::SUPERSAMPLE]
        rows, columns = np.nonzero(near)
        xy = np.stack([columns, rows], axis=1) * SUPERSAMPLE + 0.5
        found = np.full((*near.shape, 3), np.nan)
        found[rows, columns] = camera.unproject(xy, _DEPTH / near[rows, columns], len(self.depth))
        return found


def rasterise(model: ObjectModel, camera: Camera, light: np.ndarray, size: int) -> Raster:
    """Draws every face of the model that looks at the camera into a z-buffer."""
    big = size * SUPERSAMPLE
    part = np.full((big, big), -1, dtype=np.int16)
    shade = np.zeros((big, big), dtype=np.uint8)
    depth = np.zeros((big, big), dtype=np.int64)
    vertices, faces, counts, owners = _gather(model)
    facing, level = _shade(vertices, faces, owners, camera, light)
    xy, z = camera.project(vertices, big)
    xy, inverse = np.round(xy * _SNAP) / _SNAP, np.round(_DEPTH / z)
    corners, nearness = xy[faces[facing]], inverse[faces[facing]]
    planes = _planes(corners, nearness)
    low = np.maximum(np.floor(corners.min(axis=1)), 0).astype(np.int64).tolist()
    high = np.minimum(np.ceil(corners.max(axis=1)) + 1, big).astype(np.int64).tolist()
    columns = zip(
        corners,
        counts[facing].tolist(),
        planes,
        owners[facing].tolist(),
        level.tolist(),
        low,
        high,
        strict=True,
    )
    for polygon, count, plane, owner, brightness, (x0, y0), (x1, y1) in columns:
        if x0 >= x1 or y0 >= y1 or not np.isfinite(plane[0]):
            continue
        px, py = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
        window = (slice(y0, y1), slice(x0, x1))
        near = np.round(plane[0] + plane[1] * px[None] + plane[2] * py[:, None]).astype(np.int64)
        seen = _inside(polygon[:count], px, py) & (near > depth[window])
        np.copyto(depth[window], near, where=seen)
        part[window][seen] = owner
        shade[window][seen] = brightness
    return Raster(part, shade, depth)


def _gather(model: ObjectModel) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All vertices `(V, 3)`, faces `(F, K)` (short ones repeat their last corner), corner counts `(F,)` and
    part indices `(F,)`.
    """
    start, faces, owners = 0, [], []
    for index, (_, _, solid) in enumerate(model.parts):
        faces += [[start + i for i in face] for face in solid.faces]
        owners += [index] * len(solid.faces)
        start += len(solid.vertices)
    longest = max(len(face) for face in faces)
    padded = [face + face[-1:] * (longest - len(face)) for face in faces]
    vertices = np.concatenate([solid.vertices for _, _, solid in model.parts])
    return vertices, np.array(padded), np.array([len(face) for face in faces]), np.array(owners)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of `(F, 3)` rows."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _shade(
    vertices: np.ndarray, faces: np.ndarray, owners: np.ndarray, camera: Camera, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the faces that look at the camera, and their brightness in 0..255 (flat shading)."""
    corners = vertices[faces]
    first = corners[:, 0]
    normal = _cross(corners[:, 1] - first, corners[:, 2] - first)
    length = np.sqrt((normal * normal).sum(axis=1))
    normal /= np.maximum(length, 1e-12)[:, None]
    middle = corners.mean(axis=1)
    count = np.bincount(owners)
    centre = np.stack([np.bincount(owners, weights=middle[:, i]) / count for i in range(3)], axis=1)[owners]
    normal = np.where((((first - centre) * normal).sum(axis=1) < 0)[:, None], -normal, normal)
    eye = -camera.axes()[2] * camera.distance
    facing = np.flatnonzero((((eye - first) * normal).sum(axis=1) > 0) & (length > 1e-12))
    level = 0.42 + 0.58 * np.maximum(0.0, (normal[facing] * light).sum(axis=1))
    return facing, np.minimum(255, np.round(255 * level)).astype(np.int64)


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
    keypoint: Keypoint, camera: Camera, raster: Raster, size: int, tolerance: float = 0.05
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
    if not (0 <= x <= size - 1 and 0 <= y <= size - 1):
        return (x, y), False
    threshold = math.floor(_DEPTH / (float(depth[0]) - tolerance))
    column, row = (int((v + 0.5) * SUPERSAMPLE) for v in (x, y))
    reach = SUPERSAMPLE
    near = raster.depth[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return (x, y), bool((near <= threshold).any())
