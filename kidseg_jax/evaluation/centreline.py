"""The line in the middle of a tree of vessels."""

from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

from kidseg_jax.imaging.volume import Mask, Spacing

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REACH = 1.5
"""What lies within this many radii (and a voxel) of the line belongs to it; beyond begins a branch."""


class Centreline(NamedTuple):
    """points: int (n, 3), voxels (z, y, x); edges: int (m, 2), steps between points; lengths_mm: (m,)."""

    points: Indices
    edges: Indices
    lengths_mm: Floats


def centreline(mask: Mask, spacing_mm: Spacing) -> Centreline:
    """A tree of lines in each connected piece (26 neighbours) of a mask, from end to end of every branch.

    mask: bool (z, y, x); spacing_mm: (z, y, x). A lone voxel is a point without a step; a loop is open at one
    place; an empty mask has no point. Steps are measured between points that are moved half-way to the middle
    of their neighbours, so that an oblique line is not measured as stairs.
    Source: Sato et al. 2000, "TEASAR: tree-structure extraction algorithm for accurate and robust skeletons".
    """
    voxels = np.argwhere(mask)
    at_mm = voxels * np.asarray(spacing_mm, np.float64)
    padded = distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)
    depth_mm = np.asarray(padded)[1:-1, 1:-1, 1:-1][mask]
    steps = _steps(mask, voxels)
    long_mm = np.linalg.norm(at_mm[steps[:, 0]] - at_mm[steps[:, 1]], axis=1)
    inward = long_mm * (depth_mm[steps] ** -3.0).sum(1)  # the middle is the short way
    n_pieces, piece = connected_components(_graph(steps, long_mm, len(voxels)), directed=False)
    roots = _roots(_graph(steps, long_mm, len(voxels)), piece, n_pieces)
    from_root_mm = _distances(_graph(steps, long_mm, len(voxels)), roots)[0]
    before = _distances(_graph(steps, inward, len(voxels)), roots)[1]
    on_line = _grow(at_mm, depth_mm * REACH + max(spacing_mm), from_root_mm, before, roots)
    number = np.full(len(voxels), -1)
    number[on_line] = np.arange(len(on_line))
    child = on_line[before[on_line] >= 0]
    edges = np.stack([number[before[child]], number[child]], axis=1)
    return Centreline(voxels[on_line], edges, _lengths(_straightened(at_mm[on_line], edges), edges))


def _steps(mask: Mask, voxels: Indices) -> Indices:
    """Pairs of voxels that touch, each pair once."""
    number = np.full(np.add(mask.shape, 2), -1)
    number[1:-1, 1:-1, 1:-1][mask] = np.arange(len(voxels))
    pairs = []
    for step in product((-1, 0, 1), repeat=3):
        if step > (0, 0, 0):
            beside = number[tuple((voxels + 1 + step).T)]
            pairs.append(np.stack([np.flatnonzero(beside >= 0), beside[beside >= 0]], axis=1))
    return np.concatenate(pairs)


def _graph(steps: Indices, weights: Floats, n: int) -> csr_array:
    return csr_array((weights, (steps[:, 0], steps[:, 1])), shape=(n, n))


def _distances(graph: csr_array, sources: Indices) -> tuple[Floats, Indices]:
    """Each voxel's shortest way to the source of its piece: its length, and the voxel before (-1: none)."""
    if not len(sources):
        return np.zeros(0), np.zeros(0, np.int64)
    far, before, _ = dijkstra(graph, directed=False, indices=sources, return_predecessors=True, min_only=True)
    return np.asarray(far), np.maximum(before, -1).astype(np.int64)


def _roots(graph: csr_array, piece: Indices, n_pieces: int) -> Indices:
    """An end of each piece: the voxel that lies farthest from its first."""
    first = np.unique(piece, return_index=True)[1]
    far = _distances(graph, first)[0]
    order = np.lexsort((far, piece))
    last = np.searchsorted(piece[order], np.arange(n_pieces), side="right") - 1
    return order[last]


def _grow(at_mm: Floats, reach_mm: Floats, far_mm: Floats, before: Indices, roots: Indices) -> Indices:
    """Voxels on the ways back to the roots from every end, the farthest end first."""
    lines = np.zeros(len(at_mm), bool)
    lines[roots] = True
    if not len(roots):
        return np.zeros(0, np.int64)
    tree = KDTree(at_mm)
    open_mm = far_mm.copy()
    fresh = roots
    while True:
        for near in tree.query_ball_point(at_mm[fresh], reach_mm[fresh]):
            open_mm[near] = -1.0
        end = int(open_mm.argmax())
        if open_mm[end] < 0:
            return np.flatnonzero(lines)
        way = []
        while not lines[end]:
            lines[end] = True
            way.append(end)
            end = int(before[end])
        fresh = np.array(way)


def _lengths(at_mm: Floats, edges: Indices) -> Floats:
    return np.linalg.norm(at_mm[edges[:, 0]] - at_mm[edges[:, 1]], axis=1)


def _straightened(at_mm: Floats, edges: Indices) -> Floats:
    """Points with two neighbours, moved half-way to the middle of them, twice; ends and forks stay."""
    both = np.concatenate([edges, edges[:, ::-1]])
    inner = (np.bincount(both[:, 0], minlength=len(at_mm)) == 2)[:, None]
    for _ in range(2):
        neighbours = np.zeros_like(at_mm)
        np.add.at(neighbours, both[:, 0], at_mm[both[:, 1]])
        at_mm = np.where(inner, (at_mm + neighbours / 2) / 2, at_mm)
    return at_mm
