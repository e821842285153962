"""Which order saves time? A pool of cases whose truth is known is labelled again, once per strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from kidseg_jax.labelling.query import Score, Strategy, order

L = TypeVar("L")
M = TypeVar("M")


class Point(NamedTuple):
    """Where a replay stands: cases labelled so far, simulated minutes spent, and the mean DSC reached."""

    cases: int
    minutes: float
    dsc: float


class Learner(Protocol, Generic[L, M]):
    """What a replay needs of a network and a cohort. L: labels of a case; M: a trained model."""

    def fit(self, labels: Mapping[str, L]) -> M:
        """A model trained from the start on labelled cases."""
        ...

    def measure(self, model: M) -> float:
        """Mean DSC on a held-out set that no replay touches."""
        ...

    def look(self, model: M, case: str) -> tuple[L, Score]:
        """The prediction of a case and what is known of it without its truth."""
        ...

    def correct(self, case: str, predicted: L) -> tuple[L, float]:
        """The labels after correction, and the simulated seconds that took."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Minutes to the target by strategy, one entry a seed; None where the target was not reached."""

    target_dsc: float
    minutes: Mapping[Strategy, tuple[float | None, ...]]

    def verdict(self, against: Strategy = "listed") -> str:
        """One sentence: the strategy that needs fewer minutes than `against` for every seed, or none."""
        base = self.minutes[against]
        better = {}
        for strategy, values in self.minutes.items():
            pairs = list(zip(values, base, strict=True))
            if strategy == against or not all(_less(value, other) for value, other in pairs):
                continue
            saved = [1 - v / b for v, b in pairs if v is not None and b]
            better[strategy] = float(np.mean(saved)) if saved else 0.0
        if not better:
            return f"no strategy beats {against} for every one of {len(base)} seeds"
        winner = max(better, key=lambda strategy: better[strategy])
        return (
            f"{winner} saves {100 * better[winner]:.0f} % of the minutes of {against}, n = {len(base)} seeds"
        )


def replay(
    labelled: Mapping[str, L],
    pool: Sequence[str],
    learner: Learner[L, M],
    strategy: Strategy,
    batch: int,
    rng: np.random.Generator,
    enough_dsc: float = float("inf"),
    most_rounds: float = float("inf"),
) -> list[Point]:
    """The way from the labelled cases to the whole pool, or to a DSC that is enough, one point a model.

    most_rounds: of labelling, after which it ends anyhow.

    Each round fits a model on everything labelled, looks at the pool, orders it by strategy and has the
    first `batch` cases corrected. The labels to begin with cost nothing: they are the same for every
    strategy. Raises ValueError for a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"replay: a batch needs 1 case or more, got {batch}")
    labels, left, minutes = dict(labelled), list(pool), 0.0
    model = learner.fit(labels)
    points = [Point(len(labels), minutes, learner.measure(model))]
    while left and points[-1].dsc < enough_dsc and len(points) <= most_rounds:
        looked = {case: learner.look(model, case) for case in left}
        scores = {case: score for case, (_, score) in looked.items()}
        for case in order(left, scores, strategy, rng)[:batch]:
            labels[case], seconds = learner.correct(case, looked[case][0])
            minutes += seconds / 60
            left.remove(case)
        model = learner.fit(labels)
        points.append(Point(len(labels), minutes, learner.measure(model)))
    return points


def minutes_to(points: Sequence[Point], target_dsc: float) -> float | None:
    """Minutes until the DSC first reaches a target, straight lines between points; None if it never does."""
    if points[0].dsc >= target_dsc:
        return points[0].minutes
    for before, after in pairwise(points):
        if after.dsc >= target_dsc:
            share = (target_dsc - before.dsc) / (after.dsc - before.dsc)
            return before.minutes + share * (after.minutes - before.minutes)
    return None


def _less(value: float | None, other: float | None) -> bool:
    return value is not None and (other is None or value < other)
