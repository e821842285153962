"""All numbers of one kidney, from its labels alone, and what its pictures show."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.imaging.measure import volumes_ml
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA
from kidseg_jax.imaging.volume import Labels, Mask, Spacing
from kidseg_jax.surgery.arteries import Branch, branches_of, entries, nearest_ends
from kidseg_jax.surgery.measures import MARGIN_MM, Answer, BranchMeasures, KidneyMeasures, undetermined
from kidseg_jax.surgery.scores import NOT_DETERMINABLE
from kidseg_jax.surgery.tumours import measure_tumours
from kidseg_jax.surgery.view import PAD, KidneyView


@dataclass(frozen=True)
class Drawn:
    """What pictures of one kidney show, on its own grid, with PAD voxels around its box.

    territories: uint8 (z, y, x), place in `territory_names` from 1 on for parenchyma; 0 elsewhere.
    """

    labels: Labels
    lo: tuple[int, int, int]
    sinus: Mask
    territories: Labels
    territory_numbers: tuple[int, ...]
    tumour_centres: tuple[tuple[int, int, int], ...]


def measure_kidney(
    labels: Labels,
    spacing_mm: Spacing,
    *,
    case: str = "",
    side: str = NOT_DETERMINABLE,
    cut_by: Sequence[str] = (),
    structures: Collection[str] = NAMES,
    margin_mm: float = MARGIN_MM,
    box: kernels.Box | None = None,
    notes: Sequence[str] = (),
) -> tuple[KidneyMeasures, Drawn]:
    """The numbers of one kidney, and what its pictures show.

    labels: uint8 (z, y, x) in the values of `structures`, x running left, y posterior, z superior, of this
    kidney alone; spacing_mm: (z, y, x). cut_by: faces of the array's image that cut the kidney off, named as
    `touched_faces` does. structures: those that the labels tell from background; another is not determinable,
    not absent. box: where the labels lie in a larger image, for the pictures. Raises ValueError for a margin
    that is negative or no number, and for labels that hold no parenchyma and no RCC.
    """
    if not (np.isfinite(margin_mm) and margin_mm >= 0):
        raise ValueError(f"measure: margin must be a number of mm from 0, got {margin_mm}")
    if not (labels >= PARENCHYMA).any():
        raise ValueError("measure: need a kidney with parenchyma or RCC, got none")
    padded = np.pad(labels, PAD)
    view = KidneyView(padded, np.asarray(spacing_mm, float), frozenset(structures), tuple(cut_by), margin_mm)
    found = measure_tumours(view)
    measured, drawn_from, said = _arteries(view)
    known = view.structures
    volumes: dict[str, Answer] = {
        name: round(ml, 4) if name in known else f"{NOT_DETERMINABLE}: not labelled"
        for name, ml in volumes_ml(labels, spacing_mm).items()
    }
    kidney = KidneyMeasures(
        case=case,
        side=side,
        cut_by=tuple(cut_by),
        volumes_ml=volumes,
        length_mm=_length(view),
        sinus_ml=undetermined("no sinus seen") if view.sinus is None else round(view.ml(view.sinus.mask), 4),
        arteries=_trunks(view, measured),
        arteries_entering=_entering(view),
        tumours=tuple(tumour for tumour, _ in found),
        branches=measured,
        notes=(*notes, *view.notes, *said),
    )
    lo = tuple(int(v) - PAD for v in (box.lo if box else (0, 0, 0)))
    territories, numbers = drawn_from
    sinus = np.zeros(padded.shape, bool) if view.sinus is None else view.sinus.mask
    centres = tuple(centre for _, centre in found)
    return kidney, Drawn(padded, lo, sinus, territories, numbers, centres)  # pyright: ignore[reportArgumentType]


def _length(view: KidneyView) -> Answer:
    """Extent of parenchyma and tumours along the kidney's long axis, from voxel centre to voxel centre."""
    if {"inferior", "superior"} & set(view.cut_by):
        return undetermined("the kidney is cut off by the image")
    if view.frame is None:
        return undetermined("too little of the capsule is seen")
    return round(float(np.ptp(view.along(view.labels >= PARENCHYMA))), 1)


def _trunks(view: KidneyView, branches: tuple[BranchMeasures, ...]) -> int | str:
    if "artery" not in view.structures or not branches:
        return undetermined("no artery is labelled")
    return sum(branch.parent is None for branch in branches)


def _entering(view: KidneyView) -> int | str:
    artery = view.labels == ARTERY
    if "artery" not in view.structures or not artery.any():
        return undetermined("no artery is labelled")
    if view.capsule is None:
        return undetermined("too little of the capsule is seen")
    return entries(artery, view.capsule.beyond_mm < 0)


def _arteries(
    view: KidneyView,
) -> tuple[tuple[BranchMeasures, ...], tuple[Labels, tuple[int, ...]], list[str]]:
    """The branches with what lies nearest to them, and each voxel's nearest end for the pictures."""
    territories = np.zeros(view.labels.shape, np.uint8)
    artery = view.labels == ARTERY
    if "artery" not in view.structures or not artery.any() or not view.parenchyma.any():
        return (), (territories, ()), []
    voxels = np.argwhere(view.parenchyma)
    centre = voxels.mean(axis=0) * view.spacing
    branches: tuple[Branch, ...] = branches_of(artery, centre, view.spacing_mm)
    if not any(branch.ends for branch in branches):
        return (), (territories, ()), ["the artery's label is too small to tell branches"]
    nearest, ends = nearest_ends(voxels * view.spacing, branches)
    territories[tuple(voxels.T)] = np.minimum(nearest + 1, 255)
    counts = np.zeros(len(branches))
    counts[list(ends)] = np.bincount(nearest, minlength=len(ends))
    for i in reversed(range(len(branches))):
        parent = branches[i].parent
        if parent is not None:
            counts[parent] += counts[i]
    voxel_ml = float(view.spacing.prod()) / 1000
    measured = tuple(
        BranchMeasures(
            number=i + 1,
            parent=None if branch.parent is None else branch.parent + 1,
            length_mm=round(branch.length_mm, 2),
            radius_mm=round(branch.radius_mm, 2),
            ends=branch.ends,
            nearest_percent=round(100 * float(counts[i]) / len(voxels), 2),
            nearest_ml=round(float(counts[i]) * voxel_ml, 4),
        )
        for i, branch in enumerate(branches)
    )
    return measured, (territories, tuple(i + 1 for i in ends)), []
