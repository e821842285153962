"""Labels where no such tissue can be: in air or lung, outside the body, in HU that fits no such structure."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kidseg_jax.audit.scene import Scene
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Shape

AIR_HU = -300.0
PLAUSIBLE_HU = {  # of the median of a piece, in any phase, with noise; stones and metal reach beyond
    ARTERY: (-30.0, 700.0),
    VEIN: (-30.0, 500.0),
    URETER: (-60.0, 2500.0),
    PARENCHYMA: (-20.0, 400.0),
    RCC: (-20.0, 400.0),
}


class Amount(NamedTuple):
    """How much of a structure is wrong in one way, and the voxel of the case where it is."""

    size: float
    at: Shape


def in_air(scene: Scene, label: int) -> Amount | None:
    """Ml of a structure in air, lung or outside the body (a mean of 3x3x3 voxels below `AIR_HU`)."""
    if scene.box is None:
        return None
    lo = np.maximum(np.subtract(scene.box.lo, 1), 0)
    part = tuple(slice(a, b + 1) for a, b in zip(lo.tolist(), scene.box.hi, strict=True))
    drawn = scene.labels[part] == label
    if not drawn.any():
        return None
    near = ndimage.uniform_filter(np.maximum(scene.hu[part], -1100).astype(np.float32), 3, mode="nearest")
    wrong = np.argwhere(drawn & (near < AIR_HU))
    if not len(wrong):
        return Amount(0.0, (0, 0, 0))
    return Amount(len(wrong) * scene.voxel_ml, _shape(lo + wrong[len(wrong) // 2]))


def unlike(scene: Scene, label: int) -> Amount | None:
    """How far the median HU of a structure lies outside what it can have, in HU."""
    if scene.box is None:
        return None
    drawn = scene.labels[scene.box.slices] == label
    at = np.argwhere(drawn)
    if not len(at):
        return None
    median = float(np.median(scene.hu[scene.box.slices][drawn]))
    low, high = PLAUSIBLE_HU[label]
    return Amount(max(low - median, median - high, 0.0), _shape(np.asarray(scene.box.lo) + at[len(at) // 2]))


def _shape(index: np.ndarray) -> Shape:
    z, y, x = (int(i) for i in index)
    return z, y, x
