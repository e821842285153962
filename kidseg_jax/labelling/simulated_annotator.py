"""The simulated annotator: which errors of a prediction a person would see, and how long repainting takes."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.reach import within
from kidseg_jax.imaging.structures import N_CLASSES, NAMES, STRUCTURES
from kidseg_jax.imaging.volume import Labels, Mask, Spacing

_PLACE_MM = 15.0
_CORNERS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Correction:
    """Corrected labels of one kidney and what the work came to; the three dicts are per structure name."""

    labels: Labels
    seconds: dict[str, float]
    voxels_added: dict[str, int]
    voxels_removed: dict[str, int]
    simulated: bool = True


def correct(
    truth: Labels, predicted: Labels, spacing_mm: Spacing, config: AnnotatorConfig, rng: np.random.Generator
) -> Correction:
    """The prediction after a simulated person has corrected what they would see.

    truth, predicted: label maps (z, y, x) of a kidney, one shape, values 0..5. A wrong voxel lies deep when
    its centre is farther than tolerance_mm from an explanation by a small slip: from the structure it
    should have, as predicted, or from the structure it was given, in truth (background explains nothing).
    The tolerance is smaller or larger by the factor tolerance_spread in places of 15 mm, as care varies.
    Deep voxels that hang together (26-connected) and reach smallest_ml are seen; every wrong voxel within
    tolerance_mm of them is repainted with the truth. All other errors stay, so no voxel gets a label that
    neither truth nor prediction has there. A tolerance and a smallest volume of 0 give the truth.

    seconds has one entry for every structure in truth or prediction (see `labelling_seconds`), times a speed
    drawn from rng with a median of 1. What is drawn does not depend on the labels: for one seed, more error
    takes more time.
    Raises ValueError on a shape mismatch or values outside 0..5, TypeError when the labels are not integers.
    """
    truth, predicted = _checked("truth", truth), _checked("predicted", predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"correct: need labels of one shape, got {truth.shape} and {predicted.shape}")
    speed = np.exp(rng.normal(0.0, config.time_spread, len(STRUCTURES)))
    care = rng.integers(
        0, 3, [int(n * s / _PLACE_MM) + 1 for n, s in zip(truth.shape, spacing_mm, strict=True)]
    )
    fixed = _repainted(truth, predicted, spacing_mm, config, care)
    corrected = np.where(fixed, truth, predicted).astype(np.uint8)
    seconds, added, removed = {}, {}, {}
    for structure in STRUCTURES:
        before, after = predicted == structure.label, truth == structure.label
        if not (before.any() or after.any()):
            continue
        gained, lost = fixed & after, fixed & before
        time_s = labelling_seconds(after, gained | lost, spacing_mm, structure.label, config)
        seconds[structure.name] = time_s * float(speed[structure.label - 1])
        added[structure.name] = int(np.count_nonzero(gained))
        removed[structure.name] = int(np.count_nonzero(lost))
    return Correction(corrected, seconds, added, removed)


def manual_seconds(labels: Labels, spacing_mm: Spacing, config: AnnotatorConfig) -> dict[str, float]:
    """Simulated seconds to label each structure of a kidney from nothing, by the law of `labelling_seconds`.

    labels: (z, y, x), values 0..5. Structures that are not there have no entry. No random part.
    """
    labels = _checked("labels", labels)
    masks = {structure: labels == structure.label for structure in STRUCTURES}
    return {
        structure.name: labelling_seconds(mask, mask, spacing_mm, structure.label, config)
        for structure, mask in masks.items()
        if mask.any()
    }


def labelling_seconds(
    drawn: Mask, changed: Mask, spacing_mm: Spacing, label: int, config: AnnotatorConfig
) -> float:
    """Simulated seconds to change one structure: look over, open slices, draw outlines, fill or erase.

    drawn: the structure as it should be; changed: voxels it gains or loses; both bool (z, y, x). Slices lie
    along z and are counted as slices of slice_mm, whatever the spacing. The outline is the in-slice border of
    `drawn` (voxel edges, so up to 4/pi longer than a smooth line) where it touches a changed voxel.
    The form is ours; with the default constants a kidney from nothing costs about the minutes of Kim et al.
    2020, table 2.
    """
    sz, sy, sx = spacing_mm
    per_slice = sz / config.slice_mm
    slices = np.count_nonzero(changed.any(axis=(1, 2))) * per_slice
    outline_mm = (_edges(drawn, changed, 1) * sx + _edges(drawn, changed, 2) * sy) * per_slice
    volume_ml = np.count_nonzero(changed) * sz * sy * sx / 1000
    return float(
        config.look_over_s
        + config.seconds_per_slice * slices
        + config.seconds_per_outline_mm[label - 1] * outline_mm
        + config.seconds_per_ml * volume_ml
    )


def _repainted(
    truth: Labels, predicted: Labels, spacing_mm: Spacing, config: AnnotatorConfig, care: np.ndarray
) -> Mask:
    """Where the annotator replaces the prediction by the truth; care: 0 (sharp) to 2 (lax) for each place."""
    result = np.zeros(truth.shape, bool)
    wrong = truth != predicted
    if not wrong.any():
        return result
    tolerances = [config.tolerance_mm * config.tolerance_spread**power for power in (-1, 0, 1)]
    box = _box(wrong, tolerances[-1], spacing_mm)
    truth, predicted, wrong = truth[box], predicted[box], wrong[box]
    places = np.ix_(
        *(
            (np.arange(side.start, side.start + n) * s / _PLACE_MM).astype(int)
            for side, n, s in zip(box, wrong.shape, spacing_mm, strict=True)
        )
    )
    deep = np.zeros(wrong.shape, bool)
    for level, tolerance_mm in enumerate(tolerances):
        deep |= (care[places] == level) & _beyond(truth, predicted, wrong, tolerance_mm, spacing_mm)
    regions = np.zeros(wrong.shape, np.int32)
    n = int(ndimage.label(deep, _CORNERS, output=regions))  # pyright: ignore[reportArgumentType]
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    seen = np.bincount(regions.ravel(), minlength=n + 1) * voxel_ml >= config.smallest_ml * (1 - 1e-9)
    seen[0] = False
    result[box] = wrong & within(seen[regions], config.tolerance_mm, spacing_mm)
    return result


def _beyond(truth: Labels, predicted: Labels, wrong: Mask, tolerance_mm: float, spacing_mm: Spacing) -> Mask:
    """Wrong voxels that no slip of tolerance_mm explains."""
    result = np.zeros(wrong.shape, bool)
    for label in range(1, N_CLASSES):
        for should, has in ((truth == label, predicted == label), (predicted == label, truth == label)):
            slipped = wrong & should
            if slipped.any():
                result |= slipped & ~within(has, tolerance_mm, spacing_mm)
    return result


def _checked(name: str, labels: Labels) -> Labels:
    if labels.dtype.kind not in "ui":
        raise TypeError(f"correct: {name} must hold integers, got {labels.dtype}")
    if labels.ndim != 3 or labels.size == 0:
        raise ValueError(f"correct: {name} must be a label map (z, y, x), got shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= N_CLASSES:
        raise ValueError(
            f"correct: {name} must hold 0 for background or {dict(enumerate(NAMES, 1))}, "
            f"got values {labels.min()} to {labels.max()}"
        )
    return labels


def _box(mask: Mask, margin_mm: float, spacing_mm: Spacing) -> tuple[slice, ...]:
    """The slices of the tight box around a mask that is not empty, plus a margin."""
    sides = []
    for axis, spacing in enumerate(spacing_mm):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(margin_mm / spacing) + 1
        sides.append(slice(max(0, int(where[0]) - margin), int(where[-1]) + margin + 1))
    return tuple(sides)


def _edges(drawn: Mask, changed: Mask, axis: int) -> int:
    """Voxel faces across `axis` that border `drawn` and touch a changed voxel; the array's rim borders it."""
    line, touched = np.moveaxis(drawn, axis, 0), np.moveaxis(changed, axis, 0)
    inner = np.count_nonzero((line[1:] != line[:-1]) & (touched[1:] | touched[:-1]))
    return int(inner + sum(np.count_nonzero(line[end] & touched[end]) for end in (0, -1)))
