"""Artery, vein and ureter judged as trees: clDice, pieces, and the length found, false and missed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from kidseg_jax import kernels
from kidseg_jax.evaluation.centreline import Centreline, centreline
from kidseg_jax.imaging.structures import ARTERY, URETER, VEIN
from kidseg_jax.imaging.volume import Mask, Spacing

TREES = (ARTERY, VEIN, URETER)
LEAST_GAP_MM = 2.0


@dataclass(frozen=True, kw_only=True)
class TreeAgreement:
    """Agreement of a predicted with a true tree. None: undefined, see `measure_tree`."""

    cldice: float | None = None
    truth_pieces: int | None = None
    predicted_pieces: int | None = None
    truth_mm: float | None = None
    found_mm: float | None = None
    false_mm: float | None = None
    gaps: int | None = None
    largest_gap_mm: float | None = None


def measure_tree(truth: Mask, predicted: Mask, spacing_mm: Spacing) -> TreeAgreement:
    """How much of a tree was followed, along the centrelines of both masks.

    truth, predicted: bool (z, y, x) of one shape; spacing_mm: (z, y, x). cldice: of the shares of each
    centreline's points that lie in the other mask, 0 where nothing was predicted. Pieces: connected ones (26
    neighbours). truth_mm: length of the true centreline; found_mm: what of it lies in the predicted mask;
    false_mm: length of the predicted centreline outside the true mask. gaps: stretches of the true centreline
    of at least LEAST_GAP_MM that are missed between two that are found; a missed end is none. All None where
    the truth is empty. Source: Shit et al. 2021, "clDice", CVPR.
    """
    if not truth.any():
        return TreeAgreement()
    true, found = centreline(truth, spacing_mm), centreline(predicted, spacing_mm)
    covered, is_true = predicted[tuple(true.points.T)], truth[tuple(found.points.T)]
    shares = [float(part.mean()) if len(part) else 0.0 for part in (covered, is_true)]
    gaps_mm = [length for length in _gaps_mm(true, covered) if length >= LEAST_GAP_MM]
    return TreeAgreement(
        cldice=2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0,
        truth_pieces=kernels.label_components(truth)[1],
        predicted_pieces=kernels.label_components(predicted)[1],
        truth_mm=float(true.lengths_mm.sum()),
        found_mm=_length_mm(true, covered),
        false_mm=_length_mm(found, ~is_true),
        gaps=len(gaps_mm),
        largest_gap_mm=max(gaps_mm, default=0.0),
    )


def _length_mm(line: Centreline, chosen: npt.NDArray[np.bool_]) -> float:
    """Length of the steps of a line, half of it for each end that is chosen."""
    return float((line.lengths_mm * chosen[line.edges].mean(1)).sum())


def _gaps_mm(true: Centreline, covered: npt.NDArray[np.bool_]) -> Iterator[float]:
    """Lengths of the missed stretches that two or more found ones end at."""
    first, second = true.edges.T
    missed = ~covered[first] & ~covered[second]
    n = len(true.points)
    graph = csr_array((np.ones(missed.sum()), true.edges[missed].T), shape=(n, n))
    stretch = connected_components(graph, directed=False)[1]
    border = covered[first] != covered[second]
    at_border = stretch[np.where(covered[first], second, first)]
    for one, ends in zip(*np.unique(at_border[border], return_counts=True), strict=True):
        if ends >= 2:
            inside = true.lengths_mm[missed & (stretch[first] == one)].sum()
            yield float(inside + true.lengths_mm[border & (at_border == one)].sum() / 2)
