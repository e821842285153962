"""Checks at the border of the kernels: one clear line for what cannot be used."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def require_array(where: str, name: str, array: object) -> Array:
    """The array itself; TypeError unless it is an aligned ndarray in the machine's byte order."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{where}: {name} must be a numpy.ndarray, got {type(array).__name__}")
    if not array.dtype.isnative or not array.flags.aligned:
        raise TypeError(f"{where}: {name} must be aligned and in native byte order, got {array.dtype.str}")
    return array


def require_labels(where: str, name: str, array: object) -> Array:
    """The array as 3-D (a view; 2-D gains an axis in front); TypeError unless it holds bool or integers."""
    labels = require_array(where, name, array)
    if labels.dtype.kind not in "bui":
        raise TypeError(f"{where}: {name} must be bool or integers, got {labels.dtype}")
    if labels.ndim not in (2, 3):
        raise ValueError(f"{where}: {name} must be 2-D or 3-D, got shape {labels.shape}")
    return labels if labels.ndim == 3 else labels[np.newaxis]


def require_volume(where: str, name: str, array: object) -> Array:
    """The array itself, 3-D, of numbers or bool."""
    volume = require_array(where, name, array)
    if volume.ndim != 3:
        raise ValueError(f"{where}: {name} must be 3-D, got shape {volume.shape}")
    if volume.dtype.kind not in "buif" or volume.dtype.itemsize not in (1, 2, 4, 8):
        raise TypeError(
            f"{where}: {name} must be bool, integers or floats of at most 8 bytes, got {volume.dtype}"
        )
    return volume


def require_spacing(where: str, spacing_mm: Sequence[float], axes: int = 3) -> tuple[float, ...]:
    """The spacing as floats; ValueError unless it has `axes` numbers, all finite and above zero."""
    try:
        spacing = tuple(float(s) for s in spacing_mm)
    except TypeError:
        raise TypeError(f"{where}: spacing_mm must be {axes} numbers, got {spacing_mm!r}") from None
    if len(spacing) != axes or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"{where}: spacing_mm must be {axes} positive finite numbers, got {spacing_mm!r}")
    return spacing


def require_count(where: str, name: str, value: int, least: int) -> int:
    """The value as int; TypeError unless it is a whole number, ValueError below `least`."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} must be a whole number, got {value!r}") from None
    if count < least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {count}")
    return count


def require_threads(where: str, threads: int) -> int:
    """The number of threads, at least 1 and at most 1024."""
    count = require_count(where, "threads", threads, 1)
    if count > 1024:
        raise ValueError(f"{where}: threads must be at most 1024, got {count}")
    return count


def zeros_in_order_of(array: Array, dtype: npt.DTypeLike) -> Array:
    """Zeros of the same shape and order of axes in memory; pages appear when first written."""
    width = [
        abs(stride) if size > 1 else math.inf for size, stride in zip(array.shape, array.strides, strict=True)
    ]
    order = sorted(range(array.ndim), key=lambda axis: -width[axis])
    return np.zeros([array.shape[axis] for axis in order], dtype).transpose(np.argsort(order))
