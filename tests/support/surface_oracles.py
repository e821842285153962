"""Surfaces of small masks the slow way: mixed cells, their triangles, and a ball to cut them from."""

import itertools

import numpy as np


def cells_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest corners (n, 3) of the 2x2x2 cells that are not all alike, and their 8 corners (n, 8) as bool."""
    padded = np.pad(mask != 0, 1)
    corners = np.stack(
        [
            padded[dz : dz + mask.shape[0] + 1, dy : dy + mask.shape[1] + 1, dx : dx + mask.shape[2] + 1]
            for dz, dy, dx in itertools.product((0, 1), repeat=3)
        ],
        axis=-1,
    )
    mixed = corners.any(-1) & ~corners.all(-1)
    return np.argwhere(mixed) - 1, corners[mixed]


def triangles_of(mask: np.ndarray, spacing) -> np.ndarray:
    """Triangles (n, 3, 3) in mm of the surface: loops over edge middles, the rarer corners kept apart."""
    triangles = []
    for cell, corners in zip(*cells_of(mask), strict=True):
        inside = corners if corners.sum() <= 4 else ~corners
        for loop in loops_of(tuple(bool(c) for c in inside)):
            fans = [
                [
                    (loop[k], loop[(k + i) % len(loop)], loop[(k + i + 1) % len(loop)])
                    for i in range(1, len(loop) - 1)
                ]
                for k in range(len(loop))
            ]
            areas = [sum(np.linalg.norm(np.cross(q - p, r - p)) for p, q, r in fan) for fan in fans]
            best = next(fan for fan, area in zip(fans, areas, strict=True) if area > max(areas) - 1e-9)
            triangles += [[(p + cell) * spacing for p in triangle] for triangle in best]
    return np.reshape(triangles, (-1, 3, 3))


def loops_of(inside) -> list[list[np.ndarray]]:
    """Closed loops of edge middles around the set corners of one cell."""
    after = {}
    for axis, side in itertools.product(range(3), (0, 1)):
        u, v = 4 >> (axis + 1) % 3, 4 >> (axis + 2) % 3
        face = [side * (4 >> axis) | c for c in ((0, u, u | v, v) if side else (0, v, u | v, u))]
        for i in range(4):
            if inside[face[i]] or not inside[face[(i + 1) % 4]]:
                continue
            j = i + 1
            while inside[face[(j + 1) % 4]]:
                j += 1
            after[frozenset((face[i], face[(i + 1) % 4]))] = frozenset((face[j % 4], face[(j + 1) % 4]))
    middle = {e: np.mean([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in e], axis=0) for e in after}
    loops = []
    while after:
        start = edge = min(after, key=lambda e: (min(e), max(e) ^ min(e)))
        loop = []
        while edge in after:
            loop.append(middle[edge])
            edge = after.pop(edge)
        assert edge == start
        loops.append(loop)
    return loops


def ball(shape, centre, radius, spacing=(1, 1, 1)) -> np.ndarray:
    grid = np.indices(shape).T.reshape(-1, 3) * spacing
    return (
        (np.linalg.norm(grid - np.multiply(centre, spacing), axis=1) <= radius).reshape(shape[::-1]).T.copy()
    )
