"""Which case should a person label next? Simulated minutes to a given DSC, by query strategy, over seeds.

    python benchmarks/query.py [--seeds 3] [--steps 400] [--targets 0.6 0.62 0.64]

Phantom kidneys, the fine network alone in the kidney's true region. 14 patients are much alike (hardness
0.4) and have no tumour; 10 differ in pose, contrast phase and noise (hardness 1), and 7 of them have a tumour
of 20 to 70 mm. Two of the first are labelled to begin with; two of the first and four of the second are held
out; the others wait in the pool, so that some are worth more than others. Each round trains from fresh
weights, for the same number of steps, on everything labelled, looks at the pool, and has the first kidneys
corrected by the simulated annotator, until the mean DSC of the held-out kidneys (mean over the structures
that each has) reaches the highest target, for so many rounds at most. Scores are those of `query.score_of`
over views moved by two voxels, as in a run with people. A seed changes phantoms, the deal of patients and the
initial weights. `listed` is a shuffled list as `random` is: the two differ by chance alone. Every (seed,
strategy) is written to the CSV when it is done; a second call goes on. --cluster as `predict` has it deals
them to workers.
"""

import csv
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cli.cluster import Problem, each
from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import CohortConfig, Config, NetConfig
from kidseg_jax.evaluation.metrics import dice
from kidseg_jax.imaging.structures import N_CLASSES, STRUCTURES
from kidseg_jax.imaging.volume import Labels, Spacing, canonical
from kidseg_jax.labelling import query
from kidseg_jax.labelling.simulated_annotator import correct
from kidseg_jax.network.samples import Sample, fine_sample, margin_voxels
from kidseg_jax.network.training import start, train
from kidseg_jax.network.unet import Params
from kidseg_jax.network.views import MARGIN, views_of
from kidseg_jax.phantom.cohort import make_case

COLUMNS = ("seed", "strategy", "until", "rounds", "steps", "batch", "kidneys", "minutes", "dsc")


class Half(NamedTuple):
    """Patients of one kind: how many, how many with a tumour, and how many begin labelled or are held out."""

    hardness: float
    patients: int
    with_rcc: int
    start: int
    test: int


class Point(NamedTuple):
    """Where a replay stands: cases labelled so far, simulated minutes spent, and the mean DSC reached."""

    cases: int
    minutes: float
    dsc: float


HALVES = {"alike": Half(0.4, 14, 0, 2, 2), "varied": Half(1.0, 10, 7, 0, 4)}


class Phantoms:
    """The kidneys of one seed and what the replay asks of them; labels are those of a sampled region."""

    def __init__(self, seed: int, steps: int):
        base = Config()
        self.seed, self.annotator = seed, base.annotator
        self.net: NetConfig = replace(base.fine, features=(8, 16, 32), patch=(48, 36, 40), spacing_mm=3.0)
        self.spacing_mm: Spacing = (self.net.spacing_mm, self.net.spacing_mm, self.net.spacing_mm)
        self.settings = replace(base.fine_train, steps=steps, poses=1)
        self.samples: dict[str, Sample] = {}
        self.test, self.labelled, self.pool = [], [], []
        rng = np.random.default_rng(seed)
        for group, half in HALVES.items():
            n = half.patients
            cohort = CohortConfig(
                patients=n, kidneys=n + n // 2, rcc_kidneys=half.with_rcc, hardness=half.hardness
            )
            for place, index in enumerate(rng.permutation(n).tolist()):
                found = self.kidneys_in(group, make_case(cohort, seed, index))
                self.samples |= found
                deal = self.labelled if place < half.start else self.test
                (deal if place < half.start + half.test else self.pool).extend(found)
        self.pool = [self.pool[i] for i in rng.permutation(len(self.pool))]

    def kidneys_in(self, group: str, case: Case) -> dict[str, Sample]:
        ct = canonical(case.ct)
        return {
            f"{group} {kidney.name}": fine_sample(ct, kidney, self.net, self.settings)
            for kidney in kidneys_of(case)
        }

    @cached_property
    def begun(self):
        return start(self.net, self.settings, N_CLASSES, self.settings.steps, self.seed)

    @cached_property
    def first(self) -> Params:
        """The model that every strategy begins with."""
        return self.fitted({name: self.samples[name].labels for name in self.labelled})

    def fit(self, labels: Mapping[str, Labels]) -> Params:
        return self.first if list(labels) == self.labelled else self.fitted(labels)

    def fitted(self, labels: Mapping[str, Labels]) -> Params:
        fresh, step = self.begun
        state = jax.tree.map(jnp.copy, fresh)
        samples = [Sample(self.samples[name].ct, labels[name]) for name in labels]
        walk = train(state, step, samples, self.settings.steps, self.settings.batch, self.seed)
        _, trained, _ = deque(walk, maxlen=1)[0]
        return trained.params

    def views(self, model: Params, case: str) -> list[np.ndarray]:
        return views_of(self.net, model, self.inner(self.samples[case].ct, -MARGIN))

    def look(self, model: Params, case: str) -> tuple[Labels, query.Score]:
        views = self.views(model, case)
        whole = self.samples[case].labels.copy()  # what was not looked at holds the truth and costs nothing
        self.inner(whole, MARGIN)[...] = views[0].argmax(-1)
        return whole, query.score_of(views, self.spacing_mm, self.annotator)

    def correct(self, case: str, predicted: Labels) -> tuple[Labels, float]:
        rng = np.random.default_rng([self.seed, sorted(self.samples).index(case)])
        done = correct(self.samples[case].labels, predicted, self.spacing_mm, self.annotator, rng)
        return done.labels, sum(done.seconds.values())

    def measure(self, model: Params) -> float:
        """Mean over held-out kidneys of the mean DSC of the structures that each has."""
        kidneys = []
        for case in self.test:
            predicted = self.views(model, case)[0].argmax(-1)
            truth = self.inner(self.samples[case].labels, MARGIN)
            pairs = [(truth == s.label, predicted == s.label) for s in STRUCTURES]
            kidneys.append(np.mean([dice(own, found) or 0.0 for own, found in pairs if own.any()]))
        return float(np.mean(kidneys))

    def inner(self, array: np.ndarray, less: int) -> np.ndarray:
        """The patch in the middle of a sample, `less` voxels smaller on every face."""
        m = margin_voxels(self.net, self.settings.shift_mm) + less
        return array[m:-m, m:-m, m:-m] if m else array


def replay(
    labelled: Mapping[str, Any],
    pool: Sequence[str],
    learner: Any,
    strategy: query.Strategy,
    batch: int,
    rng: np.random.Generator,
    enough_dsc: float = math.inf,
    most_rounds: float = math.inf,
) -> list[Point]:
    """The way from the labelled cases to the whole pool, or to a DSC that is enough, one point a model.

    Each round fits a model on everything labelled, looks at the pool, orders it by strategy and has the first
    `batch` cases corrected, for `most_rounds` at most. learner: `Phantoms`, or what has its fit, measure,
    look and correct. The labels to begin with cost nothing: they are the same for every strategy. Raises
    ValueError for a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"replay: a batch needs 1 case or more, got {batch}")
    labels, left, minutes = dict(labelled), list(pool), 0.0
    model = learner.fit(labels)
    points = [Point(len(labels), minutes, learner.measure(model))]
    while left and points[-1].dsc < enough_dsc and len(points) <= most_rounds:
        looked = {case: learner.look(model, case) for case in left}
        scores = {case: score for case, (_, score) in looked.items()}
        for case in query.order(left, scores, strategy, rng)[:batch]:
            labels[case], seconds = learner.correct(case, looked[case][0])
            minutes += seconds / 60
            left.remove(case)
        model = learner.fit(labels)
        points.append(Point(len(labels), minutes, learner.measure(model)))
    return points


def minutes_to(points: Sequence[Point], target_dsc: float) -> float:
    """Minutes until the DSC first reaches a target, straight lines between points; inf if it never does."""
    if points[0].dsc >= target_dsc:
        return points[0].minutes
    for before, after in pairwise(points):
        if after.dsc >= target_dsc:
            share = (target_dsc - before.dsc) / (after.dsc - before.dsc)
            return before.minutes + share * (after.minutes - before.minutes)
    return math.inf


def verdict(minutes: Mapping[query.Strategy, Sequence[float]], against: query.Strategy = "listed") -> str:
    """One sentence: the strategy that needs fewer minutes than `against` for every seed, or none."""
    base = minutes[against]
    saved = {
        strategy: float(
            np.mean([1 - v / b for v, b in zip(values, base, strict=True) if b < math.inf] or [0])
        )
        for strategy, values in minutes.items()
        if all(v < b for v, b in zip(values, base, strict=True))
    }
    if not saved:
        return f"no strategy beats {against} for every one of {len(base)} seeds"
    winner = max(saved, key=lambda strategy: saved[strategy])
    return f"{winner} saves {100 * saved[winner]:.0f} % of the minutes of {against}, n = {len(base)} seeds"


def main(
    seeds: int = 3,
    steps: int = 400,
    batch: int = 3,
    rounds: int = 5,
    targets: tuple[float, ...] = (0.6, 0.62, 0.64),
    out: Path = Path(__file__).parent / "results" / "query.csv",
    cluster: str | None = None,
) -> None:
    rows, until = read(out), max(targets)
    settings = (until, rounds, steps, batch)
    done = {r[:6] for r in rows}
    todo: list[tuple[int, query.Strategy]] = [
        (seed, s) for seed in range(seeds) for s in query.STRATEGIES if (seed, s, *settings) not in done
    ]
    work = partial(walk, steps=steps, batch=batch, until=until, rounds=rounds)
    for at, points in each(work, todo, cluster):
        if isinstance(points, Problem):
            raise SystemExit(f"query: {todo[at]}: {points.line}")
        rows += [(*todo[at], *settings, *point) for point in points]
        write(out, rows)
        walked = " ".join(f"{p.minutes:.0f} min {p.dsc:.3f}" for p in points)
        print(f"seed {todo[at][0]}, {todo[at][1]}: {walked}", flush=True)
    for target in targets:
        report([r for r in rows if r[2:6] == settings], seeds, target)


def walk(
    at: tuple[int, query.Strategy], steps: int, batch: int, until: float, rounds: int
) -> Sequence[Point]:
    """The points of one replay, of a seed and a strategy."""
    seed, strategy = at
    phantoms = phantoms_of(seed, steps)
    begin = {name: phantoms.samples[name].labels for name in phantoms.labelled}
    rng = np.random.default_rng([seed, 1])
    return replay(begin, phantoms.pool, phantoms, strategy, batch, rng, until, rounds)


@lru_cache(maxsize=1)
def phantoms_of(seed: int, steps: int) -> "Phantoms":
    """The phantoms of a seed, made once for its strategies."""
    return Phantoms(seed, steps)


def report(rows: list, n_seeds: int, target: float) -> None:
    """Minutes to a target by strategy, and the verdict."""
    print(f"simulated minutes to DSC {target}, one number a seed")
    minutes: dict[query.Strategy, list[float]] = {}
    for strategy in query.STRATEGIES:
        walks = [[Point(*r[6:]) for r in rows if r[:2] == (seed, strategy)] for seed in range(n_seeds)]
        minutes[strategy] = [minutes_to(walk, target) for walk in walks]
        texts = (f"{m:.0f}" if m < math.inf else "not reached" for m in minutes[strategy])
        print(f"{strategy:14}{', '.join(texts)}")
    print(verdict(minutes))
    print(verdict(minutes, "random"))


def read(path: Path) -> list:
    """Rows of an earlier call."""
    if not path.exists():
        return []
    with open(path, newline="") as stream:
        return [
            (
                int(r["seed"]),
                r["strategy"],
                float(r["until"]),
                *(int(r[name]) for name in ("rounds", "steps", "batch", "kidneys")),
                *(float(r[name]) for name in ("minutes", "dsc")),
            )
            for r in csv.DictReader(stream)
        ]


def write(path: Path, rows: list) -> None:
    lines = [",".join(COLUMNS)]
    lines += [f"{','.join(map(str, r[:7]))},{r[7]:.3f},{r[8]:.5f}" for r in rows]
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
