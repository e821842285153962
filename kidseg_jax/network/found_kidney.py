"""From a fine network's scores on its ROI to one kidney's labels on the CT's own voxels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Side
from kidseg_jax.imaging.postprocess import Rules, apply, split_sides
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Labels, Shape, Volume
from kidseg_jax.network.losses import NEVER
from kidseg_jax.network.roi import Roi, grown


@dataclass(frozen=True)
class FoundKidney:
    """One kidney of a prediction: its labels inside the box lo..hi of the canonical volume.

    incomplete: its parenchyma or RCC reaches a face of the CT, so part of it was not scanned, or still a face
    of its ROI after that has grown, so part of it was not looked at.
    uncertain: the network is less sure of it than of most (`candidates.SURE`); it may be none.
    """

    side: Side
    lo: Shape
    hi: Shape
    labels: Labels
    incomplete: bool
    uncertain: bool = False


def disjoint(kidneys: Sequence[FoundKidney]) -> tuple[FoundKidney, ...]:
    """The same kidneys, a voxel that several claim left to the first, as in a prediction's one label map."""
    apart: list[FoundKidney] = []
    for kidney in kidneys:
        labels = kidney.labels.copy()
        for other in apart:
            lo, hi = np.maximum(kidney.lo, other.lo), np.minimum(kidney.hi, other.hi)
            if (lo < hi).all():
                mine, theirs = (
                    tuple(slice(a, b) for a, b in zip(lo - k.lo, hi - k.lo, strict=True))
                    for k in (kidney, other)
                )
                labels[mine][other.labels[theirs] > 0] = 0
        apart.append(replace(kidney, labels=labels))
    return tuple(apart)


def after_rules(kidneys: Sequence[FoundKidney], ct: Volume, rules: Rules) -> list[FoundKidney]:
    """The kidneys found in a canonical CT after the rules that are on, each alone and between the two."""
    boxes = [tuple(slice(a, b) for a, b in zip(k.lo, k.hi, strict=True)) for k in kidneys]
    maps = [np.zeros(ct.array.shape, np.uint8) for _ in boxes]
    for whole, box, kidney in zip(maps, boxes, kidneys, strict=True):
        whole[box] = apply(kidney.labels, ct.spacing_mm, rules)
    if len(maps) == 2:
        maps = [*split_sides(maps[0], maps[1], ct.spacing_mm, rules)]
    return [replace(k, labels=whole[box]) for k, whole, box in zip(kidneys, maps, boxes, strict=True)]


def label_kidney(
    ct: Volume, side: Side, roi: Roi, scores: np.ndarray, threads: int, largest_only: bool = True
) -> FoundKidney:
    """One kidney's logits (z, y, x, c) on its ROI, as labels in the box of the CT that they fill."""
    shape: Any = ct.array.shape
    scores, winners = _winners(scores, largest_only)
    seen = kernels.bounding_box(winners)
    part, inside = roi, scores
    if seen is not None:  # beyond a voxel around it, only background is interpolated
        first, last = np.maximum(seen.lo, 1) - 1, np.minimum(np.add(seen.hi, 1), roi.shape)
        part = roi.part(tuple(first.tolist()), tuple(last.tolist()))
        inside = scores[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
    lo, hi = part.footprint(shape, ct.spacing_mm)
    labels = kernels.argmax_resample(
        inside, *part.target(lo, hi, ct.spacing_mm), channels_last=True, threads=threads
    )
    faces = [(0, 0, lo), (-1, 1, hi)]
    incomplete = any(
        bool((labels.take(edge, axis) >= PARENCHYMA).any())
        for edge, end, box in faces
        for axis in range(3)
        if labels.shape[axis] and box[axis] == (0, shape[axis])[end]
    )
    incomplete = incomplete or grown(roi, scores, shape, ct.spacing_mm) != roi
    return FoundKidney(side, lo, hi, labels, incomplete)


def _winners(scores: np.ndarray, largest_only: bool) -> tuple[np.ndarray, Labels]:
    """Scores in which, if asked for, only the largest kidney (parenchyma with its RCC) wins, and what wins.

    Other pieces become background: a tree that is next best there is as false as they are. Pieces of kidney
    that do not touch have a voxel between them, so none shares the cells of another.
    """
    winners = kernels.argmax_resample(scores, *map(np.arange, scores.shape[:3]), channels_last=True)
    kidney = winners >= PARENCHYMA
    others = kidney & ~kernels.keep_largest(kidney)
    if largest_only and others.any():
        scores = scores.copy()
        scores[others, 1:] = NEVER
        winners[others] = 0
    return scores, winners
