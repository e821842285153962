"""A volume: an array (z, y, x) and where it lies in the patient (LPS, mm)."""

import math
import mmap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kidseg_jax import kernels

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]

ORTHONORMAL_TOLERANCE = 1e-4
SLAB = 16  # slices
LEAST_COSINE = 0.999  # of the angle between axes that are the same
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume.

    shape and spacing_mm are (z, y, x). origin_mm is (x, y, z) in LPS, the centre of voxel (0, 0, 0). Column j
    of direction (row-major, ITK's convention) is the unit LPS vector along index axis x, y, z for j = 0, 1,
    2.
    """

    shape: Shape
    spacing_mm: Spacing
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = IDENTITY

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"Geometry.shape: need three sizes of at least 1, got {self.shape}")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"Geometry.spacing_mm: must be positive and finite, got {self.spacing_mm}")
        axes = np.asarray(self.direction, float)
        if axes.shape != (3, 3) or not np.abs(axes.T @ axes - np.eye(3)).max() <= ORTHONORMAL_TOLERANCE:
            raise ValueError(f"Geometry.direction: need three orthonormal columns, got {self.direction}")

    def to_world(self, index_zyx: npt.ArrayLike) -> np.ndarray:
        """World points (n, 3) as (x, y, z) mm in LPS of voxel indices (n, 3) as (z, y, x) or fractions."""
        scaled = (np.asarray(index_zyx, float) * self.spacing_mm)[..., ::-1]
        return scaled @ np.asarray(self.direction).T + self.origin_mm

    def to_index(self, points_mm: npt.ArrayLike) -> np.ndarray:
        """Fractional voxel indices (n, 3) as (z, y, x) of world points (n, 3) as (x, y, z) mm in LPS."""
        local = (np.asarray(points_mm, float) - self.origin_mm) @ np.linalg.inv(np.asarray(self.direction)).T
        return local[..., ::-1] / self.spacing_mm

    def part(self, lo: Shape, hi: Shape) -> "Geometry":
        """The grid of the box lo..hi, half open (z, y, x), which may reach outside."""
        origin = self.to_world(lo)
        return replace(
            self,
            shape=(hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]),
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        )

    def is_close(self, other: "Geometry", tolerance_mm: float = 1e-3) -> bool:
        """True when both grids put every corner voxel at the same place, to tolerance_mm."""
        if self.shape != other.shape:
            return False
        corners = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * (
            np.array(self.shape) - 1
        )
        return bool(np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance_mm)


@dataclass(frozen=True)
class Volume:
    """An array (z, y, x) on a grid: CT values are int16 HU, label maps uint8."""

    array: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"Volume: array is {self.array.shape}, geometry says {self.geometry.shape}")

    @property
    def spacing_mm(self) -> Spacing:
        return self.geometry.spacing_mm

    def with_array(self, array: np.ndarray) -> "Volume":
        """Another array on the same grid."""
        return replace(self, array=array)


def as_int16(where: str, array: np.ndarray) -> np.ndarray:
    """Voxels as int16, fractions rounded, the array itself where it is that already.

    Raises ValueError for voxels that are NaN or infinite and for values that int16 does not hold.
    """
    if array.dtype == np.int16:
        return array
    rounded = np.rint(array) if array.dtype.kind == "f" else array
    low, high = rounded.min(), rounded.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        raise ValueError(f"{where}: every voxel must be a number, got {bad} that are not")
    if low < -32768 or high > 32767:
        raise ValueError(f"{where}: every voxel must fit int16, got {low:g} to {high:g}")
    return rounded.astype(np.int16)


def require_same_grid(where: str, a: Volume, b: Volume) -> None:
    """Raises ValueError, saying how they differ, unless both volumes lie on one grid."""
    if not a.geometry.is_close(b.geometry):
        raise ValueError(f"{where}: both volumes must lie on one grid, got {a.geometry} and {b.geometry}")


def on_grid(where: str, labels: Volume, grid: Geometry) -> Volume:
    """Labels on `grid`, laid into it where they cover a part voxel on voxel; ValueError where they do not."""
    own = labels.geometry
    if own.is_close(grid):
        return Volume(labels.array, grid)
    offset = grid.to_index([own.origin_mm])[0]
    start = np.rint(offset).astype(int)
    stop = start + own.shape
    apart = Geometry(own.shape, grid.spacing_mm, tuple(grid.to_world([start])[0].tolist()), grid.direction)
    if (start < 0).any() or (stop > grid.shape).any() or not own.is_close(apart, tolerance_mm=0.01):
        raise ValueError(
            f"{where}: both volumes must lie on one grid, need {_about(grid)}, got {_about(own)}"
        )
    whole = np.zeros(grid.shape, np.uint8)
    whole[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = labels.array
    return Volume(whole, grid)


def turned_onto(where: str, labels: Volume, grid: Geometry) -> Volume:
    """Labels in any order and direction of the axes of `grid`, on it (nothing resampled).

    They may cover a part of it, voxel on voxel. Raises ValueError where they lie otherwise.
    """
    cosines = np.asarray(grid.direction).T @ np.asarray(labels.geometry.direction)
    along = np.abs(cosines).argmax(axis=1)  # for each axis x, y, z of the grid: the labels' own
    if sorted(along) != [0, 1, 2] or np.abs(cosines).max(axis=1).min() < LEAST_COSINE:
        raise ValueError(
            f"{where}: labels must lie along the axes of the grid, need {orientation(grid)}, "
            f"got {orientation(labels.geometry)}"
        )
    signs = np.sign(cosines[np.arange(3), along])
    order = [2 - int(along[2 - axis]) for axis in range(3)]
    flips = tuple(slice(None, None, int(signs[2 - axis])) for axis in range(3))
    own = labels.geometry
    corner = np.zeros(3)
    for source, flip in zip(order, flips, strict=True):
        corner[source] = 0 if flip.step == 1 else own.shape[source] - 1
    origin = own.to_world(corner)
    geometry = Geometry(
        shape=(own.shape[order[0]], own.shape[order[1]], own.shape[order[2]]),
        spacing_mm=(own.spacing_mm[order[0]], own.spacing_mm[order[1]], own.spacing_mm[order[2]]),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(map(tuple, (np.asarray(own.direction)[:, along] * signs).tolist())),
    )
    turned = Volume(np.ascontiguousarray(np.transpose(labels.array, order)[flips]), geometry)
    return on_grid(where, turned, grid)


def canonical(volume: Volume) -> Volume:
    """The same voxels with axes turned so that x runs left, y posterior, z superior (a view, nothing
    resampled).
    """
    order, signs = _axes(volume.geometry)
    array = np.transpose(volume.array, order)[tuple(slice(None, None, s) for s in signs)]
    corner = [0, 0, 0]
    for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
        corner[source] = 0 if sign > 0 else array.shape[axis] - 1
    columns = np.asarray(volume.geometry.direction)
    turned = np.stack([columns[:, 2 - order[2 - j]] * signs[2 - j] for j in range(3)], axis=1)
    geometry = Geometry(
        shape=tuple(array.shape),
        spacing_mm=tuple(volume.spacing_mm[source] for source in order),  # pyright: ignore[reportArgumentType]
        origin_mm=tuple(volume.geometry.to_world(corner).tolist()),  # pyright: ignore[reportArgumentType]
        direction=tuple(map(tuple, turned.tolist())),
    )
    return Volume(array, geometry)


def on_grid_of(array: np.ndarray, original: Volume) -> Volume:
    """Undo `canonical`: an array in canonical order, back on the grid of `original`."""
    order, signs = _axes(original.geometry)
    back = array[tuple(slice(None, None, s) for s in signs)]
    return Volume(np.ascontiguousarray(np.transpose(back, np.argsort(order))), original.geometry)


def pasted(parts: Sequence[tuple[Shape, Labels]], original: Volume, threads: int = 1) -> Volume:
    """A label map on the grid of `original` from pieces of it, uint8; the first one keeps a shared voxel.

    parts: first voxel (z, y, x) in canonical order, and labels in that order, of which 0 leaves a voxel free.
    The map takes memory where labels are, not in the whole of a box.
    """
    whole = original.with_array(_zeros(original.array.shape))
    turned = canonical(whole).array

    def paste(first: int) -> None:
        for i, (lo, labels) in enumerate(reversed(parts)):
            start = max(first, lo[0])
            slab = labels[start - lo[0] : max(first + SLAB - lo[0], 0)]
            if (box := kernels.bounding_box(slab)) is not None:
                piece = slab[tuple(map(slice, box.lo, box.hi))]
                corner = np.add(box.lo, (start, *lo[1:]))
                to = turned[tuple(slice(a, a + n) for a, n in zip(corner, piece.shape, strict=True))]
                np.copyto(to, piece, where=piece != 0 if i else True)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(paste, range(0, len(turned), SLAB)))
    return whole


def _zeros(shape: Shape) -> Labels:
    """Zeros, uint8, that take memory only where they are written, whatever malloc keeps."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.zeros(shape, np.uint8)
    private = mmap.mmap(-1, math.prod(shape), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(private, np.uint8).reshape(shape)


def oriented(volume: Volume, code: str) -> Volume:
    """The same voxels with index axes x, y, z running towards the letters of `code` (a view, nothing
    resampled).

    `LPS` is `canonical`; KiTS stores `IPL`. Raises ValueError unless the code names each of LR, PA and SI
    once.
    """
    axes = [next((i for i, pair in enumerate(("LR", "PA", "SI")) if letter in pair), -1) for letter in code]
    if sorted(axes) != [0, 1, 2]:
        raise ValueError(f"oriented: need one letter each of LR, PA and SI, got {code!r}")
    start = canonical(volume)
    order = [2 - axis for axis in axes][::-1]  # array axis of `start` for each new array axis
    flips = tuple(slice(None, None, 1 if letter in "LPS" else -1) for letter in code[::-1])
    corner = [0, 0, 0]
    for source, flip in zip(order, flips, strict=True):
        corner[source] = 0 if flip.step == 1 else start.array.shape[source] - 1
    columns = np.asarray(start.geometry.direction)[:, axes] * [
        1 if letter in "LPS" else -1 for letter in code
    ]
    array = np.transpose(start.array, order)[flips]
    origin = start.geometry.to_world(corner)
    geometry = Geometry(
        shape=(array.shape[0], array.shape[1], array.shape[2]),
        spacing_mm=(start.spacing_mm[order[0]], start.spacing_mm[order[1]], start.spacing_mm[order[2]]),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(map(tuple, columns.tolist())),
    )
    return Volume(array, geometry)


def orientation(geometry: Geometry) -> str:
    """The letters towards which index axes x, y, z run, nearest first of LR, PA, SI; a small `~` behind
    oblique ones.
    """
    columns = np.asarray(geometry.direction)
    order, _ = _axes(geometry)
    letters = [""] * 3
    for canonical_axis, array_axis in enumerate(order):
        world = 2 - canonical_axis
        letters[2 - array_axis] = ("LR", "PA", "SI")[world][int(columns[world, 2 - array_axis] < 0)]
    oblique = np.abs(columns).max(axis=0).min() < 1 - 1e-6
    return "".join(letters) + ("~" if oblique else "")


def _axes(geometry: Geometry) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """For each canonical axis (z, y, x): the array axis that runs along it, and its sign."""
    columns = np.asarray(geometry.direction)[:, ::-1]  # column j: LPS direction of array axis j
    rows = columns[::-1]  # row i: the canonical axis z, y, x
    order = max(_PERMUTATIONS, key=lambda p: sum(abs(rows[i, p[i]]) for i in range(3)))
    signs = tuple(1 if rows[i, order[i]] >= 0 else -1 for i in range(3))
    return order, signs  # pyright: ignore[reportReturnType]


_PERMUTATIONS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def _about(grid: Geometry) -> str:
    origin = tuple(round(v, 3) for v in grid.origin_mm)
    spacing = tuple(round(v, 4) for v in grid.spacing_mm)
    return f"{grid.shape} voxels of {spacing} mm from {origin}"
