"""Places where the coarse network sees a kidney, and whether what the fine network sees there is one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Side
from kidseg_jax.config import NetConfig
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Mask, Volume
from kidseg_jax.network.found_kidney import FoundKidney
from kidseg_jax.network.roi import Roi, fine_roi, sample_labels

SIDES: tuple[Side, ...] = ("right", "left")
SMALLEST_SEEN_ML = 15.0  # of a piece that the coarse network sees
MOST_LOOKS = 3  # on each side of the body


@dataclass(frozen=True, eq=False)
class Candidate:
    """The fine network's ROI of what may be a kidney, and the piece that the coarse network saw there.

    piece: bool on the voxels of `place`, a part of the coarse grid.
    """

    side: Side
    roi: Roi
    place: Roi
    piece: Mask


class Traits(NamedTuple):
    """What tells a kidney from what is none.

    ml: of parenchyma and RCC; mean_hu: of the parenchyma; certainty: mean probability of the class that wins
    in its voxels; covered: share of what the coarse network saw that is kidney to the fine one; both 0 to 1.
    """

    ml: float
    mean_hu: float
    certainty: float
    covered: float


def candidates_in(seen: Mask, grid: Roi, net: NetConfig, side_at: Callable[..., Side]) -> list[Candidate]:
    """Pieces of kidney on the coarse grid from SMALLEST_SEEN_ML on, largest first, at most MOST_LOOKS a side.

    net: the fine network; side_at: from the ends (lo, hi) of a piece and its centre, in mm, to its side.
    """
    pieces, _ = kernels.label_components(seen)
    stats = kernels.component_stats(seen)
    candidates: list[Candidate] = []
    for i in np.argsort(-stats.voxels, kind="stable"):
        if stats.voxels[i] * grid.spacing_mm**3 < 1000 * SMALLEST_SEEN_ML:
            break
        lo, hi = tuple(stats.lo[i].tolist()), tuple(stats.hi[i].tolist())
        centre = grid.to_mm((stats.lo[i] + stats.hi[i] - 1) / 2)
        side = side_at(grid.to_mm(lo), grid.to_mm(hi), centre)
        if sum(c.side == side for c in candidates) < MOST_LOOKS:
            piece = pieces[tuple(map(slice, lo, hi))] == i + 1
            candidates.append(Candidate(side, fine_roi(net, centre, side), grid.part(lo, hi), piece))
    return candidates


def likeliest(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first candidate of each side, right before left."""
    of_side = {c.side: c for c in reversed(candidates)}
    return [of_side[side] for side in SIDES if side in of_side]


def is_kidney(traits: Traits | None) -> bool:
    """Whether what has these traits passes for a kidney."""
    return traits is not None


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
    in_piece = int((_piece_on(candidate, roi) & mask).sum())
    whole = int(candidate.piece.sum()) * candidate.place.spacing_mm**3
    return Traits(
        ml=int(mask.sum()) * roi.spacing_mm**3 / 1000,
        mean_hu=float(hu.mean()) if hu.size else float("nan"),
        certainty=certainty,
        covered=min(1.0, in_piece * roi.spacing_mm**3 / whole),
    )


def _piece_on(candidate: Candidate, roi: Roi) -> Mask:
    """Whether the nearest coarse voxel of each ROI voxel is of the candidate's piece."""
    place = candidate.place
    z, y, x = np.subtract(roi.centre_mm, place.to_mm((0, 0, 0))).tolist()
    side_mm = place.spacing_mm
    return sample_labels(candidate.piece, (side_mm,) * 3, replace(roi, centre_mm=(z, y, x))) > 0
