"""Pictures of one measured kidney: its labels and its territories on three slices, with the CT behind or
none.
"""

import numpy as np

from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, STRUCTURES
from kidseg_jax.imaging.volume import Volume, canonical
from kidseg_jax.report.pictures import WINDOW_HU
from kidseg_jax.surgery.case import MeasuredKidney

PIXELS = 340
OPACITY = 0.55
PAPER = 235
SINUS_RGB = (120, 120, 200)
PALETTE = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (188, 189, 34),
    (23, 190, 207),
    (174, 199, 232),
    (255, 187, 120),
)


def branch_rgb(place: int) -> tuple[int, int, int]:
    """Colour of the place-th end branch, from 0."""
    return PALETTE[place % len(PALETTE)]


def kidney_pictures(
    kidney: MeasuredKidney, at: tuple[int, int, int], ct: Volume | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Axial, coronal and sagittal slices through a voxel: with structures, and with territories.

    Each uint8 (rows, columns, 3), PIXELS along its longer side. Superior is up and, in the axial slice,
    anterior; the patient's left is on the right. at: voxel (z, y, x) of what is drawn. ct: the case's.
    """
    drawn = kidney.drawn
    structures = np.zeros((256, 3))
    for structure in STRUCTURES:
        structures[structure.label] = structure.rgb
    structures[6] = SINUS_RGB
    labels = np.where(drawn.sinus & (drawn.labels == 0), 6, drawn.labels)
    branches = np.zeros((256, 3))
    branches[1:255] = [branch_rgb(i) for i in range(254)]
    branches[255] = structures[ARTERY]
    nearest = np.where(
        drawn.labels == ARTERY, 255, np.where(drawn.labels == PARENCHYMA, drawn.territories, 0)
    )
    background = _behind(drawn.labels.shape, drawn.lo, ct)
    pictures = [
        [_slice(background, values, colours, at[axis], axis, kidney.spacing_mm) for axis in range(3)]
        for values, colours in ((labels, structures), (nearest, branches))
    ]
    return pictures[0], pictures[1]


def _behind(shape: tuple[int, ...], lo: tuple[int, int, int], ct: Volume | None) -> np.ndarray:
    """Grey of the CT in the box that is drawn, (z, y, x) from 0 to 255; paper where there is none."""
    grey = np.full(shape, float(PAPER), np.float32)
    if ct is None:
        return grey
    array = canonical(ct).array
    here = [max(0, start) for start in lo]
    end = [min(n, start + size) for n, start, size in zip(array.shape, lo, shape, strict=True)]
    there = tuple(slice(a - start, b - start) for a, b, start in zip(here, end, lo, strict=True))
    low, high = WINDOW_HU
    hu = array[tuple(slice(a, b) for a, b in zip(here, end, strict=True))].astype(np.float32)
    grey[:] = 0
    grey[there] = ((hu - low) / (high - low)).clip(0, 1) * 255
    return grey


def _slice(
    grey: np.ndarray,
    values: np.ndarray,
    colours: np.ndarray,
    index: int,
    axis: int,
    spacing_mm: tuple[float, float, float],
) -> np.ndarray:
    """One plane at square pixels, coloured where a value is not 0."""
    plane, painted = grey.take(index, axis), values.take(index, axis)
    if axis:
        plane, painted = plane[::-1], painted[::-1]
    sides = np.delete(np.asarray(spacing_mm), axis) * plane.shape
    counts = np.maximum(1, np.rint(PIXELS * sides / sides.max()).astype(int))
    rows, columns = (
        ((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(counts, plane.shape, strict=True)
    )
    shown, values_shown = plane[np.ix_(rows, columns)], painted[np.ix_(rows, columns)]
    weight = np.where(values_shown > 0, OPACITY, 0.0)[..., None]
    mixed = shown[..., None] * (1 - weight) + colours[values_shown] * weight
    return np.rint(mixed).astype(np.uint8)
