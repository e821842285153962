"""Which voxels belong to which kidney: a label map split by components and distance, never by guessing names.

What is done with anatomy that is not two separate kidneys: - one kidney: it is the only one, and everything
labelled is its own. - touching or horseshoe kidneys, one component with a lobe on each side: cut at the
thinnest sagittal plane between. - pieces of a kidney up to `PIECE_MM` from it are its own; farther ones (a
transplant in the pelvis beside native kidneys, a stray island) are left out and noted. A transplant alone is
the one kidney. - an artery, vein, ureter or RCC belongs to the kidney it touches, else to the nearest; one
that touches both is cut half way between the kidneys' centres.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Case, LabelledKidney, Side
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Labels, Spacing, Volume, canonical, require_same_grid

PIECE_MM = 20.0
SMALLEST_SHARE = 0.05  # of the larger kidney: a second kidney is at least this large
LARGEST_OVERLAP = 0.3  # of the narrower kidney's width: two kidneys lie beside each other
LOBES_APART_MM = 60.0
THINNEST_SHARE = 0.5  # of the smaller lobe's largest sagittal section
LOBE_SHARE = 0.15  # of the parenchyma
BODY_HU = -300
POINTS_AT_ONCE = 1 << 18


class KidneySplit(NamedTuple):
    """The kidneys of one canonical label map, ordered from the patient's right to the left.

    owner: uint8 (z, y, x), 0 for nobody's voxels, i + 1 for kidney i. boxes: tight, of all that each kidney
    owns. centre: (n, 3) voxel index (z, y, x) of its parenchyma and RCC. notes: one line for each thing left
    out or cut.
    """

    owner: Labels
    boxes: tuple[kernels.Box, ...]
    centre: np.ndarray
    notes: tuple[str, ...]


def split_kidneys(labels: Labels, spacing_mm: Spacing, threads: int = 1) -> KidneySplit:
    """At most two kidneys of a canonical label map (z, y, x) in the values of `structures`; none without
    parenchyma.
    """
    none = KidneySplit(np.zeros(labels.shape, np.uint8), (), np.zeros((0, 3)), ())
    box = kernels.bounding_box(labels > 0)
    if box is None:
        return none
    part = np.ascontiguousarray(labels[box.slices])
    spacing = np.asarray(spacing_mm)
    notes: list[str] = []
    tissue, mains = _mains(part, spacing, notes, threads)
    if not mains:
        return none
    owner = np.zeros(part.shape, np.uint8)
    for i, main in enumerate(mains, 1):
        owner[tissue == main] = i
    centres = np.array([_centre(owner == i) for i in range(1, len(mains) + 1)])
    if len(mains) == 1 and tissue.max() == 1:
        owner[part > 0] = 1
    else:
        _join(owner, tissue, part, spacing, centres, notes, threads)
    whole = none.owner
    whole[box.slices] = owner
    boxes = [kernels.bounding_box(whole == i) for i in range(1, len(mains) + 1)]
    return KidneySplit(whole, tuple(box for box in boxes if box), centres + box.lo, tuple(notes))


def kidneys_of(case: Case, threads: int = 1, split: KidneySplit | None = None) -> tuple[LabelledKidney, ...]:
    """The kidneys that a case's label map holds, right before left as in `split`: none, one or two.

    split: what `split_kidneys` made of the canonical labels, where that is known already.

    Two kidneys are told apart by their order across the patient, one by the middle of the body in its slices
    of the CT. Raises ValueError for a case without labels, or with labels on another grid than its CT.
    """
    if case.labels is None:
        raise ValueError(f"{case.name}: needs a label map, got none")
    require_same_grid(case.name, case.ct, case.labels)
    labels = canonical(case.labels)
    split = split or split_kidneys(labels.array, labels.spacing_mm, threads)
    sides: tuple[Side, ...] = ("right", "left")
    if len(split.boxes) == 1:
        sides = (side_of(canonical(case.ct), *split.boxes[0], float(split.centre[0, 2])),)
    kidneys = []
    for number, (side, box) in enumerate(zip(sides, split.boxes, strict=False), 1):
        own = np.where(split.owner[box.slices] == number, labels.array[box.slices], 0)
        kidneys.append(LabelledKidney.of(case.name, case.patient, side, box, own))
    return tuple(kidneys)


def side_of(
    ct: Volume, lo: Sequence[int] | np.ndarray, hi: Sequence[int] | np.ndarray, centre_x: float
) -> Side:
    """The side of a lone kidney of a canonical CT: that of its centre from the middle of the body in up to 9
    slices.
    """
    slices = np.unique(np.linspace(lo[0], hi[0] - 1, 9).astype(int))
    columns = (ct.array[slices] > BODY_HU).sum(axis=(0, 1))
    total = int(columns.sum())
    width = ct.array.shape[2]
    middle = float((columns * np.arange(width)).sum() / total) if total else (width - 1) / 2
    return "left" if centre_x > middle else "right"


def _mains(
    labels: Labels, spacing: np.ndarray, notes: list[str], threads: int
) -> tuple[np.ndarray, list[int]]:
    """Components of parenchyma with RCC, and the numbers of the one or two kidneys, right one first."""
    mask = labels >= PARENCHYMA
    tissue, n = kernels.label_components(mask, threads=threads, dtype=np.int32)
    stats = kernels.component_stats(mask, threads=threads)
    parenchyma = np.bincount(tissue[labels == PARENCHYMA], minlength=n + 1)[1:]
    if n == 0 or parenchyma.max() == 0:
        return tissue, []
    first = int(np.argmax(parenchyma))
    lo, hi = stats.lo[:, 2], stats.hi[:, 2]
    overlap = np.minimum(hi, hi[first]) - np.maximum(lo, lo[first])
    narrow = np.minimum(hi - lo, hi[first] - lo[first])
    beside = (parenchyma >= SMALLEST_SHARE * parenchyma[first]) & (overlap < LARGEST_OVERLAP * narrow)
    if beside.any():
        second = int(np.argmax(np.where(beside, parenchyma, 0)))
        pair = sorted((first, second), key=lambda i: stats.centroid[i, 2])
        return tissue, [i + 1 for i in pair]
    plane = _thinnest_plane(tissue == first + 1, labels == PARENCHYMA, spacing)
    if plane is None:
        return tissue, [first + 1]
    notes.append("touching or horseshoe kidneys: cut at the thinnest sagittal plane between the lobes")
    left = tissue[:, :, plane:]
    left[left == first + 1] = n + 1
    return tissue, [first + 1, n + 1]


def _thinnest_plane(kidney: np.ndarray, parenchyma: np.ndarray, spacing: np.ndarray) -> int | None:
    """The x index at which a component with a lobe on each side is cut; None when it is one kidney."""
    sections = kidney.sum(axis=(0, 1))
    own = (kidney & parenchyma).sum(axis=(0, 1))
    width = len(sections)
    if width * spacing[2] < LOBES_APART_MM:
        return None
    below, above = np.maximum.accumulate(sections), np.maximum.accumulate(sections[::-1])[::-1]
    thin = sections / np.maximum(np.minimum(below, above), 1)
    thin[sections == 0] = 1.0
    thinnest = np.flatnonzero(thin == thin.min())
    plane = int(thinnest[len(thinnest) // 2])
    lobes = int(np.argmax(sections[: plane + 1])), plane + int(np.argmax(sections[plane:]))
    share = own[:plane].sum() / max(own.sum(), 1)
    apart = (lobes[1] - lobes[0]) * spacing[2] >= LOBES_APART_MM
    return (
        plane if thin[plane] <= THINNEST_SHARE and apart and LOBE_SHARE <= share <= 1 - LOBE_SHARE else None
    )


def _join(
    owner: Labels,
    tissue: np.ndarray,
    labels: Labels,
    spacing: np.ndarray,
    centres: np.ndarray,
    notes: list[str],
    threads: int,
) -> None:
    """Give every piece of kidney and every vessel, ureter and RCC to a kidney, in place."""
    rest = np.where(owner == 0, labels, 0)
    pieces, n = kernels.label_components(rest, threads=threads, dtype=np.int32)
    if n == 0:
        return
    at = np.nonzero(pieces)
    number = pieces[at]
    kinds = np.zeros(n + 1, np.uint8)
    kinds[number] = rest[at]
    touched: np.ndarray = _touched(owner, at, number, n, len(centres))
    middle = centres[:, 2].mean()
    beyond = at[2] > middle
    given = np.where(touched[:, 0], 1, 2).astype(np.uint8)
    lone = ~touched.any(axis=1) & (kinds > 0)
    far = np.flatnonzero(lone[number])
    left_out = 0
    if len(far):
        gaps = _gaps(owner, [axis[far] for axis in at], number[far], spacing, len(centres), threads)
        pieces_far = np.flatnonzero(lone)
        given[pieces_far] = 1 + np.argmin(gaps[pieces_far], axis=1)
        strays = pieces_far[(kinds[pieces_far] == PARENCHYMA) & (gaps[pieces_far].min(axis=1) > PIECE_MM)]
        given[strays] = 0
        left_out = int(np.isin(number[far], strays).sum())
    new: np.ndarray = given[number]
    both = (touched.sum(axis=1) == 2)[number]
    new[both] = np.where(beyond[both], 2, 1)
    owner[at] = new
    if left_out:
        volume_ml = left_out * spacing.prod() / 1000
        notes.append(
            f"{volume_ml:.3g} ml of parenchyma lies more than {PIECE_MM:g} mm from a kidney: left out"
        )


def _gaps(
    owner: Labels, at: list[np.ndarray], number: np.ndarray, spacing: np.ndarray, kidneys: int, threads: int
) -> np.ndarray:
    """(pieces, kidneys): how far each piece lies from each kidney, in mm, by at most 2000 to 4000 of its
    voxels; infinite for pieces that are not asked for.
    """
    order = np.argsort(number, kind="stable")
    sizes = np.bincount(number)
    rank = np.arange(len(number)) - (np.cumsum(sizes) - sizes)[number[order]]
    asked = order[rank % np.maximum(1, sizes // 2000)[number[order]] == 0]
    gaps = np.full((len(sizes), kidneys), np.inf)
    for kidney in range(kidneys):
        tree = _tree(owner == kidney + 1, spacing)
        for start in range(0, len(asked), POINTS_AT_ONCE):
            which = asked[start : start + POINTS_AT_ONCE]
            points = np.column_stack([axis[which] for axis in at]) * spacing
            np.minimum.at(gaps[:, kidney], number[which], tree.query(points, workers=threads)[0])
    return gaps


def _touched(
    owner: Labels, at: tuple[np.ndarray, ...], number: np.ndarray, n: int, kidneys: int
) -> np.ndarray:
    """(n + 1, kidneys) bool: which piece has a voxel among the 26 neighbours of which kidney."""
    padded = np.pad(owner, 1).ravel()
    _, ny, nx = (size + 2 for size in owner.shape)
    centre = ((at[0] + 1) * ny + at[1] + 1) * nx + at[2] + 1
    touched = np.zeros((n + 1, kidneys), bool)
    for dz in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                seen = padded[centre + (dz * ny + dy) * nx + dx]
                some = seen > 0
                touched[number[some], seen[some] - 1] = True
    return touched


def _tree(mask: np.ndarray, spacing: np.ndarray) -> KDTree:
    inner = mask.copy()
    for axis in range(3):
        ahead, behind = np.roll(mask, 1, axis), np.roll(mask, -1, axis)
        inner &= ahead & behind
    return KDTree(np.argwhere(mask & ~inner) * spacing)


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)
