"""Kernels in C++ for label maps and their surfaces: (z, y, x) NumPy arrays in, arrays out, the GIL released.

Arrays are read where they lie, in C or Fortran order, sliced, reversed or read-only. `threads` changes the
time, never the result.
"""

from kidseg_jax.kernels.affine import resample_affine
from kidseg_jax.kernels.components import (
    ComponentStats,
    component_stats,
    fill_holes,
    keep_largest,
    label_components,
    remove_small,
)
from kidseg_jax.kernels.resample import argmax_resample, resample_linear
from kidseg_jax.kernels.roi import Box, bounding_box, crop_roi, crop_rois, paste_roi
from kidseg_jax.kernels.surfaces import (
    Definition,
    SurfaceDistances,
    surface_distances,
    surface_points,
    surface_rms,
)

__all__ = [
    "Box",
    "ComponentStats",
    "Definition",
    "SurfaceDistances",
    "argmax_resample",
    "bounding_box",
    "component_stats",
    "crop_roi",
    "crop_rois",
    "fill_holes",
    "keep_largest",
    "label_components",
    "paste_roi",
    "remove_small",
    "resample_affine",
    "resample_linear",
    "surface_distances",
    "surface_points",
    "surface_rms",
]
