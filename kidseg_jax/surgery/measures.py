"""All numbers of one kidney, from its labels alone: volumes, tumours, distances, scores, arteries,
territories.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.imaging.measure import volumes_ml
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Labels, Mask, Spacing
from kidseg_jax.surgery.arteries import Branch, branches_of, entries, nearest_ends
from kidseg_jax.surgery.capsule import Capsule, Frame, Sinus, find_sinus, fit_capsule, frame_of
from kidseg_jax.surgery.contact import contact_area_mm2, kept_ml
from kidseg_jax.surgery.scores import NOT_DETERMINABLE, Anatomy, Score, padua, renal
from kidseg_jax.surgery.surface import extents_mm, gap_mm, surface_between, touches

MARGIN_MM = 5.0
PAD = 4  # free voxels around a kidney
SMALLEST_TUMOUR_ML = 0.03
TIP_MM3 = 2.0  # of a tumour: what must lie outside the capsule for it to protrude so far
TREES = {"artery": ARTERY, "vein": VEIN, "ureter": URETER}
Answer = float | str
"""A number, or why there is none: a text that begins with NOT_DETERMINABLE."""


@dataclass(frozen=True)
class TumourMeasures:
    """One tumour: volume, diameters, distances in mm from surface to surface, 0 where two touch.

    exophytic_percent: share of its volume outside the capsule as it would run without it; protrudes_mm: how
    far it reaches out. contact_mm2: area on which it meets parenchyma. kept_ml, kept_percent: parenchyma
    that lies more than margin_mm from it.
    """

    number: int
    volume_ml: float
    longest_mm: Answer
    orthogonal_mm: Answer
    third_mm: Answer
    exophytic_percent: Answer
    protrudes_mm: Answer
    to_artery_mm: Answer
    to_vein_mm: Answer
    to_ureter_mm: Answer
    to_sinus_mm: Answer
    contact_mm2: Answer
    margin_mm: float
    kept_ml: Answer
    kept_percent: Answer
    centre_mm: tuple[float, float, float]
    renal: Score
    padua: Score


@dataclass(frozen=True)
class BranchMeasures:
    """A branch of an artery. parent: the number of the branch that it leaves, None for a trunk.

    nearest_percent: share of the parenchyma that lies nearest to its ends, its own or those of what leaves
    it.
    """

    number: int
    parent: int | None
    length_mm: float
    radius_mm: float
    ends: bool
    nearest_percent: float
    nearest_ml: float


@dataclass(frozen=True)
class KidneyMeasures:
    """All numbers of one kidney. cut_by: faces of the image that cut it off: its volumes are lower bounds.

    arteries: pieces of the artery's label, each with a trunk; arteries_entering: how often they pass the
    capsule, more than once for one that divides before it.
    """

    case: str
    side: str
    cut_by: tuple[str, ...]
    volumes_ml: dict[str, Answer]
    length_mm: Answer
    sinus_ml: Answer
    arteries: int | str
    arteries_entering: int | str
    tumours: tuple[TumourMeasures, ...]
    branches: tuple[BranchMeasures, ...]
    notes: tuple[str, ...]


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
    view = _View(padded, np.asarray(spacing_mm, float), frozenset(structures), tuple(cut_by), margin_mm)
    found = _tumours(view)
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
        sinus_ml=_no("no sinus seen") if view.sinus is None else round(view.ml(view.sinus.mask), 4),
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


class _View:
    """One kidney's labels with free voxels around, and what is found in them once."""

    def __init__(
        self,
        labels: Labels,
        spacing: np.ndarray,
        structures: frozenset[str],
        cut_by: tuple[str, ...],
        margin_mm: float,
    ) -> None:
        self.labels, self.spacing, self.structures = labels, spacing, structures
        self.cut_by, self.margin_mm = cut_by, margin_mm
        self.spacing_mm: Spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        self.parenchyma: Mask = labels == PARENCHYMA
        self.notes: list[str] = []
        self.capsule: Capsule | None = fit_capsule(labels, self.spacing_mm, _cut_voxels(labels, cut_by))
        self.sinus: Sinus | None = None
        self.frame: Frame | None = None
        if self.capsule is None:
            self.notes.append("too little of the capsule is seen to tell how it would run without the tumour")
        else:
            self.sinus = find_sinus(labels, self.capsule, self.spacing_mm)
            self.frame = frame_of(self.capsule, self.sinus, self.spacing_mm)
        self.trees = tree_surfaces(labels, self.spacing_mm)
        self.sinus_surface = (
            None if self.sinus is None else surface_between(self.sinus.mask, self.spacing_mm, "solid")
        )

    def ml(self, mask: Mask) -> float:
        """Volume of a mask."""
        return float(np.count_nonzero(mask) * self.spacing.prod()) / 1000

    def along(self, mask: Mask) -> np.ndarray:
        """Where voxels of a mask lie along the kidney's long axis from its centre, in mm."""
        assert self.frame is not None
        return (np.argwhere(mask) * self.spacing - self.frame.centre_mm) @ self.frame.along


def tree_surfaces(labels: Labels, spacing_mm: Spacing) -> dict[str, np.ndarray]:
    """Points (n, 3) in mm on the surface of each tree by name.

    Of what is left of one that another crosses, too: the surface of all trees together belongs to the
    nearest.
    """
    own = {name: surface_between(labels == value, spacing_mm, "tree") for name, value in TREES.items()}
    crossed = (labels > 0) & (labels < PARENCHYMA)
    if sum(len(points) > 0 for points in own.values()) < 2:
        return own
    voxels = np.argwhere(crossed)
    outer = surface_between(crossed, spacing_mm, "tree")
    nearest = KDTree(voxels * np.asarray(spacing_mm)).query(outer)[1]
    values = labels[tuple(voxels.T)][nearest]
    return {name: np.concatenate([own[name], outer[values == value]]) for name, value in TREES.items()}


def _tumours(view: _View) -> list[tuple[TumourMeasures, tuple[int, int, int]]]:
    """Every tumour, largest first, and its middle voxel."""
    if "rcc" not in view.structures:
        view.notes.append("RCC is not labelled: whether there is a tumour is not determinable")
        return []
    pieces, n = kernels.label_components(view.labels == RCC, dtype=np.int32)
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)[1:] * float(view.spacing.prod()) / 1000
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] >= SMALLEST_TUMOUR_ML]
    if crumbs := n - len(order):
        view.notes.append(f"{crumbs} pieces of RCC of less than {SMALLEST_TUMOUR_ML} ml: left out")
    found = []
    for number, piece in enumerate(order, 1):
        mask = pieces == piece + 1
        middle = np.argwhere(mask).mean(axis=0)
        at = (int(middle[0] + 0.5), int(middle[1] + 0.5), int(middle[2] + 0.5))
        found.append((_tumour(view, mask, number, middle), at))
    return found


def _tumour(view: _View, mask: Mask, number: int, middle: np.ndarray) -> TumourMeasures:
    """The numbers of one tumour."""
    box = kernels.bounding_box(mask)
    assert box is not None
    cut = bool((mask & _cut_voxels(view.labels, view.cut_by, value=RCC)).any())
    surface = surface_between(mask, view.spacing_mm, "solid")
    sizes = None if cut else extents_mm(surface)
    outside, protrudes = _outside(view, mask)
    tree_gaps = {name: _tree_gap(view, mask, surface, name) for name in TREES}
    sinus_gap = (
        None
        if view.sinus is None
        else _touching_gap(mask, view.sinus.mask, surface, view.sinus_surface, view.spacing)
    )
    anatomy = _anatomy(view, mask, surface, sizes, outside, protrudes, sinus_gap, cut)
    around = tuple(slice(max(0, a - PAD), b + PAD) for a, b in zip(box.lo, box.hi, strict=True))
    kept = kept_ml(view.parenchyma, surface, view.margin_mm, view.spacing_mm)
    whole = view.ml(view.parenchyma)
    too_small = _no("cut off by the image" if cut else "too small for a diameter")
    partly = _no("cut off by the image")
    return TumourMeasures(
        number=number,
        volume_ml=round(view.ml(mask), 4),
        longest_mm=too_small if sizes is None else round(sizes[0], 2),
        orthogonal_mm=too_small if sizes is None else round(sizes[1], 2),
        third_mm=too_small if sizes is None else round(sizes[2], 2),
        exophytic_percent=_said(outside, anatomy.missing.get("exophytic"), 100),
        protrudes_mm=_said(protrudes, anatomy.missing.get("exophytic")),
        to_artery_mm=_said(*tree_gaps["artery"]),
        to_vein_mm=_said(*tree_gaps["vein"]),
        to_ureter_mm=_said(*tree_gaps["ureter"]),
        to_sinus_mm=_said(sinus_gap, anatomy.missing.get("to_sinus_mm")),
        contact_mm2=partly
        if cut
        else round(contact_area_mm2(mask[around], view.parenchyma[around], view.spacing_mm), 2),
        margin_mm=view.margin_mm,
        kept_ml=_no("the kidney is cut off by the image") if view.cut_by else round(kept, 4),
        kept_percent=_no("the kidney is cut off by the image")
        if view.cut_by
        else _said(kept / whole if whole else None, "no parenchyma", 100),
        centre_mm=tuple(round(float(v), 2) for v in (middle - PAD) * view.spacing),  # pyright: ignore
        renal=renal(anatomy),
        padua=padua(anatomy),
    )


def _anatomy(
    view: _View,
    mask: Mask,
    surface: np.ndarray,
    sizes: tuple[float, float, float] | None,
    outside: float | None,
    protrudes: float | None,
    sinus_gap: float | None,
    cut: bool,
) -> Anatomy:
    """What the scores look at."""
    missing: dict[str, str] = {}
    no_capsule = "too little of the capsule is seen" if view.capsule is None else ""
    if sizes is None:
        missing["longest_mm"] = "the tumour is cut off by the image" if cut else "too small for a diameter"
    if cut:
        outside = protrudes = None
    if outside is None:
        missing["exophytic"] = no_capsule or "the tumour is cut off by the image"
    no_sinus = no_capsule or "no sinus is seen between the labels"
    if sinus_gap is None:
        missing |= {"to_sinus_mm": no_sinus, "touches_sinus": no_sinus}
    collecting_mm, collecting = _collecting(view, mask, surface, missing)
    front, hilar = _sides(view, mask, cut, missing, no_sinus)
    polar = _beyond(view, mask, view.sinus.mouth if view.sinus else None)
    ends = _beyond(view, mask, view.sinus.mask if view.sinus else None)
    lengthwise = {"inferior", "superior"} & set(view.cut_by)
    if polar is None or ends is None or lengthwise or cut:
        polar = ends = None
        why = "the kidney is cut off by the image" if lengthwise or cut else no_sinus
        missing |= {"polar_above": why, "sinus_above": why}
    return Anatomy(
        longest_mm=None if sizes is None else sizes[0],
        exophytic=outside,
        endophytic=None if protrudes is None else protrudes <= _tolerance(view),
        to_sinus_mm=sinus_gap,
        to_collecting_mm=collecting_mm,
        touches_sinus=None if sinus_gap is None or view.sinus is None else touches(mask, view.sinus.mask),
        touches_collecting=collecting,
        touches_hilar_vessel=_hilar_vessel(view, mask, missing),
        front_share=front,
        hilar_share=hilar,
        polar_above=polar and polar[0],
        polar_below=polar and polar[1],
        polar_crossed=polar and polar[2],
        crosses_middle=None if polar is None else _crosses(view.along(mask), 0.0, _tolerance(view)),
        sinus_above=ends and ends[0],
        sinus_below=ends and ends[1],
        missing=missing,
    )


def _outside(view: _View, mask: Mask) -> tuple[float | None, float | None]:
    """Share of a tumour outside the capsule, and how far it reaches out in mm."""
    if view.capsule is None:
        return None, None
    beyond = np.sort(view.capsule.beyond_mm[mask])
    tip = min(len(beyond), math.ceil(TIP_MM3 / float(view.spacing.prod())))
    return float((beyond > 0).mean()), max(0.0, float(beyond[-tip]))


def _collecting(
    view: _View, mask: Mask, surface: np.ndarray, missing: dict[str, str]
) -> tuple[float | None, bool | None]:
    """Distance to the collecting system in mm, and whether it is touched; None where it is not labelled."""
    ureter = view.labels == URETER
    if view.sinus is None or not (ureter & view.sinus.mask).any():
        missing["touches_collecting"] = "the ureter's label does not reach into the sinus"
        return None, None
    gap = _touching_gap(mask, ureter, surface, view.trees["ureter"], view.spacing)
    return gap, touches(mask, ureter)


def _sides(
    view: _View, mask: Mask, cut: bool, missing: dict[str, str], no_sinus: str
) -> tuple[float | None, float | None]:
    """Shares of a tumour before the kidney's frontal plane, and on the hilum's side of its long axis."""
    frame = view.frame
    if frame is None or frame.hilum is None or frame.front is None or cut:
        why = "the tumour is cut off by the image" if cut else f"the hilum is not seen: {no_sinus}"
        missing |= {"front_share": why, "hilar_share": why}
        return None, None
    offset = np.argwhere(mask) * view.spacing - frame.centre_mm
    return float((offset @ frame.front > 0).mean()), float((offset @ frame.hilum > 0).mean())


def _beyond(view: _View, mask: Mask, between: Mask | None) -> tuple[float, float, bool] | None:
    """Shares of a tumour above and below the ends of a mask along the kidney, and whether it crosses one."""
    if view.frame is None or between is None or np.count_nonzero(between) < 10:
        return None
    lower, upper = np.percentile(view.along(between), (0.5, 99.5))
    at = view.along(mask)
    crossed = any(_crosses(at, float(line), _tolerance(view)) for line in (lower, upper))
    return float((at > upper).mean()), float((at < lower).mean()), crossed


def _crosses(at: np.ndarray, line: float, tolerance: float) -> bool:
    """Whether a tumour reaches both sides of a plane by more than the labels' grain."""
    return bool(at.min() < line - tolerance and at.max() > line + tolerance)


def _tolerance(view: _View) -> float:
    """What a label map cannot tell from nothing, in mm: half a voxel's longest side, at least 0.75."""
    return max(0.75, 0.5 * float(view.spacing.max()))


def _hilar_vessel(view: _View, mask: Mask, missing: dict[str, str]) -> bool | None:
    """Whether a tumour touches artery or vein outside the capsule."""
    if view.capsule is None or not {"artery", "vein"} <= view.structures:
        missing["touches_hilar_vessel"] = "artery and vein are not both labelled, or no capsule is seen"
        return None
    vessels = (view.labels == ARTERY) | (view.labels == VEIN)
    if not vessels.any():
        missing["touches_hilar_vessel"] = "neither artery nor vein is labelled"
        return None
    return touches(mask, vessels & (view.capsule.beyond_mm > 0))


def _tree_gap(view: _View, mask: Mask, surface: np.ndarray, name: str) -> tuple[float | None, str | None]:
    """Distance from a tumour to a tree in mm, or None and why."""
    if name not in view.structures or not len(view.trees[name]):
        return None, f"no {name} is labelled"
    tree = view.labels == TREES[name]
    return _touching_gap(mask, tree, surface, view.trees[name], view.spacing), None


def _touching_gap(
    mask: Mask, other: Mask, surface: np.ndarray, other_surface: np.ndarray | None, spacing: np.ndarray
) -> float | None:
    """Distance between two surfaces in mm; 0 where the masks touch and their surfaces lie within a voxel."""
    gap = None if other_surface is None else gap_mm(surface, other_surface)
    if gap is not None and gap < float(spacing.max()) and touches(mask, other):
        return 0.0
    return gap


def _length(view: _View) -> Answer:
    """Extent of parenchyma and tumours along the kidney's long axis, from voxel centre to voxel centre."""
    if {"inferior", "superior"} & set(view.cut_by):
        return _no("the kidney is cut off by the image")
    if view.frame is None:
        return _no("too little of the capsule is seen")
    return round(float(np.ptp(view.along(view.labels >= PARENCHYMA))), 1)


def _trunks(view: _View, branches: tuple[BranchMeasures, ...]) -> int | str:
    if "artery" not in view.structures or not branches:
        return _no("no artery is labelled")
    return sum(branch.parent is None for branch in branches)


def _entering(view: _View) -> int | str:
    artery = view.labels == ARTERY
    if "artery" not in view.structures or not artery.any():
        return _no("no artery is labelled")
    if view.capsule is None:
        return _no("too little of the capsule is seen")
    return entries(artery, view.capsule.beyond_mm < 0)


def _arteries(
    view: _View,
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


def _cut_voxels(labels: Labels, cut_by: Sequence[str], value: int | None = None) -> Mask:
    """Voxels of the kidney in the outermost layer of the image at the faces that cut it."""
    cut = np.zeros(labels.shape, bool)
    names = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))
    held = labels >= PARENCHYMA if value is None else labels == value
    for axis, pair in enumerate(names):
        for end, name in zip((PAD, -PAD - 1), pair, strict=True):
            if name in cut_by:
                place = [slice(None)] * 3
                place[axis] = slice(end, end + 1 or None)
                cut[tuple(place)] |= held[tuple(place)]
    return cut


def _no(why: str) -> str:
    return f"{NOT_DETERMINABLE}: {why}"


def _said(value: float | None, why: str | None = None, scale: float = 1) -> Answer:
    return _no(why or "the labels do not tell") if value is None else round(scale * value, 2)
