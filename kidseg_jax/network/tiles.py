"""A network over more than its patch: overlapping tiles of one shape, ROIs that grow to hold their kidney."""

from collections.abc import Callable, Iterator

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Mask, Shape, Spacing
from kidseg_jax.network.roi import Roi

MOST_GROWTHS = 2
Logits = Callable[[np.ndarray], np.ndarray]


def slide(logits: Logits, ct: np.ndarray, patch: Shape) -> np.ndarray:
    """Mean logits (z, y, x, c) of overlapping patches of one shape over a CT at least one patch large.

    logits: from HU (1, *patch) to float32 (1, *patch, c).
    """
    total, count = np.zeros(0, np.float32), np.zeros((*ct.shape, 1), np.float32)
    starts = [_starts(n, p) for n, p in zip(ct.shape, patch, strict=True)]
    for corner in ((z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]):
        at = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        scores = np.asarray(logits(ct[at][None]))[0]
        if not total.size:
            total = np.zeros((*ct.shape, scores.shape[-1]), np.float32)
        total[at] += scores
        count[at] += 1
    return total / count


def _starts(n: int, patch: int) -> list[int]:
    """First voxels of patches that cover n voxels and overlap by a quarter or more."""
    count = 1 if n <= patch else 1 + int(np.ceil((n - patch) / (0.75 * patch)))
    return [round(i * (n - patch) / max(1, count - 1)) for i in range(count)]


def grown(roi: Roi, scores: np.ndarray, ct_shape: Shape, spacing_mm: Spacing) -> Roi:
    """The ROI and half of it behind each face that its kidney touches, if the CT goes on there; else itself.

    scores: logits (z, y, x, c) of the ROI. The kidney is the largest piece of parenchyma with its RCC.
    """
    if not any(_kidney(scores.take(end, axis)).any() for axis, end in _faces()):
        return roi
    kidney = kernels.keep_largest(_kidney(scores))
    ends = roi.footprint(ct_shape, spacing_mm)
    shape, centre = list(roi.shape), list(roi.centre_mm)
    for axis, end in _faces():
        is_high = (end == -1) != (roi.mirrored and axis == 2)
        if kidney.take(end, axis).any() and ends[is_high][axis] != (0, ct_shape[axis])[is_high]:
            more = roi.shape[axis] // 2
            shape[axis] += more
            centre[axis] += (more if is_high else -more) / 2 * roi.spacing_mm
    return Roi(tuple(shape), roi.spacing_mm, tuple(centre), roi.mirrored)  # pyright: ignore[reportArgumentType]


def _faces() -> Iterator[tuple[int, int]]:
    return ((axis, end) for axis in range(3) for end in (0, -1))


def _kidney(scores: np.ndarray) -> Mask:
    return scores.argmax(-1) >= PARENCHYMA
