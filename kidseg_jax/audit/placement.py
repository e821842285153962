"""Do the labels lie where the CT has a kidney? Shifted and mirrored label maps.

A kidney's border is a step in HU: parenchyma is denser than the fat around it, before and after contrast.
Where the labels lie right, that step is largest at their border; moved or mirrored back, wrong ones
find it again.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Labels, Shape, Spacing

STEP_HU = (-120.0, 150.0)  # what lies outside counts as this: gas and bone would outweigh the rest
FARTHEST = 4  # voxels that a shift is looked for, each way
SHELL_MM = 4.0
LEAST_STEP_HU = 15.0


class Shift(NamedTuple):
    """Where along one axis the border fits best: voxels (0: where it is), mm, how much larger the step is.

    gain: share of the best step that the labels miss where they lie, 0 to 1.
    """

    axis: int
    voxels: int
    mm: float
    gain: float


def best_shift(hu: np.ndarray, labels: Labels, spacing_mm: Spacing, axis: int) -> Shift:
    """The shift along an axis (0 z, 1 y, 2 x) that fits the CT best, of up to `FARTHEST` voxels each way."""
    steps = {n: _step_along(hu, labels, axis, n) for n in range(-FARTHEST, FARTHEST + 1)}
    best = max(steps, key=lambda n: (steps[n], -abs(n)))
    gain = (steps[best] - steps[0]) / max(steps[best], LEAST_STEP_HU)
    return Shift(axis, best, best * spacing_mm[axis], float(np.clip(gain, 0, 1)))


def _step_along(hu: np.ndarray, labels: Labels, axis: int, voxels: int) -> float:
    """Mean of HU inside less outside over the faces of the kidneys across an axis, moved by some voxels."""
    kidney = np.moveaxis(labels >= PARENCHYMA, axis, 0)
    drawn = np.moveaxis(labels > 0, axis, 0)
    values = np.moveaxis(hu, axis, 0)
    n = len(kidney)
    steps, faces = 0.0, 0
    for inside, outside in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        at, across, along = np.nonzero(kidney[inside] & ~drawn[outside])
        inner = at + (inside.start or 0) + voxels
        outer = at + (outside.start or 0) + voxels
        held = (np.minimum(inner, outer) >= 0) & (np.maximum(inner, outer) < n)
        inner, outer, across, along = inner[held], outer[held], across[held], along[held]
        low, high = STEP_HU
        steps += float(
            (
                np.clip(values[inner, across, along], low, high).astype(np.float32)
                - np.clip(values[outer, across, along], low, high)
            ).sum()
        )
        faces += len(inner)
    return steps / faces if faces else 0.0


class Mirrored(NamedTuple):
    """How much larger the step at the border is with the labels mirrored, in HU; along which axes that is."""

    gain_hu: float
    axes: tuple[int, ...]
    step_hu: float


def best_mirror(hu: np.ndarray, labels: Labels, spacing_mm: Spacing) -> Mirrored:
    """The mirror image of the labels, within their image, that fits the CT best; a gain below 0: none does.

    hu, labels: whole and canonical (z, y, x). step_hu: at the labels where they are.
    """
    kidney = labels >= PARENCHYMA
    box = kernels.bounding_box(kidney, SHELL_MM, spacing_mm)
    if box is None:
        return Mirrored(0.0, (), 0.0)
    lo = np.maximum(box.lo, 0)
    hi = np.minimum(box.hi, labels.shape)
    part = tuple(slice(a, b) for a, b in zip(lo.tolist(), hi.tolist(), strict=True))
    inside = kidney[part]
    shell = _shell(inside, labels[part], spacing_mm)
    steps: dict[tuple[int, ...], float] = {}
    for flips in product((False, True), repeat=3):
        axes = tuple(axis for axis, flip in enumerate(flips) if flip)
        seen = np.flip(hu, axes)[part] if axes else hu[part]
        steps[axes] = _mean(seen, inside) - _mean(seen, shell)
    here = steps.pop(())
    best = max(steps, key=lambda axes: steps[axes])
    return Mirrored(steps[best] - here, best, here)


def _shell(inside: np.ndarray, labels: Labels, spacing_mm: Spacing) -> np.ndarray:
    reach = [max(1, round(SHELL_MM / mm)) for mm in spacing_mm]
    grown = inside
    for axis, n in enumerate(reach):
        size = [1, 1, 1]
        size[axis] = 2 * n + 1
        grown = ndimage.maximum_filter(grown.view(np.uint8), size=size, mode="constant").view(bool)
    return grown & (labels == 0)


def _mean(hu: np.ndarray, mask: np.ndarray) -> float:
    return float(np.clip(hu[mask], *STEP_HU).mean()) if mask.any() else 0.0


def middle_of(labels: Labels, box: kernels.Box) -> Shape:
    """A voxel in the middle of the largest section of the kidneys."""
    sections = (labels[box.slices] >= PARENCHYMA).sum(axis=(1, 2))
    z = int(sections.argmax())
    y, x = np.argwhere(labels[box.slices][z] >= PARENCHYMA).mean(axis=0)
    return box.lo[0] + z, box.lo[1] + round(float(y)), box.lo[2] + round(float(x))
