"""Connected components of label maps: label, measure, keep, remove, fill."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kidseg_jax import _kernels
from kidseg_jax.kernels.checks import (
    Array,
    require_count,
    require_labels,
    require_spacing,
    require_threads,
    zeros_in_order_of,
)

_CONNECTIVITIES = {2: {4: 6, 8: 26}, 3: {}}


class ComponentStats(NamedTuple):
    """One entry for each of n components, in scan order.

    label: (n,) dtype of the labels. voxels: (n,) int64. lo, hi: (n, 3) int64 (z, y, x), half open.
    centroid: (n, 3) float64 voxel index (z, y, x). For 2-D labels lo, hi and centroid are (n, 2), (y, x).
    """

    label: Array
    voxels: npt.NDArray[np.int64]
    lo: npt.NDArray[np.int64]
    hi: npt.NDArray[np.int64]
    centroid: npt.NDArray[np.float64]


def label_components(
    labels: Array, connectivity: int = 26, *, threads: int = 1, dtype: npt.DTypeLike | None = None
) -> tuple[Array, int]:
    """Every voxel's component number, 0 for background, and the number of components.

    labels: bool or integers, (z, y, x) or (y, x); voxels belong together when they have the same non-zero
    label and touch. connectivity: 26, 18 or 6; in 2-D 26 and 18 mean 8 neighbours and 6 means 4 (8 and 4 may
    be said too). Components are numbered 1, 2, ... by their first voxel in scan order (C order of the
    indices). The result lies in memory in the order of `labels`; its dtype is the smallest unsigned one that
    holds the count, or `dtype`. Raises TypeError for labels that are no integers, ValueError for another
    connectivity or a dtype too small for the count. Source: He, Chao, Suzuki 2008, IEEE Transactions on Image
    Processing 17(5), runs united by rows.
    """
    where = "label_components"
    volume = require_labels(where, "labels", labels)
    chosen = None if dtype is None else np.dtype(dtype)
    if chosen is not None and (chosen.kind not in "ui" or not chosen.isnative):
        raise TypeError(f"{where}: dtype must be a native integer type, got {chosen}")
    parts = _find(where, volume, labels, connectivity, threads)
    n = len(parts)
    if chosen is None:
        chosen = np.min_scalar_type(n)
    elif n > np.iinfo(chosen.str).max:
        raise ValueError(f"{where}: {n} components do not fit dtype {chosen}")
    components = zeros_in_order_of(volume, chosen)
    parts.write(components)
    return components.reshape(labels.shape) if labels.ndim == 2 else components, n


def component_stats(labels: Array, connectivity: int = 26, *, threads: int = 1) -> ComponentStats:
    """Label, voxel count, bounding box and centroid of every component, in the order of `label_components`.

    Arguments and errors as in `label_components`; no label volume is made.
    """
    where = "component_stats"
    volume = require_labels(where, "labels", labels)
    components = _find(where, volume, labels, connectivity, threads)
    voxels, lo, hi, total = components.stats()
    centroid = total / np.maximum(voxels, 1)[:, np.newaxis]
    label = np.ones(len(voxels), bool) if labels.dtype == bool else components.labels().view(labels.dtype)
    axes = slice(3 - labels.ndim, 3)
    return ComponentStats(label, voxels, lo[:, axes], hi[:, axes], centroid[:, axes])


def keep_largest(
    labels: Array, k: int = 1, *, per_class: bool = True, connectivity: int = 26, threads: int = 1
) -> Array:
    """The labels with only the k largest components left, of every label or of the foreground as a whole.

    labels, connectivity, errors: as in `label_components`. Equally large components: the first in scan order
    stays. per_class=False joins touching voxels of all labels into one component and keeps their labels.
    Result: same shape, dtype and memory order as `labels`.
    """
    where = "keep_largest"
    require_count(where, "k", k, 1)
    return _keep(where, labels, connectivity, threads, k=k, per_class=per_class)


def remove_small(
    labels: Array,
    min_voxels: int | None = None,
    *,
    min_volume_mm3: float | None = None,
    spacing_mm: Sequence[float] | None = None,
    per_class: bool = True,
    connectivity: int = 26,
    threads: int = 1,
) -> Array:
    """The labels without components of fewer than min_voxels voxels or of less than min_volume_mm3.

    min_volume_mm3 needs spacing_mm. Everything else as in `keep_largest`. Raises ValueError unless exactly
    one of the two limits is given, or for one that is negative or not a number.
    """
    where = "remove_small"
    if (min_voxels is None) == (min_volume_mm3 is None):
        raise ValueError(
            f"{where}: need either min_voxels or min_volume_mm3, got {min_voxels} and {min_volume_mm3}"
        )
    if min_volume_mm3 is not None:
        if not (math.isfinite(min_volume_mm3) and min_volume_mm3 >= 0):
            raise ValueError(f"{where}: min_volume_mm3 must be finite and not negative, got {min_volume_mm3}")
        if spacing_mm is None:
            raise ValueError(f"{where}: min_volume_mm3 needs spacing_mm, got None")
        voxel_mm3 = math.prod(require_spacing(where, spacing_mm, np.ndim(labels)))
        # A component of exactly the limit stays, whatever the rounding of the quotient.
        min_voxels = math.ceil(min_volume_mm3 / voxel_mm3 * (1 - 1e-12))
    least = require_count(where, "min_voxels", min_voxels, 0)  # pyright: ignore[reportArgumentType]
    return _keep(where, labels, connectivity, threads, min_voxels=least, per_class=per_class)


def fill_holes(labels: Array, *, threads: int = 1) -> Array:
    """The labels with enclosed background filled.

    A hole is background with no way to the border of the array through faces. It takes the label that most of
    its faces touch, of equal ones the smallest (integers are compared unsigned). For bool this is
    scipy.ndimage.binary_fill_holes. labels and errors as in `label_components`; the result is a new array of
    the same shape, dtype and memory order.
    """
    where = "fill_holes"
    volume = require_labels(where, "labels", labels)
    threads = require_threads(where, threads)
    filled = volume.copy(order="K")
    _kernels.fill_holes(volume, filled, labels.ndim == 2, threads)
    return filled.reshape(labels.shape) if labels.ndim == 2 else filled


def _connectivity(where: str, ndim: int, connectivity: int) -> int:
    connectivity = _CONNECTIVITIES[ndim].get(connectivity, connectivity)
    if connectivity not in (6, 18, 26):
        raise ValueError(f"{where}: connectivity must be 6, 18 or 26 (4 or 8 in 2-D), got {connectivity!r}")
    return connectivity


def _find(where: str, volume: Array, labels: Array, connectivity: int, threads: int) -> _kernels.Components:
    connectivity = _connectivity(where, labels.ndim, connectivity)
    return _kernels.find_components(
        volume, connectivity, labels.dtype == bool, require_threads(where, threads)
    )


def _keep(
    where: str,
    labels: Array,
    connectivity: int,
    threads: int,
    *,
    k: int = 0,
    min_voxels: int = 0,
    per_class: bool,
) -> Array:
    volume = require_labels(where, "labels", labels)
    connectivity = _connectivity(where, labels.ndim, connectivity)
    foreground = labels.dtype == bool or not per_class
    kept = zeros_in_order_of(volume, volume.dtype)
    _kernels.keep(volume, kept, k, min_voxels, connectivity, foreground, require_threads(where, threads))
    return kept.reshape(labels.shape) if labels.ndim == 2 else kept
