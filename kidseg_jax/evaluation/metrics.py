"""How well two masks agree: overlap, volume and surface distances, with every empty case defined."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.evaluation.trees import TREES, TreeAgreement, measure_tree
from kidseg_jax.imaging.structures import STRUCTURES, Structure
from kidseg_jax.imaging.volume import Labels, Mask, Spacing

KITS_TOLERANCES_MM = {
    "kidney_and_mass": 1.0330772532390826,
    "mass": 1.1328796488598762,
    "tumor": 1.1498198361434828,
}
"""Tolerances of the KiTS21 and KiTS23 surface Dice, as in the challenge's own configuration."""

TOLERANCES_MM = {"nsd_1mm": 1.0, "nsd_2mm": 2.0} | {
    f"nsd_kits_{name}": tolerance for name, tolerance in KITS_TOLERANCES_MM.items()
}
SURFACE_DEFINITION: kernels.Definition = "surfel"
"""Surface elements at voxel corners weighted by their area, as the surface-distance package has them."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a predicted with a true mask. None: undefined, see `measure`."""

    truth_ml: float
    predicted_ml: float
    volume_error_ml: float
    volume_error_percent: float | None = None
    dsc: float | None = None
    hd_mm: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    surface_rms_mm: float | None = None
    nsd_1mm: float | None = None
    nsd_2mm: float | None = None
    nsd_kits_kidney_and_mass: float | None = None
    nsd_kits_mass: float | None = None
    nsd_kits_tumor: float | None = None


def dice(truth: Mask, predicted: Mask) -> float | None:
    """Dice coefficient 2|A n B| / (|A| + |B|) in 0..1 of two masks (z, y, x); None when both are empty."""
    total = np.count_nonzero(truth) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(truth & predicted) / total if total else None


def measure(truth: Mask, predicted: Mask, spacing_mm: Spacing, *, threads: int = 1) -> Agreement:
    """Every metric of one pair of masks.

    truth, predicted: bool (z, y, x), same shape; spacing_mm: (z, y, x), each > 0. Volumes in ml, distances in
    mm over surfels weighted by area (`SURFACE_DEFINITION`), NSD at `TOLERANCES_MM`. Both empty: overlap and
    distances are None. One empty: DSC and NSD are 0 and distances None (there is no surface to measure to).
    Truth empty: volume_error_percent is None. Raises ValueError on a shape mismatch, a mask that is not
    three-dimensional or a spacing that is not positive. Source: Nikolov et al. 2021 (surface Dice, robust
    Hausdorff), as computed by the surface-distance package.
    """
    _check(truth, predicted, spacing_mm)
    truth, predicted = crop_together(truth, predicted)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    truth_ml, predicted_ml = np.count_nonzero(truth) * voxel_ml, np.count_nonzero(predicted) * voxel_ml
    error_ml = predicted_ml - truth_ml
    return Agreement(
        truth_ml=truth_ml,
        predicted_ml=predicted_ml,
        volume_error_ml=error_ml,
        volume_error_percent=100 * error_ml / truth_ml if truth_ml else None,
        dsc=dice(truth, predicted),
        **_surface_metrics(truth, predicted, spacing_mm, threads),
    )


def measure_kidney(
    truth: Labels, predicted: Labels, spacing_mm: Spacing, *, threads: int = 1
) -> list[dict[str, Any]]:
    """One flat, JSON-ready record per structure: its name and the fields of `Agreement` and `TreeAgreement`.

    truth, predicted: label maps (z, y, x) of one kidney, same shape; spacing_mm: (z, y, x). A structure the
    truth does not have (a kidney without RCC): DSC, NSD and distances are None, so that they enter no mean,
    and what was predicted there is `false_positive_ml`. A structure that was missed has DSC 0. The fields of
    `TreeAgreement` are None for what is no tree.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"measure_kidney: label maps must share a shape, got {truth.shape} and {predicted.shape}"
        )
    how = (spacing_mm, threads)
    return [
        _record(structure, *crop_together(truth == structure.label, predicted == structure.label), *how)
        for structure in STRUCTURES
    ]


def _record(
    structure: Structure, truth: Mask, predicted: Mask, spacing_mm: Spacing, threads: int
) -> dict[str, Any]:
    if truth.any():
        agreement, false_positive_ml = measure(truth, predicted, spacing_mm, threads=threads), 0.0
    else:
        false_positive_ml = float(np.count_nonzero(predicted) * np.prod(spacing_mm)) / 1000
        agreement = Agreement(truth_ml=0.0, predicted_ml=false_positive_ml, volume_error_ml=false_positive_ml)
    is_tree = structure.label in TREES
    tree = measure_tree(truth, predicted, spacing_mm) if is_tree else TreeAgreement()
    return {
        "structure": structure.name,
        **asdict(agreement),
        **asdict(tree),
        "false_positive_ml": false_positive_ml,
    }


def _surface_metrics(
    truth: Mask, predicted: Mask, spacing_mm: Spacing, threads: int
) -> dict[str, float | None]:
    names = ["hd_mm", "hd95_mm", "assd_mm", "surface_rms_mm"]
    if not (truth.any() and predicted.any()):
        nsd = 0.0 if truth.any() or predicted.any() else None
        return {**dict.fromkeys(names), **dict.fromkeys(TOLERANCES_MM, nsd)}
    distances = kernels.surface_distances(truth, predicted, spacing_mm, SURFACE_DEFINITION, threads=threads)
    return {
        "hd_mm": distances.hausdorff_mm(),
        "hd95_mm": distances.hausdorff_mm(95),
        "assd_mm": distances.assd_mm(),
        "surface_rms_mm": distances.rms_mm(),
        **{name: distances.nsd(tolerance_mm) for name, tolerance_mm in TOLERANCES_MM.items()},
    }


def crop_together(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views of two arrays (z, y, x) of one shape, cut to the box that holds what is not zero in either."""
    boxes = [box for box in map(kernels.bounding_box, (a, b)) if box is not None]
    if not boxes:
        return a[:1, :1, :1], b[:1, :1, :1]
    lo, hi = np.min([box.lo for box in boxes], axis=0), np.max([box.hi for box in boxes], axis=0)
    window = tuple(slice(start, stop) for start, stop in zip(lo, hi, strict=True))
    return a[window], b[window]


def _check(truth: Mask, predicted: Mask, spacing_mm: Spacing) -> None:
    if truth.shape != predicted.shape or truth.ndim != 3:
        raise ValueError(
            f"measure: masks must share a shape (z, y, x), got {truth.shape} and {predicted.shape}"
        )
    if truth.dtype != np.bool_ or predicted.dtype != np.bool_:
        raise TypeError(f"measure: masks must be bool, got {truth.dtype} and {predicted.dtype}")
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise ValueError(f"measure: spacing_mm must be three positive numbers, got {tuple(spacing_mm)}")
