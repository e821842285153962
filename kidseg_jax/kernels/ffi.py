"""The kernels inside jitted functions: XLA custom calls on the CPU, registered when first used.

Every function means the same as its namesake in `kidseg_jax.kernels`, with the shapes that XLA needs known
beforehand: what has no fixed size is padded to a `capacity` and comes with its count. Under vmap the calls
run one after another. Only this module of the kernels imports JAX.
"""

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax import _kernels
from kidseg_jax.kernels.checks import require_count, require_spacing, require_threads
from kidseg_jax.kernels.surfaces import Definition

Array = jax.Array | np.ndarray

_TARGETS = (
    "label_components",
    "component_stats",
    "keep",
    "fill_holes",
    "bounding_box",
    "crop_roi",
    "paste_roi",
    "surface_distances",
    "surface_points",
    "argmax_resample",
    "resample_linear",
)


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


class PaddedDistances(NamedTuple):
    """Distances in mm from a to b and from b to a, padded with zeros of weight 0 to a capacity of c.

    distances_mm, weights: (2, c) float32. n: (2,) int32, which may be larger than c.
    """

    distances_mm: jax.Array
    weights: jax.Array
    n: jax.Array


@functools.cache
def register() -> None:
    """Tell XLA where the CPU kernels are; every function here does it on first use."""
    path = Path(_kernels.__file__).with_name("_kernels_ffi.so")
    if not path.is_file():
        raise ImportError(
            f"kernels.ffi: {path.name} was not built; it needs jaxlib's headers when kidseg_jax is built"
        )
    library = ctypes.CDLL(str(path))
    for name in _TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, f"kidseg_{name}"))
        jax.ffi.register_ffi_target(f"kidseg_{name}", capsule, platform="cpu")


def label_components(
    labels: Array, connectivity: int = 26, *, threads: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Every voxel's component number, int32 like labels, and their count, int32 ()."""
    _require_labels("label_components", labels)
    attributes = _attributes("label_components", connectivity, threads)
    return _call("label_components", (_like(labels, jnp.int32), _shape((), jnp.int32)), labels, **attributes)


def component_stats(labels: Array, capacity: int, connectivity: int = 26, *, threads: int = 1) -> PaddedStats:
    """Label, size, box and centroid of the first `capacity` components in scan order."""
    _require_labels("component_stats", labels)
    c = require_count("component_stats", "capacity", capacity, 1)
    ints = (_shape((c,), jnp.int32),) * 2 + (_shape((c, 3), jnp.int32),) * 2
    results = (*ints, _shape((c, 3), jnp.float32), _shape((), jnp.int32))
    attributes = _attributes("component_stats", connectivity, threads)
    return PaddedStats(*_call("component_stats", results, labels, **attributes))


def keep_largest(
    labels: Array, k: int = 1, *, per_class: bool = True, connectivity: int = 26, threads: int = 1
) -> jax.Array:
    """The labels with only the k largest components of every label, or of the foreground, left."""
    _require_labels("keep_largest", labels)
    attributes = _attributes("keep_largest", connectivity, threads)
    k = require_count("keep_largest", "k", k, 1)
    return _keep(labels, k=np.int64(k), min_voxels=np.int64(0), foreground=not per_class, **attributes)


def remove_small(
    labels: Array, min_voxels: int, *, per_class: bool = True, connectivity: int = 26, threads: int = 1
) -> jax.Array:
    """The labels without components of fewer than min_voxels voxels."""
    _require_labels("remove_small", labels)
    attributes = _attributes("remove_small", connectivity, threads)
    least = require_count("remove_small", "min_voxels", min_voxels, 0)
    return _keep(labels, k=np.int64(0), min_voxels=np.int64(least), foreground=not per_class, **attributes)


def fill_holes(labels: Array, *, threads: int = 1) -> jax.Array:
    """The labels with enclosed background filled."""
    _require_labels("fill_holes", labels)
    n = np.int64(require_threads("fill_holes", threads))
    return _call("fill_holes", _like(labels, labels.dtype), labels, flat=False, threads=n)


def bounding_box(mask: Array) -> tuple[jax.Array, jax.Array]:
    """Tight half-open box of the voxels that are not zero: lo and hi, (3,) int32, zeros if there are none."""
    _require_labels("bounding_box", mask)
    return _call("bounding_box", (_shape((3,), jnp.int32),) * 2, mask)


def crop_roi(volume: Array, lo: Array, shape: tuple[int, int, int], fill: float = 0) -> jax.Array:
    """The voxels of a volume from corner lo, (3,) integers, on; `fill` outside."""
    _require_volume("crop_roi", volume)
    value = jnp.asarray(fill, volume.dtype)
    return _call(
        "crop_roi", _shape(shape, volume.dtype), volume, jnp.asarray(lo, jnp.int32).reshape(3), value
    )


def paste_roi(volume: Array, roi: Array, lo: Array) -> jax.Array:
    """A volume with an ROI written in from corner lo on, in place where XLA can."""
    _require_volume("paste_roi", volume)
    _require_volume("paste_roi", roi)
    if volume.dtype != roi.dtype:
        raise TypeError(f"paste_roi: roi must be {volume.dtype} like the volume, got {roi.dtype}")
    corner = jnp.asarray(lo, jnp.int32).reshape(3)
    return _call("paste_roi", _like(volume, volume.dtype), volume, roi, corner, aliases={0: 0})


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
    _require_labels(where, a)
    _require_labels(where, b)
    if a.shape != b.shape:
        raise ValueError(f"{where}: a and b must be of one shape, got {a.shape} and {b.shape}")
    if definition not in get_args(Definition):
        raise ValueError(f"{where}: definition must be one of {get_args(Definition)}, got {definition!r}")
    c = require_count(where, "capacity", capacity, 1)
    results = (_shape((2, c), jnp.float32),) * 2 + (_shape((2,), jnp.int32),)
    attributes = {
        "spacing_mm": np.array(require_spacing(where, spacing_mm), np.float64),
        "definition": np.int64(get_args(Definition).index(definition)),
        "threads": np.int64(require_threads(where, threads)),
    }
    return PaddedDistances(*_call(where, results, a, b, **attributes))


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
    _require_labels(where, mask)
    attributes = {
        "seed": np.int64(require_count(where, "seed", seed, 0)),
        "spacing_mm": np.array(require_spacing(where, spacing_mm), np.float64),
    }
    return _call(where, _shape((require_count(where, "n", n, 0), 3), jnp.float32), mask, **attributes)


def argmax_resample(
    scores: Array,
    cz: Array,
    cy: Array,
    cx: Array,
    *,
    channels_last: bool = False,
    threads: int = 1,
) -> jax.Array:
    """Class of the largest trilinearly interpolated score, uint8 (z, y, x)."""
    where = "argmax_resample"
    if scores.ndim != 4 or min(scores.shape) < 1 or scores.shape[-1 if channels_last else 0] > 256:
        raise ValueError(f"{where}: scores must be 4-D with at most 256 classes, got {scores.shape}")
    axes = [jnp.asarray(c, jnp.float32) for c in (cz, cy, cx)]
    result = _shape(tuple(c.shape[0] for c in axes), jnp.uint8)
    attributes = {"channels_last": channels_last, "threads": np.int64(require_threads(where, threads))}
    return _call(where, result, scores.astype(jnp.float32), *axes, **attributes)


def resample_linear(
    volume: Array,
    cz: Array,
    cy: Array,
    cx: Array,
    *,
    widths: Sequence[float],
    threads: int = 1,
) -> jax.Array:
    """A volume at fractional source coordinates, float32, averaged over `widths` source voxels, each >= 1."""
    where = "resample_linear"
    _require_volume(where, volume)
    if min(volume.shape) < 1 or len(widths) != 3 or not all(np.isfinite(w) and w >= 1 for w in widths):
        raise ValueError(
            f"{where}: need a volume and three widths of at least 1, got {volume.shape} and {widths!r}"
        )
    axes = [jnp.asarray(c, jnp.float32) for c in (cz, cy, cx)]
    result = _shape(tuple(c.shape[0] for c in axes), jnp.float32)
    attributes = {
        "widths": np.array(widths, np.float64),
        "threads": np.int64(require_threads(where, threads)),
    }
    return _call(where, result, volume.astype(jnp.float32), *axes, **attributes)


def _call(name, results, *operands, aliases=None, **attributes):
    register()
    call = jax.ffi.ffi_call(f"kidseg_{name}", results, vmap_method="sequential", input_output_aliases=aliases)
    return call(*operands, **attributes)


def _keep(labels: Array, **attributes) -> jax.Array:
    return _call("keep", _like(labels, labels.dtype), labels, **attributes)


def _attributes(where: str, connectivity: int, threads: int) -> dict[str, np.int64]:
    if connectivity not in (6, 18, 26):
        raise ValueError(f"{where}: connectivity must be 6, 18 or 26, got {connectivity!r}")
    return {"connectivity": np.int64(connectivity), "threads": np.int64(require_threads(where, threads))}


def _shape(shape, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _like(array: Array, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, dtype)


def _require_labels(where: str, labels: Array) -> None:
    if not (jnp.issubdtype(labels.dtype, jnp.integer) or labels.dtype == jnp.bool_):
        raise TypeError(f"{where}: labels must be bool or integers, got {labels.dtype}")
    _require_volume(where, labels)


def _require_volume(where: str, volume: Array) -> None:
    if volume.ndim != 3:
        raise ValueError(f"{where}: need a 3-D array, got shape {volume.shape}")
