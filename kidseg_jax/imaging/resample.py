"""Volumes on another grid: linear for CT, nearest for labels, as ITK's interpolators do it."""

from typing import Any

import numpy as np

from kidseg_jax.imaging.volume import Geometry, Volume

AIR_HU = -1000


def resample_ct(ct: Volume, grid: Geometry, outside_hu: int = AIR_HU) -> Volume:
    """A CT on another grid, int16 (z, y, x): linear between voxel centres, nothing averaged.

    Points more than half a voxel outside the CT get outside_hu. Source: as
    itk::LinearInterpolateImageFunction.
    """
    return Volume(np.rint(_sampled(ct, grid, 1, float(outside_hu))).astype(np.int16), grid)


def resample_labels(labels: Volume, grid: Geometry) -> Volume:
    """A label map on another grid, uint8: the label of the nearest voxel, so no label is ever made up; 0
    outside.
    """
    return Volume(_sampled(labels, grid, 0, 0.0).astype(np.uint8), grid)


def _sampled(volume: Volume, grid: Geometry, order: int, outside: float) -> np.ndarray:
    from scipy import ndimage

    start = volume.geometry.to_index(grid.to_world(np.zeros(3)))
    columns = [volume.geometry.to_index(grid.to_world(unit)) - start for unit in np.eye(3)]
    matrix = np.column_stack(columns)
    array = volume.array.astype(np.float32) if order else volume.array
    offset: Any = start  # SciPy's stub knows one number only
    sampled = ndimage.affine_transform(array, matrix, offset, grid.shape, order=order, mode="nearest")
    inside = np.ones(grid.shape, bool)
    index = np.ogrid[tuple(slice(n) for n in grid.shape)]
    for axis, size in enumerate(volume.array.shape):
        at = start[axis] + sum(matrix[axis, j] * index[j] for j in range(3))
        inside &= (at >= -0.5 - 1e-9) & (at < size - 0.5 + 1e-9)
    return np.where(inside, sampled, outside)
