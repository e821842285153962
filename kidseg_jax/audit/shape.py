"""Shapes that no anatomy has: islands, holes, slices that were left out."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.audit.scene import Scene
from kidseg_jax.imaging.structures import PARENCHYMA, RCC
from kidseg_jax.imaging.volume import Mask, Shape

LEAST_ISLAND_ML = 0.05
LEAST_PART = 0.05  # of a kidney's largest piece: smaller ones are islands


class Piece(NamedTuple):
    """A piece of a label that should not stand alone: its volume in ml, and the voxel of its middle.

    apart_mm: from the largest piece of all that is labelled. odd_hu: how far its HU lie from the structure's
    elsewhere.
    """

    label: int
    ml: float
    apart_mm: float
    odd_hu: float
    at: Shape


def islands(scene: Scene) -> list[Piece]:
    """Pieces that nothing labelled connects with a kidney, the largest first; all labels count together.

    A kidney is a piece with parenchyma or RCC that is one of the kidneys of the case.
    """
    if scene.box is None:
        return []
    labels = np.ascontiguousarray(scene.labels[scene.box.slices])
    pieces, n = kernels.label_components(labels > 0)
    if n < 2:
        return []
    hu, spacing = scene.hu[scene.box.slices], np.asarray(scene.spacing_mm)
    homes = _homes(scene, pieces)
    if not homes:
        return []
    sizes = np.bincount(pieces.ravel(), minlength=n + 1) * scene.voxel_ml
    home = np.isin(pieces, list(homes))
    tree = KDTree(np.argwhere(home)[::7] * spacing)
    found = []
    for piece in range(1, n + 1):
        if piece in homes or sizes[piece] < LEAST_ISLAND_ML:
            continue
        own = pieces == piece
        at = np.argwhere(own)
        label = int(np.bincount(labels[own]).argmax())
        rest = home & (labels == label)
        odd = abs(float(np.median(hu[own])) - float(np.median(hu[rest]))) if rest.any() else 0.0
        apart = float(tree.query(at[:: max(1, len(at) // 2000)] * spacing)[0].min())
        z, y, x = (np.asarray(scene.box.lo) + np.rint(at.mean(axis=0)).astype(int)).tolist()
        found.append(Piece(label, float(sizes[piece]), apart, odd, (z, y, x)))
    return sorted(found, key=lambda piece: -piece.ml)


def holes(scene: Scene) -> tuple[float, Shape]:
    """Ml of background that labels enclose, of the largest such hole, and the voxel of its middle."""
    if scene.box is None:
        return 0.0, (0, 0, 0)
    labels = np.ascontiguousarray(scene.labels[scene.box.slices])
    filled = kernels.fill_holes(labels > 0)
    stats = kernels.component_stats(filled & (labels == 0), 6)
    if not len(stats.voxels):
        return 0.0, (0, 0, 0)
    k = int(stats.voxels.argmax())
    z, y, x = (np.asarray(scene.box.lo) + np.rint(stats.centroid[k]).astype(int)).tolist()
    return float(stats.voxels[k]) * scene.voxel_ml, (z, y, x)


def skipped_slices(scene: Scene) -> tuple[int, Shape]:
    """How many slices between the first and the last of a kidney hold none of it, and where the first is."""
    worst, place = 0, (0, 0, 0)
    for kidney in scene.kidneys:
        drawn = (kidney.labels == PARENCHYMA) | (kidney.labels == RCC)
        pieces, n = kernels.label_components(drawn)
        largest = np.bincount(pieces.ravel(), minlength=n + 1)
        largest[0] = 0
        kept: Mask = np.take(largest >= LEAST_PART * max(1, largest.max()), pieces)
        has = np.asarray(kept.any(axis=(1, 2)))
        at = np.flatnonzero(has)
        if not len(at):
            continue
        empty = np.flatnonzero(~has[at[0] : at[-1]]) + at[0]
        if len(empty) > worst:
            y, x = np.argwhere(kept[empty[0] - 1]).mean(axis=0)
            worst, place = len(empty), kidney.place(np.array([empty[0], y, x]))
    return worst, place


def _homes(scene: Scene, pieces: np.ndarray) -> set[int]:
    """The pieces that hold most of each kidney's parenchyma."""
    assert scene.box is not None
    homes: set[int] = set()
    for kidney in scene.kidneys:
        lo = np.subtract(kidney.lo, scene.box.lo)
        at = np.argwhere(kidney.labels == PARENCHYMA) + lo
        if len(at):
            counts = np.bincount(pieces[tuple(at.T)])
            counts[0] = 0
            homes.add(int(counts.argmax()))
    return homes
