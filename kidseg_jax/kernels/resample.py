"""Resampling onto an axis-aligned grid given by the fractional source coordinate of each output index."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kidseg_jax import _kernels
from kidseg_jax.kernels.checks import Array, require_array, require_threads, require_volume


def argmax_resample(
    scores: npt.NDArray[np.float32],
    cz: npt.ArrayLike,
    cy: npt.ArrayLike,
    cx: npt.ArrayLike,
    *,
    channels_last: bool = False,
    threads: int = 1,
) -> npt.NDArray[np.uint8]:
    """Class of the largest trilinearly interpolated score, uint8; of equal ones the smallest.

    scores: float32 (c, z, y, x), or (z, y, x, c) with channels_last; at most 256 classes, every axis at least
    1 long. cz, cy, cx: source index of each output index, fractions allowed; outside the scores the nearest
    edge counts. The result is (len(cz), len(cy), len(cx)). Raises TypeError for other dtypes, ValueError for
    other shapes or coordinates that are not finite.
    """
    where = "argmax_resample"
    array = require_array(where, "scores", scores)
    if array.dtype != np.float32:
        raise TypeError(f"{where}: scores must be float32, got {array.dtype}")
    if array.ndim != 4 or min(array.shape) < 1:
        raise ValueError(f"{where}: scores must be 4-D with no empty axis, got shape {array.shape}")
    array = np.moveaxis(array, -1, 0) if channels_last else array
    if array.shape[0] > 256:
        raise ValueError(f"{where}: at most 256 classes fit uint8, got {array.shape[0]}")
    return _kernels.argmax_resample(array, _coordinates(where, cz, cy, cx), require_threads(where, threads))


def resample_linear(
    volume: Array,
    cz: npt.ArrayLike,
    cy: npt.ArrayLike,
    cx: npt.ArrayLike,
    *,
    widths: Sequence[float] | None = None,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """A volume at fractional source coordinates, float32, averaged where it is down-sampled.

    volume: int16 or float32 (z, y, x), no axis empty; the result is (len(cz), len(cy), len(cx)). cz, cy, cx:
    source index of each output index; outside the volume the nearest edge counts. Output k of an axis
    averages the source over [c_k - s/2, c_k + s/2], each source voxel being constant over one index: linear
    interpolation for s = 1. s = max(1, mean step of the coordinates), or from `widths` (z, y, x), each >= 1.
    Raises TypeError for other dtypes, ValueError for other shapes, widths or coordinates.
    """
    where = "resample_linear"
    array = require_volume(where, "volume", volume)
    if min(array.shape) < 1:
        raise ValueError(f"{where}: volume must have no empty axis, got shape {array.shape}")
    coordinates = _coordinates(where, cz, cy, cx)
    if widths is None:
        widths = [max(1.0, abs(c[-1] - c[0]) / (len(c) - 1)) if len(c) > 1 else 1.0 for c in coordinates]
    if len(widths) != 3 or not all(np.isfinite(w) and w >= 1 for w in widths):
        raise ValueError(f"{where}: widths must be three finite numbers of at least 1, got {widths!r}")
    calls = {"int16": _kernels.resample_int16, "float32": _kernels.resample_float32}
    if array.dtype.name not in calls:
        raise TypeError(f"{where}: volume must be int16 or float32, got {array.dtype}")
    resample = calls[array.dtype.name]
    return resample(array, coordinates, tuple(map(float, widths)), require_threads(where, threads))


def _coordinates(where: str, *axes: npt.ArrayLike) -> list[npt.NDArray[np.float64]]:
    coordinates = [np.asarray(axis, np.float64) for axis in axes]
    for name, axis in zip(("cz", "cy", "cx"), coordinates, strict=True):
        if axis.ndim != 1 or not np.isfinite(axis).all() or np.abs(axis).max(initial=0) > 2**40:
            raise ValueError(f"{where}: {name} must be 1-D and finite, got {axis!r}")
    return coordinates
