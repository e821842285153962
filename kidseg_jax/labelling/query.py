"""Which case next: the pool in the order to label it, from what is known of each case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.structures import N_CLASSES, structures_in
from kidseg_jax.imaging.volume import Labels, Spacing
from kidseg_jax.labelling.simulated_annotator import correct

Strategy = Literal["listed", "random", "effort", "entropy", "disagreement", "stratified"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
DEFAULT: Strategy = "listed"
"""What to take when nobody says. In replays on phantoms (benchmarks/query.py, results/query.csv) no other
strategy needed fewer simulated minutes than both a list and random order for every seed."""


@dataclass(frozen=True)
class Score:
    """What is known of one case before anyone labels it; None: not measured."""

    effort_s: float | None = None
    """Expected time to label it, in s: to correct its prediction (`expected_effort_s`), or from nothing."""
    entropy: float | None = None
    """Predictive entropy in the kidney's region, in bit a voxel (`mean_entropy`)."""
    disagreement: float | None = None
    """1 - DSC between predictions of the same case from two views (`disagreement`)."""
    structures: frozenset[str] | None = None
    """Names of the structures in its prediction."""


UNSCORED = Score()


def order(
    pool: Sequence[str], scores: Mapping[str, Score], strategy: Strategy, rng: np.random.Generator
) -> tuple[str, ...]:
    """Every case of the pool once, the one to label first in front.

    listed: as given (a server gives them by name). random: shuffled by rng. effort, entropy, disagreement:
    the highest score first, ties as given. stratified: cases whose predictions hold the same structures form
    a group; the groups take turns, the smallest first, so that a rare structure (RCC) is not left for last.
    rng is used by random alone. Raises ValueError for an unknown strategy, a case that occurs twice, or one
    without the score that is needed.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"order: need a strategy of {', '.join(STRATEGIES)}, got {strategy!r}")
    if len(set(pool)) != len(pool):
        raise ValueError(f"order: every case may occur once, got {sorted(pool)}")
    if strategy == "listed":
        return tuple(pool)
    if strategy == "random":
        return tuple(pool[int(i)] for i in rng.permutation(len(pool)))
    if strategy == "stratified":
        return _in_turns(pool, {case: frozenset(_known(case, "structures", scores)) for case in pool})
    field = {"effort": "effort_s", "entropy": "entropy", "disagreement": "disagreement"}[strategy]
    values: dict[str, float] = {case: _known(case, field, scores) for case in pool}
    return tuple(sorted(pool, key=lambda case: -values[case]))


def score_of(
    views: Sequence[npt.NDArray[np.floating]], spacing_mm: Spacing, config: AnnotatorConfig
) -> Score:
    """What two or more looks at one kidney say, before anyone labels it.

    views: class probabilities (z, y, x, c) of one region; the first is the prediction, the others come from
    the same network that saw the region moved, and lie on the same voxels. Effort and disagreement are means
    over the other views. Raises ValueError for fewer than two views.
    """
    if len(views) < 2:
        raise ValueError(f"score_of: need two views or more, got {len(views)}")
    predicted, *others = (view.argmax(-1).astype(np.uint8) for view in views)
    return Score(
        effort_s=float(
            np.mean([expected_effort_s(predicted, other, spacing_mm, config) for other in others])
        ),
        entropy=mean_entropy(views[0]),
        disagreement=float(np.mean([disagreement(predicted, other) for other in others])),
        structures=structures_in(predicted),
    )


def together(scores: Sequence[Score]) -> Score:
    """The score of a case from those of its kidneys: times add up, doubts are means; UNSCORED for none."""
    if not scores:
        return UNSCORED

    def known(field: str) -> list[float] | None:
        values = [getattr(score, field) for score in scores]
        return None if None in values else values

    efforts, entropies, doubts = known("effort_s"), known("entropy"), known("disagreement")
    return Score(
        effort_s=None if efforts is None else sum(efforts),
        entropy=None if entropies is None else float(np.mean(entropies)),
        disagreement=None if doubts is None else float(np.mean(doubts)),
        structures=frozenset[str]().union(*(score.structures or () for score in scores)),
    )


def mean_entropy(probs: npt.NDArray[np.floating]) -> float:
    """Mean over voxels of the Shannon entropy in bit of class probabilities (..., c) that sum to 1 over c.

    Between 0 (certain everywhere) and log2(c). Raises ValueError when a sum is off by more than 1e-3.
    """
    probs = np.asarray(probs, np.float64)
    sums = probs.sum(-1)
    if probs.size == 0 or not np.allclose(sums, 1, atol=1e-3):
        raise ValueError(f"mean_entropy: probabilities must sum to 1, got shape {probs.shape}")
    logs = np.log2(probs, out=np.zeros_like(probs), where=probs > 0)
    return float(-(probs * logs).sum(-1).mean())


def disagreement(labels: Labels, other: Labels) -> float:
    """1 - the mean DSC of the structures in either of two label maps (z, y, x); 0 when neither holds any."""
    if labels.shape != other.shape:
        raise ValueError(f"disagreement: need labels of one shape, got {labels.shape} and {other.shape}")
    pairs = np.bincount(
        labels.ravel().astype(np.intp) * N_CLASSES + other.ravel(), minlength=N_CLASSES**2
    ).reshape(N_CLASSES, N_CLASSES)
    sizes = (pairs.sum(0) + pairs.sum(1))[1:]
    held = sizes > 0
    return float(1 - (2 * np.diag(pairs)[1:][held] / sizes[held]).mean()) if held.any() else 0.0


def expected_effort_s(labels: Labels, other: Labels, spacing_mm: Spacing, config: AnnotatorConfig) -> float:
    """Simulated seconds to turn one prediction of a kidney into another prediction of the same kidney.

    labels, other: (z, y, x), on the same voxels. The speed of the annotator is set to its median: no random
    part.
    """
    rng = np.random.default_rng(0)
    correction = correct(other, labels, spacing_mm, replace(config, time_spread=0.0), rng)
    return sum(correction.seconds.values())


def _known(case: str, field: str, scores: Mapping[str, Score]) -> Any:
    value = getattr(scores[case], field) if case in scores else None
    if value is None or (isinstance(value, float) and np.isnan(value)):
        raise ValueError(f"order: every case of the pool needs {field}, got none for {case}")
    return value


def _in_turns(pool: Sequence[str], groups: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """The first of every group, the second of every group, and so on; small groups before large ones."""
    members: dict[frozenset[str], list[str]] = {}
    for case in pool:
        members.setdefault(groups[case], []).append(case)
    turns = sorted(members.values(), key=len)
    return tuple(
        group[i] for i in range(max(map(len, turns), default=0)) for group in turns if i < len(group)
    )
