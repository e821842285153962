"""Is a surface fit to print? Open edges, edges of more than two triangles, triangles that cross, pieces."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kidseg_jax.evaluation.surfaces import Surface, open3d

RAYS_AT_ONCE = 1 << 18
NEAR_END = 1e-4  # of an edge: what it meets there is looked at by the edges that go on


class Soundness(NamedTuple):
    """What is wrong with a surface: all counts are 0 where a slicer takes it as it is.

    open_edges: edges that fewer than two triangles have, or that two pass in one direction. crowded_edges: of
    more than two triangles. crossing: triangles through which an edge of another one goes. places_shared:
    vertices at a place where there is another one, which a reader of STL would make one.
    """

    open_edges: int
    crowded_edges: int
    crossing: int
    places_shared: int

    @property
    def is_sound(self) -> bool:
        return not any(self)


def soundness(surface: Surface) -> Soundness:
    """Count what is wrong with a surface."""
    return topology(surface)._replace(crossing=len(crossing_triangles(surface)))


def topology(surface: Surface) -> Soundness:
    """Count what is wrong with a surface but the triangles that cross, which are not looked for."""
    n, edges = len(surface.vertices_mm), directed_edges(surface)
    forward, backward = (np.sort(edges[:, one] * n + edges[:, other]) for one, other in ((0, 1), (1, 0)))
    paired = np.array_equal(forward, backward) and bool((np.diff(forward) > 0).all())
    unpaired = 0 if paired else _unpaired(forward, backward)
    either = np.sort(edges.min(1) * n + edges.max(1))
    crowded = len(np.unique(either[2:][either[2:] == either[:-2]]))
    ordered = surface.vertices_mm[np.lexsort(surface.vertices_mm.T)]
    shared = int((np.diff(ordered, axis=0) == 0).all(1).sum())
    return Soundness(unpaired, crowded, 0, shared)


def _unpaired(forward: np.ndarray, backward: np.ndarray) -> int:
    """Of sorted edges: those that no triangle passes the other way, and those passed twice one way."""
    return int((~np.isin(forward, backward)).sum() + (np.diff(forward) == 0).sum())


def crossing_triangles(surface: Surface) -> np.ndarray:
    """Numbers of the triangles, sorted, through which an edge goes that shares no vertex with them.

    Where two triangles of general position cross, an edge of one goes through the other: each edge is sent as
    a ray (float32, about the surface's middle), and what it meets on the way is looked at in float64. Edges
    in the plane of a triangle do not count.
    """
    o3d = open3d()
    vertices = (surface.vertices_mm - surface.vertices_mm.mean(0)).astype(np.float32)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(surface.triangles.astype(np.uint32)))
    edges = directed_edges(surface)
    edges = edges[edges[:, 0] < edges[:, 1]]
    crossed = [np.zeros(0, np.int64)]
    for first in range(0, len(edges), RAYS_AT_ONCE):
        start, end = np.moveaxis(edges[first : first + RAYS_AT_ONCE], 1, 0)
        rays = np.concatenate([vertices[start], vertices[end] - vertices[start]], axis=1)
        some = scene.test_occlusions(o3d.core.Tensor(rays), tnear=NEAR_END, tfar=1 - NEAR_END).numpy()
        if not some.any():
            continue  # Open3D breaks down on a list of no rays
        rays, start, end = rays[some], start[some], end[some]
        met = scene.list_intersections(o3d.core.Tensor(rays))
        along = met["t_hit"].numpy()
        on_edge = (along >= 0) & (along <= 1)
        edge = met["ray_ids"].numpy().astype(np.int64)[on_edge]
        triangle = met["primitive_ids"].numpy().astype(np.int64)[on_edge]
        corners = surface.triangles[triangle]
        touching = ((corners == start[edge, None]) | (corners == end[edge, None])).any(1)
        edge, triangle, corners = edge[~touching], triangle[~touching], corners[~touching]
        through = _goes_through(
            surface.vertices_mm[start[edge]], surface.vertices_mm[end[edge]], surface.vertices_mm[corners]
        )
        crossed.append(triangle[through])
    return np.unique(np.concatenate(crossed))


def _goes_through(start: np.ndarray, end: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Whether each stretch from start to end (n, 3) goes through its triangle (n, 3, 3): Moeller and Trumbore
    1997.
    """
    a, b, c = np.moveaxis(corners, 1, 0)
    along, h = end - start, np.cross(end - start, c - a)
    q = np.cross(start - a, b - a)
    volume = np.einsum("ij,ij->i", h, b - a)
    parts = [np.einsum("ij,ij->i", *pair) for pair in ((h, start - a), (q, along), (q, c - a))]
    size = np.linalg.norm(along, axis=1) * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    flat = np.abs(volume) <= 1e-9 * size
    u, v, t = (part / np.where(flat, 1, volume) for part in parts)
    return ~flat & (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)


def directed_edges(surface: Surface) -> np.ndarray:
    """The edges (3 m, 2) as each triangle passes them."""
    return np.concatenate([surface.triangles[:, [i, (i + 1) % 3]] for i in range(3)])


def neighbours(surface: Surface) -> sparse.csr_matrix:
    """Which vertices share an edge: (n, n), the number of triangles that pass it in that direction."""
    edges, n = directed_edges(surface), len(surface.vertices_mm)
    return sparse.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (n, n))


def pieces(surface: Surface) -> tuple[int, np.ndarray]:
    """How many pieces a surface has, and the piece of every triangle, (m,)."""
    count, piece = connected_components(neighbours(surface), directed=False)
    return int(count), piece[surface.triangles[:, 0]]
