"""How large the surface is on which a tumour meets parenchyma, and what a resection margin takes of it."""

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from kidseg_jax.imaging.volume import Mask, Spacing

NORMAL_SIGMA = 1.2  # of the coarsest spacing
LARGEST_SIGMA = 0.35  # of the radius of a ball of the mask's volume
RIM = 2  # voxels: how far from the tumour's bare surface the edge of the contact is looked at


def contact_area_mm2(tumour: Mask, parenchyma: Mask, spacing_mm: Spacing) -> float:
    """Area in mm2 on which a tumour meets parenchyma, both bool (z, y, x) with a free layer around.

    Every face between a tumour's voxel and one of parenchyma stands for its area on the smooth surface: its
    own times the cosine to the surface's normal, which sums to the true area on any grid. A voxel beyond a
    face lies half a voxel outside the tumour on average; near the edge of the contact the layer behind it
    says what that costs. The clinical notion: Leslie et al. 2014.
    """
    spacing = np.asarray(spacing_mm)
    radius_mm = np.cbrt(max(np.count_nonzero(tumour), 1) * spacing.prod() * 0.75 / np.pi)
    sigma = min(NORMAL_SIGMA * spacing.max(), LARGEST_SIGMA * radius_mm) / spacing
    smooth = ndimage.gaussian_filter(tumour.astype(np.float32), sigma, truncate=3.0)
    slope = [np.gradient(smooth, step, axis=axis) for axis, step in enumerate(spacing)]
    length = np.sqrt(sum(part * part for part in slope)) + np.float32(1e-9)
    bare = ~(tumour | parenchyma) & np.asarray(ndimage.binary_dilation(tumour), bool)
    rim = np.asarray(ndimage.binary_dilation(bare, iterations=RIM), bool)
    first = second = 0.0
    for axis in range(3):
        face = float(spacing.prod() / spacing[axis])
        cosine = np.abs(slope[axis]) / length
        for way in (1, -1):
            beyond = np.roll(parenchyma, -way, axis)
            behind = np.roll(parenchyma, -2 * way, axis)
            met = tumour & beyond
            weight = (cosine[met] + np.roll(cosine, -way, axis)[met]) / 2 * face
            first += float(weight.sum())
            second += float(weight[~behind[met] & rim[met]].sum())
            gained = tumour & rim & ~beyond & behind & ~np.roll(tumour, -way, axis)
            second -= float((cosine[gained] * face).sum())
    return max(first + second / 2, 0.0)


def kept_ml(parenchyma: Mask, surface_mm: np.ndarray, margin_mm: float, spacing_mm: Spacing) -> float:
    """Parenchyma in ml that lies more than a margin from a tumour's surface, points (n, 3) in mm."""
    spacing = np.asarray(spacing_mm)
    voxel_ml = float(spacing.prod()) / 1000
    if len(surface_mm) == 0:
        return float(np.count_nonzero(parenchyma)) * voxel_ml
    lo = np.floor((surface_mm.min(0) - margin_mm) / spacing).astype(int).clip(0)
    hi = np.ceil((surface_mm.max(0) + margin_mm) / spacing).astype(int) + 1
    near = np.argwhere(parenchyma[tuple(slice(a, max(b, 0)) for a, b in zip(lo, hi, strict=True))]) + lo
    gaps = KDTree(surface_mm).query(near * spacing, distance_upper_bound=margin_mm)[0]
    taken = int(np.count_nonzero(np.isfinite(gaps)))
    return (int(np.count_nonzero(parenchyma)) - taken) * voxel_ml
