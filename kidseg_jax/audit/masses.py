"""A tumour that nobody labelled: left out of the kidney, or drawn as parenchyma."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from kidseg_jax import kernels
from kidseg_jax.audit.scene import Kidney
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Mask, Spacing

OPENING_MM = 3.0
SOFT_HU = (0.0, 300.0)
RIM_MM = (1.0, 6.0)
UNDER_HULL_MM = 9.0
PLANES_AT_ONCE = 64
FEWEST_VOXELS = 200
FLUID_HU, ENHANCED_HU = 25.0, 60.0


class Mass(NamedTuple):
    """What may be a mass: its size (see who measured it), and the voxel in its middle."""

    size: float
    at: np.ndarray


def bite(kidney: Kidney, hull: Mask) -> Mass:
    """Unlabelled soft tissue inside the convex hull of a kidney: the largest piece's core, in ml.

    A sinus holds fat; a mass that was left out leaves a bite with soft tissue in it. What is thinner than
    twice `OPENING_MM` does not count. kidney: coarse.
    """
    soft = _smooth(kidney.hu, kidney.spacing_mm, 2.0)
    free = hull & (kidney.labels == 0) & ~kidney.others & (soft > SOFT_HU[0]) & (soft < SOFT_HU[1])
    core = np.asarray(ndimage.distance_transform_edt(free, sampling=kidney.spacing_mm)) > OPENING_MM
    stats = kernels.component_stats(core)
    if not len(stats.voxels):
        return Mass(0.0, np.zeros(3))
    k = int(stats.voxels.argmax())
    return Mass(float(stats.voxels[k]) * kidney.voxel_ml, stats.centroid[k])


def thickest(kidney: Kidney) -> Mass:
    """The radius of the largest ball in the parenchyma, in mm. kidney: coarse."""
    tissue = np.pad(kidney.labels == PARENCHYMA, 1)
    depth = np.asarray(ndimage.distance_transform_edt(tissue, sampling=kidney.spacing_mm))
    at = np.unravel_index(int(depth.argmax()), depth.shape)
    return Mass(float(depth[at]), np.asarray(at) - 1)


def uneven_rim(kidney: Kidney, hull: Mask) -> Mass:
    """How much HU under the kidney's outer surface vary: the 97th percentile from the median, as a share.

    Cortex lies there everywhere; a mass that was drawn as parenchyma breaks the rim. Fluid in enhanced
    parenchyma is a cyst and does not count. Of the median or 60 HU,
    whichever is larger. kidney: coarse.
    """
    parenchyma, spacing = kidney.labels == PARENCHYMA, kidney.spacing_mm
    depth = np.asarray(ndimage.distance_transform_edt(kidney.labels > 0, sampling=spacing))
    below = np.asarray(ndimage.distance_transform_edt(hull, sampling=spacing))
    rim = parenchyma & (depth > RIM_MM[0]) & (depth < RIM_MM[1]) & (below < UNDER_HULL_MM)
    if np.count_nonzero(rim) < FEWEST_VOXELS:
        return Mass(0.0, np.zeros(3))
    near = _within(kidney.hu, rim, spacing, 3.0)
    median = float(np.median(near[rim]))
    solid = rim & ((near > FLUID_HU) | (median < ENHANCED_HU))
    away = np.where(solid, np.abs(near - median), 0)
    far = float(np.percentile(away[rim], 97))
    at = np.argwhere(away >= max(far, 1e-6)).mean(axis=0) if far > 0 else np.zeros(3)
    return Mass(far / max(60.0, abs(median)), at)


def hull_of(mask: Mask, spacing_mm: Spacing) -> Mask:
    """The voxels in the convex hull of a mask's largest piece; the mask itself where it is flat."""
    largest = kernels.keep_largest(mask)
    box = kernels.bounding_box(largest)
    if box is None:
        return largest
    part = largest[box.slices]
    inner = np.asarray(ndimage.binary_erosion(part), dtype=bool)
    rim = np.argwhere(part & ~inner) * np.asarray(spacing_mm)
    try:
        planes = ConvexHull(rim).equations.astype(np.float32)
    except (QhullError, ValueError):
        return largest
    axes = [
        np.arange(n, dtype=np.float32) * np.float32(mm) for n, mm in zip(part.shape, spacing_mm, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    left = np.arange(len(points))
    for start in range(0, len(planes), PLANES_AT_ONCE):
        some = planes[start : start + PLANES_AT_ONCE]
        left = left[(points[left] @ some[:, :3].T + some[:, 3] <= 1e-3).all(axis=1)]
    inside = np.zeros(len(points), bool)
    inside[left] = True
    whole = np.zeros(mask.shape, bool)
    whole[box.slices] = inside.reshape(part.shape)
    return whole


def _within(hu: np.ndarray, mask: Mask, spacing_mm: Spacing, sigma_mm: float) -> np.ndarray:
    """HU smoothed over the voxels of a mask alone."""
    sigma = [sigma_mm / mm for mm in spacing_mm]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    held = ndimage.gaussian_filter(np.where(mask, hu, 0).astype(np.float32), sigma)
    return held / np.maximum(weight, 1e-3)


def _smooth(hu: np.ndarray, spacing_mm: Spacing, sigma_mm: float) -> np.ndarray:
    clipped = np.clip(hu, -150, 350).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(clipped, [sigma_mm / mm for mm in spacing_mm]))
