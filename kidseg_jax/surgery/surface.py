"""Surfaces between voxels: the half level of a mask that is smoothed less than its shape can bear."""

from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, KDTree, QhullError
from scipy.spatial.distance import cdist

from kidseg_jax import kernels
from kidseg_jax.imaging.volume import Mask, Spacing

Kind = Literal["solid", "tree"]
FINE_MM = 0.9  # surfaces are sampled at least so densely
SOLID_SIGMA = 0.9  # of the coarsest spacing
TREE_SIGMA = 0.7  # voxels along each axis
LARGEST_SIGMA = 0.3  # of the radius of a ball of the mask's volume
MOST_CORNERS = 2000


def surface_between(mask: Mask, spacing_mm: Spacing, kind: Kind = "solid") -> np.ndarray:
    """Points (n, 3) in mm (z, y, x), from the centre of voxel 0, on the smooth surface of a mask.

    A solid is smoothed alike in every direction, its curvature kept to the fourth order; the thin tubes of a
    tree by a fraction of a voxel. A mask that would vanish is not smoothed. An empty mask has no points.
    """
    box = kernels.bounding_box(mask)
    if box is None:
        return np.zeros((0, 3))
    spacing = np.asarray(spacing_mm)
    inside = mask[box.slices]
    sigma = np.full(3, TREE_SIGMA)
    if kind == "solid":
        radius_mm = np.cbrt(np.count_nonzero(inside) * spacing.prod() * 0.75 / np.pi)
        sigma = min(SOLID_SIGMA * spacing.max(), LARGEST_SIGMA * radius_mm) / spacing
    pad = np.ceil(4 * sigma).astype(int) + 1
    level = np.pad(inside, [(int(p), int(p)) for p in pad]).astype(np.float32)
    smooth = ndimage.gaussian_filter(level, sigma, truncate=3.0)
    if kind == "solid":
        smooth = 2 * smooth - ndimage.gaussian_filter(smooth, sigma, truncate=3.0)
    points = _crossings(smooth - 0.5, spacing)
    if len(points) == 0:
        points = _crossings(level - 0.5, spacing)
    return points + (np.asarray(box.lo) - pad) * spacing


def gap_mm(first: np.ndarray, second: np.ndarray) -> float | None:
    """Smallest distance between two sets of points (n, 3) in mm; None where one has none."""
    if not (len(first) and len(second)):
        return None
    few, many = sorted((first, second), key=len)
    tree = KDTree(few)
    return float(tree.query(many, distance_upper_bound=_bound(few, many))[0].min())


def touches(first: Mask, second: Mask) -> bool:
    """Whether a voxel of one shares a face with a voxel of the other."""
    for axis in range(3):
        ahead, behind = _shifted(axis)
        if (first[ahead] & second[behind]).any() or (first[behind] & second[ahead]).any():
            return True
    return bool((first & second).any())


def extents_mm(points: np.ndarray) -> tuple[float, float, float] | None:
    """Longest diameter of points (n, 3) in mm, the longest across it, and the extent across both.

    None where the points do not span a body.
    """
    try:
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError, IndexError):
        return None
    longest, way = _longest(corners)
    flat = corners - np.outer(corners @ way, way)
    across, second = _longest(flat)
    third = np.cross(way, second)
    along = corners @ third
    return longest, across, float(np.ptp(along))


def _longest(points: np.ndarray) -> tuple[float, np.ndarray]:
    """The two points farthest apart: their distance and the direction from one to the other."""
    points = points[:: len(points) // MOST_CORNERS + 1]
    gaps = cdist(points, points)
    first, second = np.unravel_index(gaps.argmax(), gaps.shape)
    longest = float(gaps[first, second])
    return longest, (points[second] - points[first]) / max(longest, 1e-9)


def _crossings(level: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Where a field passes zero between neighbours, in mm, on a grid refined to FINE_MM."""
    parts = np.maximum(1, np.ceil(spacing / FINE_MM - 1e-6)).astype(int)
    if (parts > 1).any():
        at = [np.arange((n - 1) * k + 1) / k for n, k in zip(level.shape, parts, strict=True)]
        level = kernels.resample_linear(level, *at, widths=(1, 1, 1))
    found = []
    for axis in range(3):
        ahead, behind = _shifted(axis)
        a, b = level[behind], level[ahead]
        at = np.nonzero((a > 0) != (b > 0))
        places = np.stack(at, axis=1).astype(float)
        places[:, axis] += a[at] / (a[at] - b[at])
        found.append(places)
    return np.concatenate(found) * (spacing / parts)


def _bound(few: np.ndarray, many: np.ndarray) -> float:
    """No pair is nearer than some pair of a few of them."""
    tree = KDTree(few)
    return float(tree.query(many[:: len(many) // 500 + 1])[0].min()) * (1 + 1e-9) + 1e-6


def _shifted(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of an array without its first, and without its last, layer along an axis."""
    ahead, behind = [slice(None)] * 3, [slice(None)] * 3
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    return tuple(ahead), tuple(behind)
