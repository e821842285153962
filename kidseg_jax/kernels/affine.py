"""Resampling onto a grid that is turned, stretched or sheared in the volume."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kidseg_jax import _kernels
from kidseg_jax.kernels.checks import Array, require_count, require_threads, require_volume


def resample_affine(
    volume: Array,
    matrix: npt.ArrayLike,
    offset: npt.ArrayLike,
    shape: Sequence[int],
    *,
    nearest: bool = False,
    fill: float = 0,
    threads: int = 1,
) -> Array:
    """The volume seen on another grid, (z, y, x) of `shape`, in the volume's dtype.

    volume: uint8, int16 or float32 (z, y, x), no axis empty. As scipy.ndimage.affine_transform: output voxel
    o lies at source index matrix @ o + offset: matrix (3, 3), offset (3,), in the order z, y, x. Linear,
    rounded to the nearest whole number for integers, or the value of the nearest voxel. Up to half a voxel
    beyond the outermost centres the edge goes on; further out is `fill`. Raises TypeError for other dtypes,
    ValueError for other shapes and for numbers that are not finite or do not fit.
    """
    where = "resample_affine"
    array = require_volume(where, "volume", volume)
    if min(array.shape) < 1:
        raise ValueError(f"{where}: volume must have no empty axis, got shape {array.shape}")
    calls = {
        "uint8": _kernels.resample_affine_uint8,
        "int16": _kernels.resample_affine_int16,
        "float32": _kernels.resample_affine_float32,
    }
    if array.dtype.name not in calls:
        raise TypeError(f"{where}: volume must be uint8, int16 or float32, got {array.dtype}")
    if array.dtype.kind in "ui" and not _fits(fill, array.dtype):
        raise ValueError(f"{where}: fill must be a whole number that {array.dtype} holds, got {fill!r}")
    if len(shape) != 3:
        raise ValueError(f"{where}: shape must be three sizes, got {shape!r}")
    out = np.empty([require_count(where, "shape", n, 0) for n in shape], array.dtype)
    calls[array.dtype.name](
        array,
        _finite(where, "matrix", matrix, (3, 3)).tolist(),
        _finite(where, "offset", offset, (3,)).tolist(),
        nearest,
        fill,
        out,
        require_threads(where, threads),
    )
    return out


def _fits(fill: float, dtype: np.dtype) -> bool:
    return np.isfinite(fill) and int(fill) == fill and np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max


def _finite(where: str, name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all() or np.abs(array).max() > 2**40:
        raise ValueError(f"{where}: {name} must be finite numbers of shape {shape}, got {values!r}")
    return array
