"""Masks of a plane as closed polygons, half-way between pixel centres, and polygons as masks again."""

import importlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax.imaging.volume import Mask

BEND = 0.2  # pixels


def outlines(mask: Mask) -> list[np.ndarray]:
    """The outline of every piece of a mask (rows, columns): polygons (n, 2) of (row, column), not closed.

    Sides lie half-way between the centres of pixels inside and outside (marching squares), so that no centre
    is nearer to a side than a third of a pixel. A hole is joined to the outline around it by a channel
    without width (the keyhole of DICOM PS3.3 C.8.8.6.3). Needs contourpy.
    """
    contourpy = importlib.import_module("contourpy")
    levels = np.pad(mask, 1).astype(float)
    kind = contourpy.FillType.OuterOffset
    pieces, offsets = contourpy.contour_generator(z=levels, fill_type=kind).filled(0.5, 2.0)
    polygons = []
    for points, starts in zip(pieces, offsets, strict=True):
        rings = [points[a : b - 1, ::-1] - 1 for a, b in pairwise(starts)]
        polygons.append(_without_straight(_keyhole(rings)))
    return polygons


def _keyhole(rings: Sequence[np.ndarray]) -> np.ndarray:
    """One polygon of an outline and its holes: each in turn is joined where it comes nearest."""
    merged, holes = rings[0], list(rings[1:])
    while holes:
        tree = KDTree(merged)
        apart, places = (list(one) for one in zip(*(tree.query(hole) for hole in holes), strict=True))
        at = int(np.argmin([one.min() for one in apart]))
        leave = int(np.argmin(apart[at]))
        enter = int(np.asarray(places[at])[leave])
        hole = np.roll(holes.pop(at), -leave, axis=0)
        bend = _between(merged[enter], hole[0])
        merged = np.concatenate([merged[: enter + 1], bend, hole, hole[:1], bend, merged[enter:]])
    return merged


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A place (1, 2) a little off the middle of a channel, so that it goes through no pixel's centre."""
    way = (end - start) / np.linalg.norm(end - start)
    return ((start + end) / 2 + BEND * np.array([-way[1], way[0]]))[None]


def _without_straight(points: np.ndarray) -> np.ndarray:
    """The polygon without the points that lie on the way from one neighbour straight to the other."""
    back, on = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    bends = (np.abs(back[:, 0] * on[:, 1] - back[:, 1] * on[:, 0]) > 1e-9) | ((back * on).sum(1) < 0)
    return points[bends]


def filled(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> Mask:
    """The pixels (rows, columns) whose centres lie inside an odd number of turns of the polygons.

    polygons: (n, 2) of (row, column) in pixels, closed or not, which may reach outside. A centre on a side
    counts as inside where the side is a left or upper one.
    """
    rows, columns = shape
    starts = np.concatenate([np.zeros((0, 2)), *polygons])
    ends = np.concatenate([np.zeros((0, 2)), *(np.roll(one, -1, axis=0) for one in polygons)])
    down = starts[:, 0] > ends[:, 0]
    upper, lower = np.where(down[:, None], ends, starts), np.where(down[:, None], starts, ends)
    first, last = (np.ceil(one[:, 0]).clip(0, rows).astype(np.int64) for one in (upper, lower))
    side = np.repeat(np.arange(len(starts)), last - first)
    row = np.arange(len(side)) - np.repeat(np.cumsum(last - first) - last, last - first)
    share = (row - upper[side, 0]) / (lower[side, 0] - upper[side, 0])
    crossing = upper[side, 1] + share * (lower[side, 1] - upper[side, 1])
    column = np.ceil(crossing).clip(0, columns).astype(np.int64)
    crossings = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    return (np.cumsum(crossings.reshape(rows, columns + 1), axis=1)[:, :columns] % 2).astype(bool)
