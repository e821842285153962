"""The numbers of each tumour of a kidney, and what its scores look at."""

import math

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import ARTERY, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Mask
from kidseg_jax.surgery.contact import contact_area_mm2, kept_ml
from kidseg_jax.surgery.measures import TumourMeasures, answer, undetermined
from kidseg_jax.surgery.scores import Anatomy, padua, renal
from kidseg_jax.surgery.surface import extents_mm, gap_mm, surface_between, touches
from kidseg_jax.surgery.view import PAD, TREES, KidneyView, cut_voxels

SMALLEST_TUMOUR_ML = 0.03
TIP_MM3 = 2.0  # what must lie beyond a place for a tumour, or the sinus, to reach so far


def measure_tumours(view: KidneyView) -> list[tuple[TumourMeasures, tuple[int, int, int]]]:
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


def _tumour(view: KidneyView, mask: Mask, number: int, middle: np.ndarray) -> TumourMeasures:
    """The numbers of one tumour."""
    box = kernels.bounding_box(mask)
    assert box is not None
    cut = bool((mask & cut_voxels(view.labels, view.cut_by, value=RCC)).any())
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
    too_small = undetermined("cut off by the image" if cut else "too small for a diameter")
    partly = undetermined("cut off by the image")
    return TumourMeasures(
        number=number,
        volume_ml=round(view.ml(mask), 4),
        longest_mm=too_small if sizes is None else round(sizes[0], 2),
        orthogonal_mm=too_small if sizes is None else round(sizes[1], 2),
        third_mm=too_small if sizes is None else round(sizes[2], 2),
        exophytic_percent=answer(outside, anatomy.missing.get("exophytic"), 100),
        protrudes_mm=answer(protrudes, anatomy.missing.get("exophytic")),
        to_artery_mm=answer(*tree_gaps["artery"]),
        to_vein_mm=answer(*tree_gaps["vein"]),
        to_ureter_mm=answer(*tree_gaps["ureter"]),
        to_sinus_mm=answer(sinus_gap, anatomy.missing.get("to_sinus_mm")),
        contact_mm2=partly
        if cut
        else round(contact_area_mm2(mask[around], view.parenchyma[around], view.spacing_mm), 2),
        margin_mm=view.margin_mm,
        kept_ml=undetermined("the kidney is cut off by the image") if view.cut_by else round(kept, 4),
        kept_percent=undetermined("the kidney is cut off by the image")
        if view.cut_by
        else answer(kept / whole if whole else None, "no parenchyma", 100),
        centre_mm=tuple(round(float(v), 2) for v in (middle - PAD) * view.spacing),  # pyright: ignore
        renal=renal(anatomy),
        padua=padua(anatomy),
    )


def _anatomy(
    view: KidneyView,
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


def _outside(view: KidneyView, mask: Mask) -> tuple[float | None, float | None]:
    """Share of a tumour outside the capsule, and how far it reaches out in mm."""
    if view.capsule is None:
        return None, None
    beyond = np.sort(view.capsule.beyond_mm[mask])
    tip = min(len(beyond), math.ceil(TIP_MM3 / float(view.spacing.prod())))
    return float((beyond > 0).mean()), max(0.0, float(beyond[-tip]))


def _collecting(
    view: KidneyView, mask: Mask, surface: np.ndarray, missing: dict[str, str]
) -> tuple[float | None, bool | None]:
    """Distance to the collecting system in mm, and whether it is touched; None where it is not labelled."""
    ureter = view.labels == URETER
    if view.sinus is None or not (ureter & view.sinus.mask).any():
        missing["touches_collecting"] = "the ureter's label does not reach into the sinus"
        return None, None
    gap = _touching_gap(mask, ureter, surface, view.trees["ureter"], view.spacing)
    return gap, touches(mask, ureter)


def _sides(
    view: KidneyView, mask: Mask, cut: bool, missing: dict[str, str], no_sinus: str
) -> tuple[float | None, float | None]:
    """Shares of a tumour before the kidney's frontal plane, and on the hilum's side of its long axis."""
    frame = view.frame
    if frame is None or frame.hilum is None or frame.front is None or cut:
        why = "the tumour is cut off by the image" if cut else f"the hilum is not seen: {no_sinus}"
        missing |= {"front_share": why, "hilar_share": why}
        return None, None
    offset = np.argwhere(mask) * view.spacing - frame.centre_mm
    return float((offset @ frame.front > 0).mean()), float((offset @ frame.hilum > 0).mean())


def _beyond(view: KidneyView, mask: Mask, between: Mask | None) -> tuple[float, float, bool] | None:
    """Shares of a tumour above and below the ends of a mask along the kidney, and whether it crosses one."""
    if view.frame is None or between is None or np.count_nonzero(between) < 10:
        return None
    ends = np.sort(view.along(between))
    tip = min(len(ends) - 1, round(TIP_MM3 / float(view.spacing.prod())))
    lower, upper = ends[tip], ends[-1 - tip]
    at = view.along(mask)
    crossed = any(_crosses(at, float(line), _tolerance(view)) for line in (lower, upper))
    return float((at > upper).mean()), float((at < lower).mean()), crossed


def _crosses(at: np.ndarray, line: float, tolerance: float) -> bool:
    """Whether a tumour reaches both sides of a plane by more than the labels' grain."""
    return bool(at.min() < line - tolerance and at.max() > line + tolerance)


def _tolerance(view: KidneyView) -> float:
    """What a label map cannot tell from nothing, in mm: half a voxel's longest side, at least 0.75."""
    return max(0.75, 0.5 * float(view.spacing.max()))


def _hilar_vessel(view: KidneyView, mask: Mask, missing: dict[str, str]) -> bool | None:
    """Whether a tumour touches artery or vein outside the capsule."""
    if view.capsule is None or not {"artery", "vein"} <= view.structures:
        missing["touches_hilar_vessel"] = "artery and vein are not both labelled, or no capsule is seen"
        return None
    vessels = (view.labels == ARTERY) | (view.labels == VEIN)
    if not vessels.any():
        missing["touches_hilar_vessel"] = "neither artery nor vein is labelled"
        return None
    return touches(mask, vessels & (view.capsule.beyond_mm > 0))


def _tree_gap(
    view: KidneyView, mask: Mask, surface: np.ndarray, name: str
) -> tuple[float | None, str | None]:
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
