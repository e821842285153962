"""Surfaces of masks inside jitted functions: distances between two, and points spread over one."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.kernels.checks import require_count, require_spacing, require_threads
from kidseg_jax.kernels.ffi.calls import Array, call, require_labels
from kidseg_jax.kernels.surfaces import Definition


class PaddedDistances(NamedTuple):
    """Distances in mm from a to b and from b to a, padded with zeros of weight 0 to a capacity of c.

    distances_mm, weights: (2, c) float32. n: (2,) int32, which may be larger than c.
    """

    distances_mm: jax.Array
    weights: jax.Array
    n: jax.Array


def surface_distances(
    a: Array,
    b: Array,
    spacing_mm: Sequence[float],
    capacity: int,
    definition: Definition = "border",
    *,
    threads: int = 1,
) -> PaddedDistances:
    """Distances in mm of up to `capacity` surface elements of each mask to the other's surface."""
    where = "surface_distances"
    require_labels(where, a)
    require_labels(where, b)
    if a.shape != b.shape:
        raise ValueError(f"{where}: a and b must be of one shape, got {a.shape} and {b.shape}")
    if definition not in get_args(Definition):
        raise ValueError(f"{where}: definition must be one of {get_args(Definition)}, got {definition!r}")
    c = require_count(where, "capacity", capacity, 1)
    results = (jax.ShapeDtypeStruct((2, c), jnp.float32),) * 2 + (jax.ShapeDtypeStruct((2,), jnp.int32),)
    attributes = {
        "spacing_mm": np.array(require_spacing(where, spacing_mm), np.float64),
        "definition": np.int64(get_args(Definition).index(definition)),
        "threads": np.int64(require_threads(where, threads)),
    }
    return PaddedDistances(*call(where, results, a, b, **attributes))


def surface_rms(
    a: Array,
    b: Array,
    spacing_mm: Sequence[float],
    capacity: int,
    definition: Definition = "border",
    *,
    threads: int = 1,
) -> jax.Array:
    """Root mean square in mm between two surfaces, float32 (): inf if one is empty, nan if both."""
    d = surface_distances(a, b, spacing_mm, capacity, definition, threads=threads)
    rms = jnp.sqrt((d.distances_mm**2 * d.weights).sum() / d.weights.sum())
    return jnp.where((d.n > capacity).any(), jnp.nan, rms)


def surface_points(
    mask: Array, n: int, seed: int, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> jax.Array:
    """n points spread evenly over a mask's surface: (n, 3) float32 mm (z, y, x), nan for an empty mask."""
    where = "surface_points"
    require_labels(where, mask)
    attributes = {
        "seed": np.int64(require_count(where, "seed", seed, 0)),
        "spacing_mm": np.array(require_spacing(where, spacing_mm), np.float64),
    }
    return call(
        where, jax.ShapeDtypeStruct((require_count(where, "n", n, 0), 3), jnp.float32), mask, **attributes
    )
