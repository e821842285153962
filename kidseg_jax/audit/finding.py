"""What is odd about a case: measures of one kind, on one scale, and the findings that they become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kidseg_jax.imaging.volume import Shape

ENOUGH_CASES = 10  # from here on a cohort says itself what is usual
MOST_SCORE = 20.0
MOST_STEPS_UP = 4
TELLING = 3.0  # a score from here on is worth a look


@dataclass(frozen=True)
class Kind:
    """One check: what it measures, what it usually finds, and how much more counts as one step of the score.

    usual and step are in the unit of the measure and come from phantoms; a cohort of `ENOUGH_CASES` or more
    moves them by at most four steps up, and makes the step at most three times larger.
    """

    name: str
    title: str
    unit: str
    usual: float
    step: float


@dataclass(frozen=True)
class Measure:
    """What a check measured of a case: how large, of which structure and side, at which voxel, in words."""

    kind: str
    size: float
    at: Shape
    text: str
    structure: str | None = None
    side: str | None = None


@dataclass(frozen=True)
class Finding:
    """A measure with its score: how many steps it lies above what is usual."""

    measure: Measure
    score: float


@dataclass(frozen=True)
class Audited:
    """A case with its findings, worst first; its score: the worst finding's and a tenth of the next one's."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def score(self) -> float:
        scores = [finding.score for finding in self.findings[:2]]
        return sum(score * weight for score, weight in zip(scores, (1.0, 0.1), strict=False))


def ranked(cases: Mapping[str, Sequence[Measure]], kinds: Mapping[str, Kind]) -> tuple[Audited, ...]:
    """Cases with their scored findings, the one to look at first comes first, equal ones in order of name.

    A measure's score is its distance from what is usual in robust steps (median and MAD over the cases, kept
    near the values in `kinds`), 0 where it lies below, at most `MOST_SCORE`.
    """
    worst: dict[tuple[str, str | None], dict[str, float]] = {}
    for name, measures in cases.items():
        for one in measures:
            of = worst.setdefault((one.kind, one.structure), {})
            of[name] = max(of.get(name, -np.inf), one.size)
    scales = {key: _scale([of.get(name, 0.0) for name in cases], kinds[key[0]]) for key, of in worst.items()}
    audited = []
    for name, measures in cases.items():
        findings = []
        for one in measures:
            usual, step = scales[one.kind, one.structure]
            score = float(np.clip((one.size - usual) / step, 0, MOST_SCORE))
            if score > 0:
                findings.append(Finding(one, score))
        findings.sort(
            key=lambda finding: (-finding.score, finding.measure.kind, str(finding.measure.structure))
        )
        audited.append(Audited(name, tuple(findings)))
    return tuple(sorted(audited, key=lambda case: (-case.score, case.name)))


def _scale(sizes: Sequence[float], kind: Kind) -> tuple[float, float]:
    """What is usual of a kind, and one step."""
    if len(sizes) < ENOUGH_CASES:
        return kind.usual, kind.step
    above = np.maximum(sizes, kind.usual)  # how far below does not matter
    median = float(np.median(above))
    mad = 1.4826 * float(np.median(np.abs(above - median)))
    usual = float(np.clip(median, kind.usual, kind.usual + MOST_STEPS_UP * kind.step))
    return usual, float(np.clip(mad, kind.step, 3 * kind.step))
