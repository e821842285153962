"""Boxes in volumes: find the foreground's, cut one or many out, put one back."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kidseg_jax import _kernels
from kidseg_jax.kernels.checks import (
    Array,
    require_array,
    require_labels,
    require_spacing,
    require_threads,
    require_volume,
)


class Box(NamedTuple):
    """Half-open voxel box (z, y, x); may reach outside the volume."""

    lo: tuple[int, int, int]
    hi: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.hi[0] - self.lo[0], self.hi[1] - self.lo[1], self.hi[2] - self.lo[2])

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The index of the box's voxels in a volume that holds all of it."""
        (z, y, x), (z_end, y_end, x_end) = self.lo, self.hi
        return slice(z, z_end), slice(y, y_end), slice(x, x_end)


def bounding_box(
    mask: Array, margin_mm: float = 0.0, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> Box | None:
    """Tight box around the voxels that are not zero, widened by at least margin_mm; None for an empty mask.

    mask: bool or integers (z, y, x). spacing_mm: (z, y, x). The widened box may reach outside the mask's
    array. Raises ValueError for a margin that is negative or not finite, or a bad spacing; TypeError for
    float masks.
    """
    where = "bounding_box"
    volume = _require_3d(where, mask)
    spacing = require_spacing(where, spacing_mm)
    if not (math.isfinite(margin_mm) and margin_mm >= 0):
        raise ValueError(f"{where}: margin_mm must be finite and not negative, got {margin_mm!r}")
    box = _kernels.bounding_box(volume)
    if box is None:
        return None
    margin = [math.ceil(margin_mm / s - 1e-9) for s in spacing]
    lo, hi = (
        (c - m for c, m in zip(box[0], margin, strict=True)),
        (c + m for c, m in zip(box[1], margin, strict=True)),
    )
    return _box(where, (tuple(lo), tuple(hi)))


def crop_roi(volume: Array, box: Box, fill: float = 0) -> Array:
    """The voxels of a volume inside a box, `fill` where the box reaches outside: a new C-ordered array.

    volume: (z, y, x), bool, integers or floats. box: half open; an axis may be empty but not reversed.
    Raises ValueError for a reversed box or a fill that the volume's dtype cannot hold.
    """
    return _crop("crop_roi", volume, (box,), fill, 1)[0]


def crop_rois(volume: Array, boxes: Sequence[Box], fill: float = 0, *, threads: int = 1) -> Array:
    """Several boxes of one size cut from one volume in one call: (b, z, y, x), as `crop_roi` for each.

    Raises ValueError for no box, or boxes of different sizes.
    """
    where = "crop_rois"
    shapes = {_box(where, box).shape for box in boxes}
    if len(shapes) != 1:
        raise ValueError(f"{where}: boxes must be of one size and at least one, got sizes {sorted(shapes)}")
    return _crop(where, volume, boxes, fill, require_threads(where, threads))


def paste_roi(volume: Array, roi: Array, box: Box) -> None:
    """Write an ROI into a volume in place, the inverse of `crop_roi`; what lies outside is dropped.

    volume: writable (z, y, x); roi: same dtype, shape of the box. Raises ValueError or TypeError where they
    do not fit.
    """
    where = "paste_roi"
    volume = require_volume(where, "volume", volume)
    roi = require_volume(where, "roi", roi)
    box = _box(where, box)
    if not volume.flags.writeable:
        raise ValueError(f"{where}: volume must be writable, got a read-only array")
    if roi.dtype != volume.dtype:
        raise TypeError(f"{where}: roi must be {volume.dtype} like the volume, got {roi.dtype}")
    if roi.shape != box.shape:
        raise ValueError(f"{where}: roi must have the box's shape {box.shape}, got {roi.shape}")
    if np.may_share_memory(volume, roi) and np.shares_memory(volume, roi):
        roi = roi.copy()
    _kernels.paste(volume, box.lo, roi)


def _crop(where: str, volume: Array, boxes: Sequence[Box], fill: float, threads: int) -> Array:
    volume = require_volume(where, "volume", volume)
    checked = [_box(where, box) for box in boxes]
    with np.errstate(all="ignore"):
        value = np.asarray(fill).astype(volume.dtype)
    if np.ndim(fill) != 0 or (volume.dtype.kind != "f" and value != fill):
        raise ValueError(f"{where}: fill must be one value that {volume.dtype} can hold, got {fill!r}")
    rois = np.empty((len(checked), *checked[0].shape), volume.dtype)
    _kernels.crop(volume, [box.lo for box in checked], list(rois), value, threads)
    return rois


def _box(where: str, box: object) -> Box:
    try:
        lo, hi = (tuple(int(c) for c in corner) for corner in box)  # pyright: ignore[reportGeneralTypeIssues]
        whole = all(int(c) == c for corner in box for c in corner)  # pyright: ignore[reportGeneralTypeIssues]
    except (TypeError, ValueError):
        raise TypeError(f"{where}: box must be (lo, hi), each three whole numbers, got {box!r}") from None
    if len(lo) != 3 or len(hi) != 3 or not whole or any(a > b for a, b in zip(lo, hi, strict=True)):
        raise ValueError(f"{where}: box must be (lo, hi) with lo <= hi on three axes, got {box!r}")
    return Box(lo, hi)


def _require_3d(where: str, mask: Array) -> Array:
    if require_array(where, "mask", mask).ndim != 3:
        raise ValueError(f"{where}: mask must be 3-D, got shape {mask.shape}")
    return require_labels(where, "mask", mask)
