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
strategy) is written to the CSV when it is done; a second call goes on.
"""

import argparse
import csv
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from replay import Comparison, Point, minutes_to, replay

from kidseg_jax.atomic import write_text
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.6, 0.62, 0.64])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "query.csv")
    given = parser.parse_args()
    rows, until = read(given.out), max(given.targets)
    settings = (until, given.rounds, given.steps, given.batch)
    for seed in range(given.seeds):
        done = {r[:6] for r in rows}
        todo: list[query.Strategy] = [s for s in query.STRATEGIES if (seed, s, *settings) not in done]
        if not todo:
            continue
        phantoms = Phantoms(seed, given.steps)
        begin = {name: phantoms.samples[name].labels for name in phantoms.labelled}
        for strategy in todo:
            rng = np.random.default_rng([seed, 1])
            points = replay(begin, phantoms.pool, phantoms, strategy, given.batch, rng, until, given.rounds)
            rows += [(seed, strategy, *settings, *point) for point in points]
            write(given.out, rows)
            print(
                f"seed {seed}, {strategy}: {' '.join(f'{p.minutes:.0f} min {p.dsc:.3f}' for p in points)}",
                flush=True,
            )
    for target in given.targets:
        report([r for r in rows if r[2:6] == settings], given.seeds, target)


def report(rows: list, n_seeds: int, target: float) -> None:
    """Minutes to a target by strategy, and the verdict."""
    print(f"simulated minutes to DSC {target}, one number a seed")
    minutes: dict[query.Strategy, tuple[float | None, ...]] = {}
    for strategy in query.STRATEGIES:
        walks = [[Point(*r[6:]) for r in rows if r[:2] == (seed, strategy)] for seed in range(n_seeds)]
        minutes[strategy] = tuple(minutes_to(walk, target) for walk in walks)
        said = ", ".join("not reached" if m is None else f"{m:.0f}" for m in minutes[strategy])
        print(f"{strategy:14}{said}")
    print(Comparison(target, minutes).verdict())
    print(Comparison(target, minutes).verdict("random"))


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
    main()
