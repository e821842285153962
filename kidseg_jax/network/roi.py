"""A network's grid laid over a CT: isotropic, axis-aligned in canonical order, mirrored for left kidneys."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Side
from kidseg_jax.config import NetConfig
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Mask, Shape, Spacing

Point = tuple[float, float, float]
AIR_HU = -1000
MOST_GROWTHS = 2  # of an ROI whose kidney touches a face of it


@dataclass(frozen=True)
class Roi:
    """`shape` voxels of side `spacing_mm` about `centre_mm`; mirrored runs x backwards.

    centre_mm is (z, y, x) in mm from the centre of voxel (0, 0, 0) of a canonical volume, along its own axes.
    """

    shape: Shape
    spacing_mm: float
    centre_mm: Point
    mirrored: bool = False

    def source(self, source_spacing_mm: Spacing) -> list[np.ndarray]:
        """For each axis, the fractional source index of every ROI voxel: three float64 (n,)."""
        axes = []
        for n, centre, spacing in zip(self.shape, self.centre_mm, source_spacing_mm, strict=True):
            axes.append((centre + (np.arange(n) - (n - 1) / 2) * self.spacing_mm) / spacing)
        if self.mirrored:
            axes[2] = axes[2][::-1]
        return axes

    def to_mm(self, index: npt.ArrayLike) -> Point:
        """Place of a fractional index (z, y, x) of an ROI that is not mirrored, in mm as `centre_mm`."""
        offset = np.asarray(index) - (np.array(self.shape) - 1) / 2
        z, y, x = (offset * self.spacing_mm + self.centre_mm).tolist()
        return z, y, x

    def finer(self, parts: int) -> "Roi":
        """The same place in voxels of which `parts` lie along each axis of one of these."""
        z, y, x = (parts * n for n in self.shape)
        return replace(self, shape=(z, y, x), spacing_mm=self.spacing_mm / parts)

    def moved(self, by: Sequence[float]) -> "Roi":
        """As many voxels, whose indices (z, y, x) are `by` larger."""
        z, y, x = (self.spacing_mm * b for b in by)
        moved = np.add(self.centre_mm, (z, y, -x if self.mirrored else x))
        return replace(self, centre_mm=tuple(moved.tolist()))

    def part(self, lo: Shape, hi: Shape) -> "Roi":
        """The box lo..hi of these voxels, half open (z, y, x), as an ROI of its own."""
        middle = self.moved([(a + b - n) / 2 for a, b, n in zip(lo, hi, self.shape, strict=True)])
        return replace(middle, shape=(hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]))

    def footprint(self, source_shape: Shape, source_spacing_mm: Spacing) -> tuple[Shape, Shape]:
        """Box (lo, hi) of the source voxels centred inside the ROI; lo == hi along an axis it misses."""
        lo, hi = [], []
        for n, centre, have, spacing in zip(
            self.shape, self.centre_mm, source_shape, source_spacing_mm, strict=True
        ):
            half = n * self.spacing_mm / 2
            first = int(np.clip(np.ceil((centre - half) / spacing), 0, have))
            lo.append(first)
            hi.append(int(np.clip(np.floor((centre + half) / spacing) + 1, first, have)))
        return tuple(lo), tuple(hi)  # pyright: ignore[reportReturnType]

    def target(self, lo: Shape, hi: Shape, source_spacing_mm: Spacing) -> list[np.ndarray]:
        """For each axis, the fractional ROI index of every source voxel lo..hi: the inverse of `source`."""
        axes = []
        for first, last, n, centre, spacing in zip(
            lo, hi, self.shape, self.centre_mm, source_spacing_mm, strict=True
        ):
            axes.append((np.arange(first, last) * spacing - centre) / self.spacing_mm + (n - 1) / 2)
        if self.mirrored:
            axes[2] = self.shape[2] - 1 - axes[2]
        return axes


def fine_roi(net: NetConfig, kidney_centre_mm: tuple[float, ...], side: Side, margin: int = 0) -> Roi:
    """The fine net's ROI of a kidney whose box has this centre, left ones mirrored.

    margin: voxels added on every face.
    """
    z, y, x = net.offset_mm
    offset = (z, y, x if side == "right" else -x)
    centre = tuple(c + o for c, o in zip(kidney_centre_mm, offset, strict=True))
    shape = tuple(n + 2 * margin for n in net.patch)
    return Roi(shape, net.spacing_mm, centre, mirrored=side == "left")  # pyright: ignore[reportArgumentType]


def box_centre_mm(box: kernels.Box, spacing_mm: Spacing) -> Point:
    """Centre of a half-open voxel box (z, y, x), in mm from the centre of voxel (0, 0, 0)."""
    z, y, x = ((a + b - 1) / 2 * s for a, b, s in zip(box.lo, box.hi, spacing_mm, strict=True))
    return z, y, x


def coarse_grid(net: NetConfig, shape: Shape, spacing_mm: Spacing, margin: int = 0) -> Roi:
    """The coarse net's grid over a whole CT: centred on it, at least one patch large.

    margin: voxels added on every face.
    """
    size = [n * s for n, s in zip(shape, spacing_mm, strict=True)]
    cover = tuple(
        max(p, int(np.ceil(s / net.spacing_mm))) + 2 * margin for p, s in zip(net.patch, size, strict=True)
    )
    centre = tuple((n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True))
    return Roi(cover, net.spacing_mm, centre)  # pyright: ignore[reportArgumentType]


def about_kidney(net: NetConfig, side: Side, roi: Roi, scores: np.ndarray) -> Roi:
    """The fine net's ROI of the kidney that it sees in one; the same where that is within a voxel of it.

    scores: logits (z, y, x, c) of the ROI. The kidney is the largest piece of parenchyma with its RCC.
    """
    box = kernels.bounding_box(kernels.keep_largest(_kidney(scores)))
    if box is None:
        return roi
    middle = [(lo + hi - n) / 2 for lo, hi, n in zip(box.lo, box.hi, roi.shape, strict=True)]
    about = fine_roi(net, roi.moved(middle).centre_mm, side)
    apart_mm = np.abs(np.subtract(about.centre_mm, roi.centre_mm)).max()
    return about if apart_mm > roi.spacing_mm else roi


def grown(roi: Roi, scores: np.ndarray, ct_shape: Shape, spacing_mm: Spacing) -> Roi:
    """The ROI and half of it behind each face that its kidney touches, if the CT goes on there; else itself.

    scores: logits (z, y, x, c) of the ROI. The kidney is the largest piece of parenchyma with its RCC.
    """
    if not any(_kidney(scores.take(end, axis)).any() for axis, end in _faces()):
        return roi
    kidney = kernels.keep_largest(_kidney(scores))
    ends = roi.footprint(ct_shape, spacing_mm)
    shape, centre = list(roi.shape), list(roi.centre_mm)
    for axis, end in _faces():
        is_high = (end == -1) != (roi.mirrored and axis == 2)
        if kidney.take(end, axis).any() and ends[is_high][axis] != (0, ct_shape[axis])[is_high]:
            more = roi.shape[axis] // 2
            shape[axis] += more
            centre[axis] += (more if is_high else -more) / 2 * roi.spacing_mm
    return Roi(tuple(shape), roi.spacing_mm, tuple(centre), roi.mirrored)  # pyright: ignore[reportArgumentType]


def _faces() -> Iterator[tuple[int, int]]:
    return ((axis, end) for axis in range(3) for end in (0, -1))


def _kidney(scores: np.ndarray) -> Mask:
    return scores.argmax(-1) >= PARENCHYMA


def sample_ct(ct: np.ndarray, spacing_mm: Spacing, roi: Roi, threads: int = 1) -> np.ndarray:
    """HU on the ROI's grid, int16 (z, y, x): linear, averaged where the ROI is coarser, air outside."""
    axes = roi.source(spacing_mm)
    sampled = np.rint(kernels.resample_linear(ct, *axes, threads=threads)).astype(np.int16)
    return _outside(sampled, axes, ct.shape, AIR_HU)


def sample_labels(labels: np.ndarray, spacing_mm: Spacing, roi: Roi) -> np.ndarray:
    """The label at the nearest voxel of each ROI voxel, uint8; background outside the map (z, y, x)."""
    axes = roi.source(spacing_mm)
    nearest = [np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip(axes, labels.shape, strict=True)]
    return _outside(labels[np.ix_(*nearest)].astype(np.uint8), axes, labels.shape, 0)


def sample_mask(mask: np.ndarray, spacing_mm: Spacing, roi: Roi, threads: int = 1) -> np.ndarray:
    """Whether at least half of each ROI voxel is mask: bool, False outside (z, y, x)."""
    axes = roi.source(spacing_mm)
    covered = kernels.resample_linear(mask.astype(np.float32), *axes, threads=threads) >= 0.5
    return _outside(covered, axes, mask.shape, False)


def _outside(sampled: np.ndarray, axes: list[np.ndarray], shape: tuple[int, ...], fill: int) -> np.ndarray:
    for axis, (at, n) in enumerate(zip(axes, shape, strict=True)):
        missing = (at < -0.5) | (at > n - 0.5)
        if missing.any():
            np.moveaxis(sampled, axis, 0)[missing] = fill
    return sampled
