"""Errors to plant into label maps (z, y, x) of phantoms, one function each; None where one has no place.

All take canonical labels in the values of `structures`, the CT in HU, spacing_mm and a generator.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC, VEIN
from kidseg_jax.imaging.volume import Labels, Mask, Spacing

Planter = Callable[[Labels, np.ndarray, Spacing, np.random.Generator], Labels | None]
LEAST_BEYOND = 0.12  # of the tree, on the smaller side of a cut
LEAST_TREE_ML = 0.6
TRIES = 200


def swapped_vessels(
    labels: Labels, hu: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator
) -> Labels | None:
    """Artery and vein changed for each other, in all of the map."""
    table = np.arange(256, dtype=np.uint8)
    table[[ARTERY, VEIN]] = VEIN, ARTERY
    return table[labels] if (labels == ARTERY).any() and (labels == VEIN).any() else None


def missing_tumour(
    labels: Labels, hu: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator
) -> Labels | None:
    """The tumour left out, or drawn as parenchyma, each in half of the cases."""
    if not (labels == RCC).any():
        return None
    instead = int(rng.choice((0, PARENCHYMA)))
    return np.where(labels == RCC, instead, labels).astype(np.uint8)


def shifted(labels: Labels, hu: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator) -> Labels | None:
    """The map two slices too high or too low."""
    moved = np.zeros_like(labels)
    if rng.random() < 0.5:
        moved[2:] = labels[:-2]
    else:
        moved[:-2] = labels[2:]
    return moved


def cut_vessel(
    labels: Labels, hu: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator
) -> Labels | None:
    """A ball of 5 to 8 mm taken out of an artery or a vein, so that it falls apart."""
    for _ in range(TRIES):
        value = int(rng.choice((ARTERY, VEIN)))
        pieces, n = kernels.label_components(labels == value)
        if not n:
            continue
        tree = pieces == int(rng.integers(1, n + 1))
        size = np.count_nonzero(tree)
        if size * float(np.prod(spacing_mm)) / 1000 < LEAST_TREE_ML:
            continue
        points = np.argwhere(tree)
        gone = tree & _ball(labels.shape, points[rng.integers(len(points))], rng.uniform(5, 8), spacing_mm)
        left = np.sort(kernels.component_stats(tree & ~gone).voxels)[::-1]
        if len(left) > 1 and left[1] >= LEAST_BEYOND * size:
            return np.where(gone, 0, labels).astype(np.uint8)
    return None


def foreign_blob(
    labels: Labels, hu: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator
) -> Labels | None:
    """A ball of 5 to 11 mm of any structure somewhere in the body, at least 6 mm from all labels."""
    spacing = np.asarray(spacing_mm)
    drawn = KDTree(np.argwhere(labels[::2, ::2, ::2] > 0) * 2 * spacing)
    for _ in range(TRIES):
        centre = np.array([rng.integers(n) for n in labels.shape])
        radius = rng.uniform(5, 11)
        if hu[tuple(centre)] > -200 and drawn.query(centre * spacing)[0] > radius + 6:
            ball = _ball(labels.shape, centre, radius, spacing_mm) & (labels == 0)
            return np.where(ball, int(rng.integers(1, len(NAMES) + 1)), labels).astype(np.uint8)
    return None


def mirrored(labels: Labels, hu: np.ndarray, spacing_mm: Spacing, rng: np.random.Generator) -> Labels | None:
    """Left and right of the map swapped, the CT as it was."""
    return np.ascontiguousarray(labels[:, :, ::-1])


ERRORS: dict[str, Planter] = {
    "artery and vein swapped": swapped_vessels,
    "missing tumour": missing_tumour,
    "two-slice shift": shifted,
    "cut vessel": cut_vessel,
    "foreign blob": foreign_blob,
    "left and right swapped": mirrored,
}


def _ball(shape: tuple[int, ...], centre: np.ndarray, radius_mm: float, spacing_mm: Spacing) -> Mask:
    axes = [(np.arange(n) - c) * mm for n, c, mm in zip(shape, centre, spacing_mm, strict=True)]
    z, y, x = np.ix_(*(axis**2 for axis in axes))
    return z + y + x <= radius_mm**2
