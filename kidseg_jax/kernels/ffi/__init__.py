"""The kernels inside jitted functions: XLA custom calls on the CPU, registered when first used.

Every function means the same as its namesake in `kidseg_jax.kernels`, with the shapes that XLA needs known
beforehand: what has no fixed size is padded to a `capacity` and comes with its count. Under vmap the calls
run one after another. Only this package of the kernels imports JAX.
"""

from kidseg_jax.kernels.ffi.calls import register
from kidseg_jax.kernels.ffi.components import (
    PaddedStats,
    component_stats,
    fill_holes,
    keep_largest,
    label_components,
    remove_small,
)
from kidseg_jax.kernels.ffi.resample import argmax_resample, resample_linear
from kidseg_jax.kernels.ffi.roi import bounding_box, crop_roi, paste_roi
from kidseg_jax.kernels.ffi.surfaces import PaddedDistances, surface_distances, surface_points, surface_rms

__all__ = [
    "PaddedDistances",
    "PaddedStats",
    "argmax_resample",
    "bounding_box",
    "component_stats",
    "crop_roi",
    "fill_holes",
    "keep_largest",
    "label_components",
    "paste_roi",
    "register",
    "remove_small",
    "resample_linear",
    "surface_distances",
    "surface_points",
    "surface_rms",
]
