"""Surfaces of masks: distances between two, the measures drawn from them, and points spread over one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from kidseg_jax import _kernels
from kidseg_jax.kernels.checks import Array, require_count, require_labels, require_spacing, require_threads

Definition = Literal["border", "surfel", "triangle"]
Distances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm of every surface element of a to the surface of b, and back, and their weights.

    One surface empty: the other's distances are inf, so rms, mean, assd and hausdorff are inf and nsd is 0.
    Both empty: no distances, and every measure is nan.
    """

    definition: Definition
    a_to_b_mm: Distances
    a_weights: Distances
    b_to_a_mm: Distances
    b_weights: Distances

    def rms_mm(self) -> float:
        """Root mean square over the elements of both surfaces, weighted."""
        return float(np.sqrt(self._pooled(2)))

    def mean_mm(self) -> tuple[float, float]:
        """Weighted mean of each direction: surface-distance's average surface distance."""
        return self._mean(self.a_to_b_mm, self.a_weights), self._mean(self.b_to_a_mm, self.b_weights)

    def assd_mm(self) -> float:
        """Weighted mean over the elements of both surfaces (MedPy's assd)."""
        return self._pooled(1)

    def hausdorff_mm(self, percent: float = 100.0) -> float:
        """The larger of the two directions' weighted percentiles: surface-distance's robust Hausdorff."""
        if not 0 <= percent <= 100:
            raise ValueError(f"hausdorff_mm: percent must be in 0..100, got {percent!r}")
        if self._empty():
            return self._empty_value()
        share = percent / 100
        pairs = ((self.a_to_b_mm, self.a_weights), (self.b_to_a_mm, self.b_weights))
        return max(_weighted_quantile(distances, weights, share) for distances, weights in pairs)

    def pooled_percentile_mm(self, percent: float) -> float:
        """Percentile of both directions' distances together, weights ignored: MedPy's hd95 for 95."""
        if not 0 <= percent <= 100:
            raise ValueError(f"pooled_percentile_mm: percent must be in 0..100, got {percent!r}")
        if self._empty():
            return self._empty_value()
        return float(np.percentile(np.concatenate([self.a_to_b_mm, self.b_to_a_mm]), percent))

    def nsd(self, tolerance_mm: float) -> float:
        """Share of both surfaces, by weight, within tolerance_mm of the other: the surface Dice."""
        if not tolerance_mm >= 0:
            raise ValueError(f"nsd: tolerance_mm must not be negative, got {tolerance_mm!r}")
        total = self.a_weights.sum() + self.b_weights.sum()
        if total == 0:
            return float("nan")
        near = (
            self.a_weights[self.a_to_b_mm <= tolerance_mm].sum()
            + self.b_weights[self.b_to_a_mm <= tolerance_mm].sum()
        )
        return float(near / total)

    def _empty(self) -> bool:
        return not (self.a_to_b_mm.size and self.b_to_a_mm.size)

    def _empty_value(self) -> float:
        return float("inf") if self.a_to_b_mm.size or self.b_to_a_mm.size else float("nan")

    def _pooled(self, power: int) -> float:
        if self._empty():
            return self._empty_value()
        total = _sum(power, self.a_to_b_mm, self.a_weights) + _sum(power, self.b_to_a_mm, self.b_weights)
        return total / float(self.a_weights.sum() + self.b_weights.sum())

    def _mean(self, distances: Distances, weights: Distances) -> float:
        return self._empty_value() if self._empty() else _sum(1, distances, weights) / float(weights.sum())


def surface_distances(
    a: Array, b: Array, spacing_mm: Sequence[float], definition: Definition = "border", *, threads: int = 1
) -> SurfaceDistances:
    """Distances in mm from each surface to the other, in both directions.

    a, b: bool or integers (not zero is inside), same shape, (z, y, x). spacing_mm: (z, y, x), each > 0.
    definition "border": voxels with a face neighbour outside (beyond the array is outside), centre to nearest
    centre, weight 1 (MedPy). "surfel": cells of 2x2x2 voxels that are not all alike, middle to nearest
    middle, weighted by the area in mm^2 of their marching-cubes triangles (surface-distance package).
    "triangle": middles of the marching-cubes triangles to the nearest point of the other's triangles,
    weighted by area. The three give different numbers. Elements come in scan order. Empty masks: see
    `SurfaceDistances`. Raises ValueError for shapes that differ, a bad spacing or another definition;
    TypeError for float masks.
    """
    where = "surface_distances"
    spacing = require_spacing(where, spacing_mm)
    masks = [require_labels(where, name, mask) for name, mask in (("a", a), ("b", b))]
    if a.ndim != 3 or a.shape != b.shape:
        raise ValueError(f"{where}: a and b must be 3-D and of one shape, got {a.shape} and {b.shape}")
    if definition not in get_args(Definition):
        raise ValueError(f"{where}: definition must be one of {get_args(Definition)}, got {definition!r}")
    chosen = _kernels.Definition[definition]
    arrays = _kernels.surface_distances(masks[0], masks[1], spacing, chosen, require_threads(where, threads))
    return SurfaceDistances(definition, *arrays)


def surface_rms(
    a: Array, b: Array, spacing_mm: Sequence[float], definition: Definition = "border", *, threads: int = 1
) -> float:
    """Root mean square in mm of the distances between two surfaces, both directions together.

    Arguments and errors as in `surface_distances`. One mask empty: inf. Both empty: nan.
    """
    return surface_distances(a, b, spacing_mm, definition, threads=threads).rms_mm()


def surface_points(
    mask: Array, n: int, seed: int, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> npt.NDArray[np.float64]:
    """n points spread evenly over a mask's marching-cubes surface: (n, 3) float64 mm (z, y, x).

    Points are measured from the centre of voxel (0, 0, 0). The area is cut into n equal shares and each gets
    one random point. The same seed gives the same points. mask: bool or integers (z, y, x). An empty mask
    gives (0, 3).
    """
    where = "surface_points"
    spacing = require_spacing(where, spacing_mm)
    volume = require_labels(where, "mask", mask)
    if mask.ndim != 3:
        raise ValueError(f"{where}: mask must be 3-D, got shape {mask.shape}")
    require_count(where, "n", n, 0)
    if require_count(where, "seed", seed, 0) >= 2**64:
        raise ValueError(f"{where}: seed must be below 2**64, got {seed}")
    return _kernels.surface_points(volume, n, seed, spacing)


def _sum(power: int, distances: Distances, weights: Distances) -> float:
    """Weighted sum of the distances to a power; einsum makes no arrays and, unlike `@`, no BLAS threads."""
    return float(np.einsum(",".join("i" * (power + 1)), *[distances] * power, weights))


def _weighted_quantile(distances: Distances, weights: Distances, share: float) -> float:
    order = np.lexsort((weights, distances))
    cumulative = np.cumsum(weights[order]) / weights.sum()
    index = min(int(np.searchsorted(cumulative, share)), len(order) - 1)
    return float(distances[order[index]])
