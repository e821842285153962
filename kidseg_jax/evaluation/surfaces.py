"""Surfaces in the patient's millimetres, from label maps, and distances to them with Open3D."""

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.formats.raw import require_room
from kidseg_jax.imaging.volume import Geometry, Mask

if importlib.util.find_spec("open3d") is None:
    raise ImportError("surfaces: need Open3D (pip install open3d-cpu libusb-package), which is not installed")

BLOCK = 1 << 19  # triangles whose corners are in memory at once
PIECE_BYTES = 640  # a small triangle takes, with its places, areas and what is sorted to find them
LPS_MM_TO_GLTF = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) / 1000
"""glTF's world is in metres, Y up: x stays, LPS z becomes y, LPS y becomes -z."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh: vertices_mm (n, 3) float64 (x, y, z) LPS; triangles (m, 3) int64, facing outward."""

    vertices_mm: np.ndarray
    triangles: np.ndarray

    @property
    def corners_mm(self) -> np.ndarray:
        """The three corners of every triangle, (m, 3, 3)."""
        return self.vertices_mm[self.triangles]

    @property
    def longest_edges_mm(self) -> np.ndarray:
        """The longest edge of every triangle, (m,)."""
        return self._of_blocks(lambda abc: np.linalg.norm(abc - np.roll(abc, 1, axis=1), axis=2).max(1))

    @property
    def areas_mm2(self) -> np.ndarray:
        """The area of every triangle, (m,)."""
        return self._of_blocks(
            lambda abc: np.linalg.norm(np.cross(abc[:, 1] - abc[:, 0], abc[:, 2] - abc[:, 0]), axis=1) / 2
        )

    @property
    def volume_ml(self) -> float:
        """The enclosed volume of a closed surface; negative when the triangles point inward."""
        centre = self.vertices_mm.mean(0)

        def volumes(abc: np.ndarray) -> np.ndarray:
            a, b, c = np.moveaxis(abc - centre, 1, 0)
            return np.einsum("ij,ij->", a, np.cross(b, c))[None]

        return float(self._of_blocks(volumes).sum() / 6000)

    @property
    def is_watertight(self) -> bool:
        """True when every edge belongs to exactly two triangles that pass it in opposite directions."""
        n, edges = len(self.vertices_mm), [(self.triangles[:, i], self.triangles[:, i - 2]) for i in range(3)]
        if not len(self.triangles) or any((start == end).any() for start, end in edges):
            return False
        forward = np.sort(np.concatenate([start * n + end for start, end in edges]))
        if (np.diff(forward) == 0).any():
            return False
        return np.array_equal(forward, np.sort(np.concatenate([end * n + start for start, end in edges])))

    def _of_blocks(self, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What a function makes of the corners (n, 3, 3) of some triangles at a time, joined."""
        starts = range(0, max(1, len(self.triangles)), BLOCK)
        return np.concatenate([of(self.vertices_mm[self.triangles[i : i + BLOCK]]) for i in starts])


@cache
def open3d() -> ModuleType:
    """Open3D, imported so that nothing but pip is needed: libusb comes from libusb-package."""
    try:
        path = importlib.import_module("libusb_package").get_library_path()
        if path is not None:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except ImportError:
        pass  # a system libusb may do
    return importlib.import_module("open3d")


def surface_of(mask: Mask, geometry: Geometry) -> Surface:
    """The boundary of a mask half-way between voxel centres (Open3D's flying edges), closed.

    mask: bool (z, y, x) on `geometry`. Raises ValueError when the mask is empty or on another grid.
    """
    if mask.shape != geometry.shape:
        raise ValueError(f"surface_of: mask must have the grid's shape {geometry.shape}, got {mask.shape}")
    box = kernels.bounding_box(mask)
    if box is None:
        raise ValueError("surface_of: need a mask with at least one voxel, got an empty one")
    inside = mask[tuple(slice(lo, hi) for lo, hi in zip(box.lo, box.hi, strict=True))]
    levels = np.pad(inside, 1).astype(np.float32)
    mesh = open3d().t.geometry.TriangleMesh.create_isosurfaces(levels, [0.5])
    index = mesh.vertex.positions.numpy().astype(np.float64)[:, ::-1] - 1 + box.lo
    triangles = mesh.triangle.indices.numpy().astype(np.int64)
    surface = Surface(geometry.to_world(index), triangles)
    return surface if surface.volume_ml > 0 else Surface(surface.vertices_mm, triangles[:, ::-1])


def joined(surface: Surface) -> Surface:
    """The same surface, vertices at exactly one place made one."""
    unique, inverse = np.unique(surface.vertices_mm, axis=0, return_inverse=True)
    return Surface(unique, inverse.reshape(-1)[surface.triangles])


def refined(surface: Surface, edge_mm: float) -> Surface:
    """The same surface, each triangle split until its edges are at most `edge_mm` long (not stitched).

    Raises ValueError for one so large that its pieces would take more than `raw.room_bytes`.
    """
    corners, longest = surface.corners_mm, surface.longest_edges_mm
    parts = np.maximum(1, np.ceil(longest / edge_mm - 1e-9))
    require_room(f"a surface of triangles up to {longest.max():.3g} mm", int(PIECE_BYTES * (parts**2).sum()))
    parts = parts.astype(int)
    pieces = [_split(corners[parts == k], int(k)) for k in np.unique(parts)]
    split = np.concatenate(pieces)
    return Surface(split.reshape(-1, 3), np.arange(3 * len(split)).reshape(-1, 3))


class DistanceTo:
    """Distances of points to one surface's triangles, in mm; the search tree is built once."""

    def __init__(self, surface: Surface) -> None:
        o3d = open3d()
        self._tensor = o3d.core.Tensor
        self._centre = surface.vertices_mm.mean(0)  # Embree works in float32
        self._scene = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            self._tensor((surface.vertices_mm - self._centre).astype(np.float32)),
            self._tensor(surface.triangles.astype(np.uint32)),
        )
        self._surface = surface

    @cached_property
    def closed(self) -> bool:
        """Whether there is an inside."""
        return self._surface.is_watertight

    def unsigned(self, points_mm: np.ndarray) -> np.ndarray:
        """Distance of each point (n, 3) to the nearest place on a triangle, (n,) float64."""
        return self._call(self._scene.compute_distance, points_mm)

    def signed(self, points_mm: np.ndarray) -> np.ndarray:
        """As `unsigned`, negative inside. Raises ValueError when the surface is not closed."""
        if not self.closed:
            raise ValueError(
                "DistanceTo.signed: needs a watertight surface to tell inside from outside, got an open one"
            )
        return self._call(self._scene.compute_signed_distance, points_mm, nsamples=3)

    def _call(self, function: Any, points_mm: np.ndarray, **options: Any) -> np.ndarray:
        centred = np.ascontiguousarray(points_mm - self._centre, dtype=np.float32)
        return function(self._tensor(centred), **options).numpy().astype(np.float64)


def _split(corners: np.ndarray, k: int) -> np.ndarray:
    """Each triangle (m, 3, 3) into k * k equal ones, (m * k * k, 3, 3)."""
    up = [((i, j), (i + 1, j), (i, j + 1)) for i in range(k) for j in range(k - i)]
    down = [((i + 1, j), (i + 1, j + 1), (i, j + 1)) for i in range(k) for j in range(k - i - 1)]
    lattice = np.array(up + down, dtype=float) / k
    weights = np.concatenate([1 - lattice.sum(-1, keepdims=True), lattice], axis=-1)
    return np.einsum("ktc,mcx->mktx", weights, corners).reshape(-1, 3, 3)
