"""Arteries, veins and ureters: cut ones, ones apart from their kidney, arteries and veins swapped."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.audit.scene import Kidney
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, VEIN
from kidseg_jax.imaging.volume import Mask, Spacing

LEAST_PIECE_ML = 0.05
WAYPOINTS = 11
FAT_HU = -100.0
ORIGINS_MM = 15.0
TOUCH_MM = 4.0
LONGEST_GAP_MM = 15.0
SWAP_WEIGHTS = {"thickness": 5.0, "volume": 0.5, "depth_mm": 0.15, "hu": 0.01, "reach_mm": 0.12}
MOST_REACH_MM = 25.0


class Gap(NamedTuple):
    """Between two pieces of one tree: how far apart, how much lies beyond it, and the voxel in its middle.

    open_share: of the way between them how much has no label and HU of a vessel, 0 to 1. is_second: both
    pieces lead from the midline to the kidney, as a second artery does.
    """

    mm: float
    smaller_ml: float
    at: np.ndarray
    open_share: float
    is_second: bool


def gaps(kidney: Kidney, label: int) -> list[Gap]:
    """The gaps that join the pieces of a tree to one, shortest first; none for a tree in one piece."""
    tree = kidney.labels == label
    pieces, n = kernels.label_components(tree)
    if n < 2:
        return []
    sizes = np.bincount(pieces.ravel(), minlength=n + 1) * kidney.voxel_ml
    kept = [i for i in range(1, n + 1) if sizes[i] >= LEAST_PIECE_ML]
    spacing = np.asarray(kidney.spacing_mm)
    points = {i: np.argwhere(pieces == i) * spacing for i in kept}
    if not kept:
        return []
    first = max(kept, key=lambda i: float(sizes[i]))
    joined, rest = [first], [i for i in kept if i != first]
    found: list[Gap] = []
    tissue = kidney.labels >= PARENCHYMA
    whole = {i: bool(rest) and _is_whole(kidney, points[i], points.values(), tissue) for i in kept}
    while rest:
        near = KDTree(np.concatenate([points[i] for i in joined]))
        ends = [_nearest(near, points[i]) for i in rest]
        nearest = min(range(len(rest)), key=lambda k: ends[k][0])
        (mm, here, there), piece = ends[nearest], rest.pop(nearest)
        way = np.linspace(here, there, WAYPOINTS)[1:-1] / spacing
        second = whole[first] and whole[piece]
        open_share = _open_share(kidney, tree, way)
        found.append(Gap(mm, float(sizes[piece]), way.mean(axis=0), open_share, second))
        joined.append(piece)
    return sorted(found, key=lambda gap: gap.mm)


def _nearest(tree: KDTree, points: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """How far the nearest of points (n, 3) lies from those of a tree, in mm, and both ends of the way."""
    far, where = tree.query(points)
    far, where = np.asarray(far), np.asarray(where)
    k = int(far.argmin())
    return float(far[k]), points[k], np.asarray(tree.data)[int(where[k])]


def _is_whole(kidney: Kidney, piece: np.ndarray, pieces: Iterable[np.ndarray], tissue: Mask) -> bool:
    """Whether a piece (n, 3), in mm, begins as near the midline as any of its tree and ends at the kidney."""
    toward = -1.0 if kidney.side == "left" else 1.0
    medial = max(float((toward * one[:, 2]).max()) for one in pieces)
    if float((toward * piece[:, 2]).max()) < medial - ORIGINS_MM:
        return False
    spacing = np.asarray(kidney.spacing_mm)
    at = np.rint(piece / spacing).astype(int)
    near = np.zeros(tissue.shape, bool)
    near[tuple(at.T)] = True
    grown = ndimage.maximum_filter(
        near.view(np.uint8), size=[2 * max(1, round(TOUCH_MM / mm)) + 1 for mm in spacing]
    )
    return bool((grown.view(bool) & tissue).any())


def _open_share(kidney: Kidney, tree: Mask, way: np.ndarray) -> float:
    at = np.rint(way).astype(int)
    at = tuple(at[~tree[tuple(at.T)]].T)
    if not at[0].size:
        return 1.0
    usual = float(np.median(kidney.hu[tree]))
    like = (kidney.hu[at] - FAT_HU) / max(usual - FAT_HU, 30.0)
    return float(np.mean(np.where(kidney.labels[at] == 0, np.clip(like, 0, 1), 0)))


def cut_size(gap: Gap, spacing_mm: Spacing) -> float:
    """How much a gap looks like a cut: long beside the voxels, much of the tree beyond it, open between."""
    mm = min(max(gap.mm - max(spacing_mm), 0.0), LONGEST_GAP_MM)
    return mm * float(np.sqrt(gap.smaller_ml)) * (0.5 + 0.5 * gap.open_share) * (0.15 if gap.is_second else 1)


def apart_mm(kidney: Kidney, label: int) -> tuple[float, np.ndarray] | None:
    """How far the nearest voxel of a tree is from its kidney, in mm, and which it is; None without either."""
    tree, tissue = kidney.labels == label, kidney.labels >= PARENCHYMA
    if not tree.any() or not tissue.any():
        return None
    spacing = np.asarray(kidney.spacing_mm)
    at = np.argwhere(tree)
    far, _ = KDTree(np.argwhere(tissue) * spacing).query(at * spacing)
    k = int(np.argmin(far))
    return float(far[k]), at[k]


def swap_signs(kidney: Kidney) -> dict[str, float] | None:
    """What tells a renal artery from a vein; each turns its sign where the two are swapped, above 0 is usual.

    thickness, volume: logarithm of the vein's over the artery's. depth_mm: how far the artery lies behind the
    vein. hu: how much denser it is. reach_mm: on the right how far the artery goes beyond the vein (to the
    aorta), on the left the vein beyond the artery (to the cava). None without one of them.
    """
    artery, vein = kidney.labels == ARTERY, kidney.labels == VEIN
    if min(np.count_nonzero(artery), np.count_nonzero(vein)) < 8:
        return None
    a, v = np.argwhere(artery), np.argwhere(vein)
    _, dy, dx = kidney.spacing_mm
    if kidney.side == "right":
        reach = float(np.percentile(a[:, 2], 98) - np.percentile(v[:, 2], 98))
    else:
        reach = float(np.percentile(a[:, 2], 2) - np.percentile(v[:, 2], 2))
    return {
        "thickness": float(
            np.log(_thickness_mm(vein, kidney.spacing_mm) / _thickness_mm(artery, kidney.spacing_mm))
        ),
        "volume": float(np.log(len(v) / len(a))),
        "depth_mm": float(a[:, 1].mean() - v[:, 1].mean()) * dy,
        "hu": float(np.median(kidney.hu[artery]) - np.median(kidney.hu[vein])),
        "reach_mm": float(np.clip(reach * dx, -MOST_REACH_MM, MOST_REACH_MM)),
    }


def _thickness_mm(mask: Mask, spacing_mm: Spacing) -> float:
    """The radius of a tree where it is thick, in mm: the 95th percentile of its voxels' depth."""
    box = kernels.bounding_box(mask)
    assert box is not None
    inner = np.pad(mask[box.slices], 1)
    depth = np.asarray(ndimage.distance_transform_edt(inner, sampling=spacing_mm))
    return float(np.percentile(depth[inner], 95))
