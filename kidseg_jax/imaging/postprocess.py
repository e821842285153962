"""What a label map of a kidney may look like: rules that tidy a prediction, each with a switch."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Labels, Mask, Spacing

TREES = (ARTERY, VEIN, URETER)
KIDNEY = (PARENCHYMA, RCC)


@dataclass(frozen=True)
class Rules:
    """Which rules hold. `apply` runs them in this order; `NOTHING` has all of them off."""

    largest_kidney: bool = True
    """Parenchyma and RCC outside the largest piece of both together are dropped, whatever their size."""
    one_parenchyma: bool = True
    """Parenchyma that nothing labelled connects with the largest piece is dropped."""
    vessels_touch: bool = True
    """Artery, vein and ureter that do not reach their kidney, by way of each other or not, are dropped."""
    masses_attached: bool = True
    """RCC that does not touch parenchyma is dropped unless it is large."""
    detached_rcc_ml: float = 2.0
    """From this volume on a detached mass stays, in ml: it may have replaced what held it."""
    gap_mm: float = 20.0
    """A piece of artery, vein or ureter at most this far from its kidney reaches it, in mm: predicted trees
    break near the hilum, where the true ones do not."""
    sides_apart: bool = True
    """In a map with both kidneys, a piece of one label that reaches both is cut between them."""

    def __post_init__(self) -> None:
        for name in ("detached_rcc_ml", "gap_mm"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Rules.{name}: must not be negative, got {getattr(self, name)}")


RULES = ("largest_kidney", "one_parenchyma", "masses_attached", "vessels_touch", "sides_apart")
NOTHING = Rules(**dict.fromkeys(RULES, False))
DEFAULT = replace(NOTHING, largest_kidney=True)
"""The one rule that raises DSC by more than chance, see benchmarks/postprocess.py."""
VARIANTS = {
    "none": NOTHING,
    **{rule: replace(NOTHING, **{rule: True}) for rule in RULES},
    **{f"largest_kidney and {rule}": replace(DEFAULT, **{rule: True}) for rule in RULES[1:]},
    "all": Rules(),
}
"""What the table of effects compares: no rule, each alone, each beside the default, all."""


def apply(labels: Labels, spacing_mm: Spacing, rules: Rules) -> Labels:
    """The labels of one kidney (z, y, x), values 0..5, after the rules that are on; a new array.

    Rules only remove: a voxel keeps its label or becomes background. Without a voxel of parenchyma or RCC
    there is no kidney to belong to and the labels stay as they are. `sides_apart` needs both kidneys: see
    `split_sides`.
    """
    result = largest_kidney(labels) if rules.largest_kidney else labels.copy()
    if rules.one_parenchyma:
        _keep(result, PARENCHYMA, main_parenchyma(result))
    if rules.masses_attached:
        _keep(result, RCC, attached_masses(result, spacing_mm, rules.detached_rcc_ml))
    if rules.vessels_touch and np.isin(result, KIDNEY).any():
        touching = touching_trees(result, spacing_mm, rules.gap_mm)
        result[np.isin(result, TREES) & ~touching] = 0
    return result


def largest_kidney(labels: Labels, threads: int = 1) -> Labels:
    """Labels without the parenchyma and RCC that nothing of either connects with their largest piece."""
    kidney = labels >= PARENCHYMA
    largest = kernels.keep_largest(kidney, threads=threads)
    return labels * (kidney == largest)


def main_parenchyma(labels: Labels) -> Mask:
    """The parenchyma of the component (26-connected, all labels together) that holds most of it."""
    parts, n = kernels.label_components(labels > 0)
    counts = np.bincount(parts[labels == PARENCHYMA], minlength=n + 1)
    counts[0] = 0
    if not counts.any():
        return np.zeros(labels.shape, bool)
    return (parts == int(counts.argmax())) & (labels == PARENCHYMA)


def attached_masses(labels: Labels, spacing_mm: Spacing, least_ml: float) -> Mask:
    """The pieces of RCC that touch parenchyma or have least_ml or more; all of them without parenchyma."""
    masses, n = kernels.label_components(labels == RCC)
    parenchyma = labels == PARENCHYMA
    if not parenchyma.any():
        return labels == RCC
    keep = np.bincount(masses.ravel(), minlength=n + 1) * np.prod(spacing_mm) / 1000 >= least_ml
    keep[np.unique(masses[_grown(parenchyma)])] = True
    keep[0] = False
    return keep[masses]


def touching_trees(labels: Labels, spacing_mm: Spacing, gap_mm: float) -> Mask:
    """Artery, vein and ureter that touch parenchyma or RCC or come within gap_mm, and all they touch.

    The distance is that of voxel centres.
    """
    pieces, n = kernels.label_components(np.isin(labels, TREES))
    kidney = np.isin(labels, KIDNEY)
    if not kidney.any():
        return np.zeros(labels.shape, bool)
    near = _grown(kidney) | (np.asarray(distance_transform_edt(~kidney, sampling=spacing_mm)) <= gap_mm)
    keep = np.zeros(n + 1, bool)
    keep[np.unique(pieces[near])] = True
    keep[0] = False
    return keep[pieces]


def split_sides(right: Labels, left: Labels, spacing_mm: Spacing, rules: Rules) -> tuple[Labels, Labels]:
    """Labels of the right and left kidney on one grid (z, y, x), no voxel in both; new arrays.

    A voxel that both claim goes to the kidney whose parenchyma and RCC are nearer, the right one where they
    are equally near. With the rule off, or without parenchyma on a side, the right kidney keeps what both
    claim. Raises ValueError for shapes that differ.
    """
    if right.shape != left.shape:
        raise ValueError(
            f"split_sides: both kidneys must lie on one grid, got {right.shape} and {left.shape}"
        )
    right, left = right.copy(), left.copy()
    both = (right > 0) & (left > 0)
    if not both.any():
        return right, left
    goes_left = np.zeros(both.shape, bool)
    own = [np.isin(side, KIDNEY) & ~both for side in (right, left)]
    if rules.sides_apart and own[0].any() and own[1].any():
        far = [np.asarray(distance_transform_edt(~side, sampling=spacing_mm)) for side in own]
        goes_left = both & (far[1] < far[0])
    right[goes_left] = 0
    left[both & ~goes_left] = 0
    return right, left


def _keep(labels: Labels, label: int, mask: Mask) -> None:
    labels[(labels == label) & ~mask] = 0


def _grown(mask: Mask) -> Mask:
    """The mask and its 26 neighbours."""
    result = mask.copy()
    for axis in range(mask.ndim):
        grown = result.copy()
        after, before = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        after[axis], before[axis] = slice(1, None), slice(None, -1)
        grown[tuple(after)] |= result[tuple(before)]
        grown[tuple(before)] |= result[tuple(after)]
        result = grown
    return result
