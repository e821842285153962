"""What lies within a distance of a mask."""

import numpy as np

from kidseg_jax.imaging.volume import Mask, Spacing


def within(mask: Mask, reach_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels whose centre lies at most reach_mm outside a mask (z, y, x) whose voxels are boxes, not points.

    A voxel next to the mask is half a voxel outside it. Each row is widened once per width and then moved.
    """
    reach = reach_mm * (1 + 1e-9)  # a voxel exactly at the tolerance counts, whatever the rounding
    depths, widths, columns = (
        [max(0.0, k - 0.5) * spacing for k in range(n) if (k - 0.5) * spacing <= reach]
        for n, spacing in zip(mask.shape, spacing_mm, strict=True)
    )
    rows = [mask]
    for _ in columns[1:]:
        rows.append(_widened(rows[-1]))
    result = np.zeros_like(mask)
    for dz in range(1 - len(depths), len(depths)):
        for dy in range(1 - len(widths), len(widths)):
            rest = reach**2 - depths[abs(dz)] ** 2 - widths[abs(dy)] ** 2
            half_width = sum(column**2 <= rest for column in columns) - 1
            if half_width >= 0:
                (to_z, from_z), (to_y, from_y) = _shift(dz), _shift(dy)
                result[to_z, to_y] |= rows[half_width][from_z, from_y]
    return result


def _widened(mask: Mask) -> Mask:
    """One more voxel on either side along x."""
    wider = mask.copy()
    wider[..., 1:] |= mask[..., :-1]
    wider[..., :-1] |= mask[..., 1:]
    return wider


def _shift(by: int) -> tuple[slice, slice]:
    """Slices (to, from) that move an axis by `by`."""
    if by >= 0:
        return slice(by, None), slice(None, -by or None)
    return slice(None, by), slice(-by, None)
