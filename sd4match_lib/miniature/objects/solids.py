"""Convex solids, the bricks of every MiniPair object.

Object frame: x points to the object's front, y to its left, z up; lengths in object units (an object is about
one unit long).
"""

import math
from dataclasses import dataclass

import numpy as np

Vec = tuple[float, float, float]


@dataclass(frozen=True)
class Solid:
    """A convex polyhedron: vertices `(V, 3)` in the object frame, faces as tuples of vertex indices.

    `smooth`: its faces of three or four corners stand for a round surface, and are shaded as one.
    """

    vertices: np.ndarray
    faces: tuple[tuple[int, ...], ...]
    smooth: bool = False


_HEXAHEDRON = ((0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))


def hexahedron(bottom: list[Vec], top: list[Vec]) -> Solid:
    """Joins two quadrilaterals of four corners each, given in the same turning order."""
    return _six_faces(np.array(bottom + top, dtype=np.float64))


def along(first: Vec, second: Vec) -> list[Vec]:
    """The corners of a quadrilateral that is its own mirror image: two on the left, two on the right."""
    (x0, y0, z0), (x1, y1, z1) = first, second
    return [first, second, (x1, -y1, z1), (x0, -y0, z0)]


def across(first: Vec, second: Vec) -> list[Vec]:
    """The same corners, turning from the first one over to the right."""
    corners = along(second, first)
    return [*corners[1:], corners[0]]


def _six_faces(vertices: np.ndarray) -> Solid:
    """The hexahedron of eight corners; faces that are not plane are folded along a diagonal, outwards."""
    middle = vertices.mean(axis=0)
    faces: list[tuple[int, ...]] = []
    for face in _HEXAHEDRON:
        a, b, c, d = vertices[list(face)]
        normal = np.cross(b - a, c - a)
        bend = float((normal * (d - a)).sum())
        if abs(bend) <= 1e-6:
            faces.append(face)
            continue
        outside = float((normal * (a - middle)).sum()) > 0
        # The corner d stands out of the plane of the others: then b-d is the ridge, else a-c.
        i, j, k, m = face
        faces += [(i, j, m), (j, k, m)] if (bend > 0) == outside else [(i, j, k), (i, k, m)]
    return Solid(vertices, tuple(faces))


def box(centre: Vec, size: Vec, taper: tuple[float, float] = (1.0, 1.0), shift: float = 0.0) -> Solid:
    """An upright box; `taper` scales the top's x and y extent, `shift` moves the top along x."""
    (cx, cy, cz), (sx, sy, sz) = centre, (s / 2 for s in size)
    corners = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    bottom = [(cx + sx * i, cy + sy * j, cz - sz) for i, j in corners]
    top = [(cx + shift + sx * taper[0] * i, cy + sy * taper[1] * j, cz + sz) for i, j in corners]
    return hexahedron(bottom, top)


def plate(corners: list[Vec], thickness: float) -> Solid:
    """A quadrilateral given by four corners, made `thickness` thick along its normal."""
    quad = np.array(corners, dtype=np.float64)
    normal = np.cross(quad[1] - quad[0], quad[3] - quad[0])
    offset = normal / math.sqrt(float((normal * normal).sum())) * thickness / 2
    return _six_faces(np.concatenate([quad - offset, quad + offset]))


def _frame(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across `axis`."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    u = np.cross(axis, helper)
    u = u / math.sqrt(float((u * u).sum()))
    return u, np.cross(axis, u)


def cone(start: Vec, end: Vec, r_start: float, r_end: float, sides: int = 8) -> Solid:
    """A truncated cone (a cylinder when both radii agree) from `start` to `end`."""
    a, b = np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)
    axis = b - a
    axis = axis / math.sqrt(float((axis * axis).sum()))
    u, v = _frame(axis)
    angles = [2 * math.pi * (i + 0.5) / sides for i in range(sides)]
    ring = np.array([math.cos(t) * u + math.sin(t) * v for t in angles])
    vertices = np.concatenate([a + r_start * ring, b + r_end * ring])
    around = tuple((i, (i + 1) % sides, sides + (i + 1) % sides, sides + i) for i in range(sides))
    return Solid(vertices, (*around, tuple(range(sides)), tuple(range(sides, 2 * sides))), sides > 4)


def rod(start: Vec, end: Vec, radius: float, sides: int = 8) -> Solid:
    """A cylinder from `start` to `end`."""
    return cone(start, end, radius, radius, sides)


def ball(centre: Vec, radius: float, sides: int, rings: int) -> Solid:
    """A sphere, as `ellipsoid` makes it."""
    return ellipsoid(centre, (radius, radius, radius), sides, rings)


def ellipsoid(centre: Vec, radii: Vec, sides: int = 10, rings: int = 5, pitch: float = 0.0) -> Solid:
    """An ellipsoid along x, turned by `pitch` radians about y (positive lifts its front)."""
    rows = []
    for i in range(1, rings):
        x, r = math.cos(math.pi * i / rings), math.sin(math.pi * i / rings)
        turn = [2 * math.pi * (j + 0.5) / sides for j in range(sides)]
        rows += [(x, r * math.cos(t), r * math.sin(t)) for t in turn]
    points = np.array([*rows, (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)]) * np.array(radii)
    c, s = math.cos(pitch), math.sin(pitch)
    x, z = points[:, 0].copy(), points[:, 2].copy()
    points[:, 0], points[:, 2] = c * x - s * z, s * x + c * z
    front, back = len(rows), len(rows) + 1
    faces: list[tuple[int, ...]] = []
    for j in range(sides):
        k = (j + 1) % sides
        faces.append((front, j, k))
        for i in range(rings - 2):
            faces.append((i * sides + j, i * sides + k, (i + 1) * sides + k, (i + 1) * sides + j))
        faces.append((back, (rings - 2) * sides + k, (rings - 2) * sides + j))
    return Solid(points + np.array(centre), tuple(faces), smooth=True)


def wheel(centre: Vec, radius: float, width: float, sides: int = 12) -> Solid:
    """A disc whose axle lies along y."""
    x, y, z = centre
    return rod((x, y - width / 2, z), (x, y + width / 2, z), radius, sides)


def ring(centre: Vec, radius: float, width: float, sides: int = 14) -> list[Solid]:
    """An open wheel (a tyre one can look through) with its axle along y, as a chain of boxes."""
    x, y, z = centre
    inner, solids = radius - width, []
    for i in range(sides):
        t0, t1 = 2 * math.pi * i / sides, 2 * math.pi * (i + 1) / sides
        quad = [(inner, t0), (radius, t0), (radius, t1), (inner, t1)]
        flat = [(x + r * math.cos(t), z + r * math.sin(t)) for r, t in quad]
        solids.append(
            hexahedron([(p, y - width / 2, q) for p, q in flat], [(p, y + width / 2, q) for p, q in flat])
        )
    return solids
