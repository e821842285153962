"""Connected components inside jitted functions: label, measure, keep, remove, fill."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.kernels.checks import require_count, require_threads
from kidseg_jax.kernels.ffi.calls import Array, call, require_labels


class PaddedStats(NamedTuple):
    """`ComponentStats` padded with zeros to a capacity of c, and the count, which may be larger than c.

    label, voxels: (c,) int32. lo, hi: (c, 3) int32. centroid: (c, 3) float32. n: () int32.
    """

    label: jax.Array
    voxels: jax.Array
    lo: jax.Array
    hi: jax.Array
    centroid: jax.Array
    n: jax.Array


def label_components(
    labels: Array, connectivity: int = 26, *, threads: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Every voxel's component number, int32 like labels, and their count, int32 ()."""
    require_labels("label_components", labels)
    attributes = _attributes("label_components", connectivity, threads)
    return call(
        "label_components",
        (jax.ShapeDtypeStruct(labels.shape, jnp.int32), jax.ShapeDtypeStruct((), jnp.int32)),
        labels,
        **attributes,
    )


def component_stats(labels: Array, capacity: int, connectivity: int = 26, *, threads: int = 1) -> PaddedStats:
    """Label, size, box and centroid of the first `capacity` components in scan order."""
    require_labels("component_stats", labels)
    c = require_count("component_stats", "capacity", capacity, 1)
    ints = (jax.ShapeDtypeStruct((c,), jnp.int32),) * 2 + (jax.ShapeDtypeStruct((c, 3), jnp.int32),) * 2
    results = (*ints, jax.ShapeDtypeStruct((c, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32))
    attributes = _attributes("component_stats", connectivity, threads)
    return PaddedStats(*call("component_stats", results, labels, **attributes))


def keep_largest(
    labels: Array, k: int = 1, *, per_class: bool = True, connectivity: int = 26, threads: int = 1
) -> jax.Array:
    """The labels with only the k largest components of every label, or of the foreground, left."""
    require_labels("keep_largest", labels)
    attributes = _attributes("keep_largest", connectivity, threads)
    k = require_count("keep_largest", "k", k, 1)
    return _keep(labels, k=np.int64(k), min_voxels=np.int64(0), foreground=not per_class, **attributes)


def remove_small(
    labels: Array, min_voxels: int, *, per_class: bool = True, connectivity: int = 26, threads: int = 1
) -> jax.Array:
    """The labels without components of fewer than min_voxels voxels."""
    require_labels("remove_small", labels)
    attributes = _attributes("remove_small", connectivity, threads)
    least = require_count("remove_small", "min_voxels", min_voxels, 0)
    return _keep(labels, k=np.int64(0), min_voxels=np.int64(least), foreground=not per_class, **attributes)


def fill_holes(labels: Array, *, threads: int = 1) -> jax.Array:
    """The labels with enclosed background filled."""
    require_labels("fill_holes", labels)
    n = np.int64(require_threads("fill_holes", threads))
    return call("fill_holes", jax.ShapeDtypeStruct(labels.shape, labels.dtype), labels, flat=False, threads=n)


def _keep(labels: Array, **attributes) -> jax.Array:
    return call("keep", jax.ShapeDtypeStruct(labels.shape, labels.dtype), labels, **attributes)


def _attributes(where: str, connectivity: int, threads: int) -> dict[str, np.int64]:
    if connectivity not in (6, 18, 26):
        raise ValueError(f"{where}: connectivity must be 6, 18 or 26, got {connectivity!r}")
    return {"connectivity": np.int64(connectivity), "threads": np.int64(require_threads(where, threads))}
