"""Places where the coarse network sees a kidney, and whether what the fine network sees there is one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Side
from kidseg_jax.config import NetConfig
from kidseg_jax.imaging.reach import within
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Mask, Volume
from kidseg_jax.network.found_kidney import FoundKidney
from kidseg_jax.network.losses import NEVER
from kidseg_jax.network.roi import Roi, fine_roi, sample_labels

SIDES: tuple[Side, ...] = ("right", "left")
SMALLEST_SEEN_ML = 4.0  # of a piece that the coarse network sees
MOST_LOOKS = 3  # on each side of the body, at those seen and at those faintly seen
FAINT = -2.0  # logit of kidney less that of background
NEAR_VOXELS = 6  # of the coarse grid; 2 cut kidneys of patients that it had seen in part
LEAST = {"ml": 5.0, "covered": 0.2}
SURE = 0.8  # certainty: 26 of 226 found on phantoms of seeds 500, 600 had less, all 5 false among them
LEAST_SHARE, LEAST_APART_HU = 0.4, 80.0  # of two kidneys of one patient
ENOUGH_ML = 100.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """The fine network's ROI of what may be a kidney, and where the coarse network saw it.

    piece: the voxels of `grid` that it saw there; near: those near anything that it saw; both bool.
    """

    side: Side
    roi: Roi
    grid: Roi
    piece: Mask
    near: Mask


class Traits(NamedTuple):
    """What tells a kidney from what is none.

    ml: of parenchyma and RCC; mean_hu: of the parenchyma; certainty: mean probability of the class that wins
    in its voxels; covered: share of what the coarse network saw that is kidney to the fine one; both 0 to 1.
    """

    ml: float
    mean_hu: float
    certainty: float
    covered: float


class Seen(NamedTuple):
    """What the fine network sees at a candidate, and its traits (None: nothing)."""

    kidney: FoundKidney
    traits: Traits | None


def candidates_in(
    margin: np.ndarray, grid: Roi, net: NetConfig, side_at: Callable[..., Side]
) -> list[Candidate]:
    """Pieces of kidney on the coarse grid: those seen, largest first, then those only faintly seen.

    margin: logit of kidney less that of background, (z, y, x) on `grid`; net: the fine network; side_at: from
    the ends (lo, hi) of a piece and its centre, in mm, to its side. Of each kind at most MOST_LOOKS a side,
    from SMALLEST_SEEN_ML on; a faint piece around a seen one is that one.
    """
    seen = _pieces(margin > 0, grid, net, side_at)
    faint = _pieces(margin > FAINT, grid, net, side_at)
    return seen + [c for c in faint if not any((c.piece & s.piece).any() for s in seen)]


def _pieces(seen: Mask, grid: Roi, net: NetConfig, side_at: Callable[..., Side]) -> list[Candidate]:
    pieces, _ = kernels.label_components(seen)
    stats, side_mm = kernels.component_stats(seen), grid.spacing_mm
    near = within(seen, NEAR_VOXELS * side_mm, (side_mm, side_mm, side_mm))
    candidates: list[Candidate] = []
    for i in np.argsort(-stats.voxels, kind="stable"):
        if stats.voxels[i] * side_mm**3 < 1000 * SMALLEST_SEEN_ML:
            break
        centre = grid.to_mm((stats.lo[i] + stats.hi[i] - 1) / 2)
        side = side_at(grid.to_mm(stats.lo[i]), grid.to_mm(stats.hi[i]), centre)
        if sum(c.side == side for c in candidates) < MOST_LOOKS:
            candidates.append(Candidate(side, fine_roi(net, centre, side), grid, pieces == i + 1, near))
    return candidates


def agreed(candidate: Candidate, roi: Roi, scores: np.ndarray) -> np.ndarray:
    """Logits (z, y, x, c) of an ROI, background where it is kidney away from all that the coarse net saw."""
    alone = (scores.argmax(-1) >= PARENCHYMA) & ~_on(roi, candidate.near, candidate.grid)
    if not alone.any():
        return scores
    scores = scores.copy()
    scores[alone, 1:] = NEVER
    return scores


def likeliest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first candidate of each side, right before left."""
    of_side = {c.side: c for c in reversed(candidates)}
    return [of_side[side] for side in SIDES if side in of_side]


def is_kidney(traits: Traits | None) -> bool:
    """Whether what has these traits passes for a kidney: at least LEAST of each."""
    return traits is not None and all(getattr(traits, name) >= least for name, least in LEAST.items())


def is_uncertain(seen: Seen) -> bool:
    """Whether a kidney that was found is one to look at twice: its certainty is below SURE."""
    return seen.traits is not None and seen.traits.certainty < SURE


def unlike(seen: Mapping[Side, Seen]) -> Side | None:
    """The side of the less likely of two kidneys whose HU are too far apart for one patient; None for others.

    Too far: one below LEAST_SHARE of the other, and at least LEAST_APART_HU below it. Less likely: less
    certain and smaller, from ENOUGH_ML on the first alone. A kidney without function may be left out by this.
    """
    traits: dict[Side, Traits] = {side: one.traits for side, one in seen.items() if one.traits}
    if len(traits) < 2:
        return None
    low, high = sorted(one.mean_hu for one in traits.values())
    if low > LEAST_SHARE * high or low > high - LEAST_APART_HU:
        return None
    return min(traits, key=lambda side: traits[side].certainty * min(traits[side].ml, ENOUGH_ML))


def traits_of(
    kidney: FoundKidney, candidate: Candidate, roi: Roi, scores: np.ndarray, ct: Volume
) -> Traits | None:
    """The traits of what the fine network found on an ROI of a canonical CT; None where it found nothing.

    scores: logits (z, y, x, c) of the ROI.
    """
    winners = scores.argmax(-1)
    mask = kernels.keep_largest(winners >= PARENCHYMA)
    if not mask.any():
        return None
    inside = scores[mask]
    certainty = float((1 / np.exp(inside - inside.max(-1, keepdims=True)).sum(-1)).mean())
    box = tuple(map(slice, kidney.lo, kidney.hi))
    hu = ct.array[box][kidney.labels == PARENCHYMA]
    in_piece = int((_on(roi, candidate.piece, candidate.grid) & mask).sum())
    whole = int(candidate.piece.sum()) * candidate.grid.spacing_mm**3
    return Traits(
        ml=int(mask.sum()) * roi.spacing_mm**3 / 1000,
        mean_hu=float(hu.mean()) if hu.size else float("nan"),
        certainty=certainty,
        covered=min(1.0, in_piece * roi.spacing_mm**3 / whole),
    )


def _on(roi: Roi, mask: Mask, grid: Roi) -> Mask:
    """Whether the nearest coarse voxel of each ROI voxel is in a mask on the coarse grid."""
    z, y, x = np.subtract(roi.centre_mm, grid.to_mm((0, 0, 0))).tolist()
    side_mm = grid.spacing_mm
    return sample_labels(mask, (side_mm, side_mm, side_mm), replace(roi, centre_mm=(z, y, x))) > 0
