"""The KiTS23 metrics: Dice and surface Dice of its three nested regions, with its own rules for what is
empty.
"""

from typing import Any

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.evaluation.metrics import KITS_TOLERANCES_MM, SURFACE_DEFINITION, crop_together, dice
from kidseg_jax.imaging.volume import Labels, Mask, Spacing

REGIONS: dict[str, tuple[int, ...]] = {"kidney_and_mass": (1, 2, 3), "mass": (2, 3), "tumor": (2,)}
"""Which KiTS labels (1 kidney, 2 tumour, 3 cyst) make up each region."""


def measure_kits(
    truth: Labels, predicted: Labels, spacing_mm: Spacing, *, threads: int = 1
) -> list[dict[str, Any]]:
    """One record per region: its name, dice and surface_dice at the challenge's tolerance for it.

    truth, predicted: KiTS label maps (z, y, x). Absent in both counts as 1, in one as 0: the challenge's
    rule, which differs from `metrics.measure_kidney`. Raises ValueError when shapes differ and for other
    values. Source: KiTS23's evaluation (surface-distance package, Nikolov et al. 2021).
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"measure_kits: label maps must share a shape, got {truth.shape} and {predicted.shape}"
        )
    if unknown := sorted({*np.unique(truth).tolist(), *np.unique(predicted).tolist()} - {0, 1, 2, 3}):
        raise ValueError(f"measure_kits: KiTS has 1 kidney, 2 tumour and 3 cyst, got label {unknown[0]}")
    truth, predicted = crop_together(truth, predicted)
    return [
        {
            "region": name,
            **_region(_union(truth, labels), _union(predicted, labels), name, spacing_mm, threads),
        }
        for name, labels in REGIONS.items()
    ]


def _region(truth: Mask, predicted: Mask, name: str, spacing_mm: Spacing, threads: int) -> dict[str, float]:
    overlap = dice(truth, predicted)
    if overlap is None:
        return {"dice": 1.0, "surface_dice": 1.0}
    if not (truth.any() and predicted.any()):
        return {"dice": 0.0, "surface_dice": 0.0}
    distances = kernels.surface_distances(truth, predicted, spacing_mm, SURFACE_DEFINITION, threads=threads)
    return {"dice": overlap, "surface_dice": distances.nsd(KITS_TOLERANCES_MM[name])}


def _union(labels: Labels, values: tuple[int, ...]) -> Mask:
    mask = labels == values[0]
    for value in values[1:]:
        mask |= labels == value
    return mask
