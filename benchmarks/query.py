"""Which case should a person label next? Simulated minutes to a given DSC, by query strategy, over seeds.

    python benchmarks/query.py [--seeds 3] [--steps 200] [--target 0.7] [--out benchmarks/results/query.csv]

Phantom kidneys, the fine network alone in the kidney's true region: 4 kidneys are labelled, 8 are held out,
the others wait in the pool. Each round trains from fresh weights, for the same number of steps, on everything
labelled, looks at the pool, and has the first kidneys corrected by the simulated annotator, until the mean
DSC of the held-out kidneys reaches the target. Entropy is that of the prediction; disagreement and expected
effort compare it with that of a region moved by two voxels. A seed changes phantoms, the deal of kidneys and
the initial weights. Every (seed, strategy) is written to the CSV when it is done; a second call goes on.
"""

import argparse
import csv
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.config import CohortConfig, Config, NetConfig
from kidseg_jax.imaging.cohort import Case, kidney_labels, kidneys_of
from kidseg_jax.imaging.files import write_text
from kidseg_jax.imaging.phantom import make_case
from kidseg_jax.imaging.structures import N_CLASSES, structures_in
from kidseg_jax.imaging.volume import Labels, Spacing, canonical
from kidseg_jax.labelling import query
from kidseg_jax.labelling.correction import correct
from kidseg_jax.labelling.replay import Comparison, Point, minutes_to, replay
from kidseg_jax.network.augment import to_window
from kidseg_jax.network.samples import fine_sample, margin_voxels
from kidseg_jax.network.training import Sample, start, train
from kidseg_jax.network.unet import Params, make_unet

COLUMNS = ("seed", "strategy", "target", "kidneys", "minutes", "dsc")
N_START, N_TEST = 4, 8
MOVED = (2, 2, 2)


class Phantoms:
    """The kidneys of one seed and what the replay asks of them; labels are those of a sampled region."""

    def __init__(self, seed: int, n_patients: int, steps: int):
        base = Config()
        self.seed, self.annotator, self.steps = seed, base.annotator, steps
        self.net: NetConfig = replace(base.fine, features=(8, 16, 32), patch=(48, 36, 40), spacing_mm=3.0)
        self.spacing_mm: Spacing = (self.net.spacing_mm, self.net.spacing_mm, self.net.spacing_mm)
        self.settings = replace(base.fine_train, steps=steps, poses=1)
        n_kidneys = max(n_patients, 2 * n_patients - 4)
        cohort = CohortConfig(patients=n_patients, kidneys=n_kidneys, rcc_kidneys=n_patients // 2)
        self.samples: dict[str, Sample] = {}
        for index in range(n_patients):
            self.samples |= self.kidneys_in(make_case(cohort, seed, index))
        names = list(np.random.default_rng(seed).permutation(sorted(self.samples)))
        self.test, self.labelled = names[:N_TEST], names[N_TEST : N_TEST + N_START]
        self.pool = names[N_TEST + N_START :]

    def kidneys_in(self, case: Case) -> dict[str, Sample]:
        assert case.labels is not None
        ct = canonical(case.ct)
        return {
            kidney.name: fine_sample(
                ct, kidney_labels(case.labels, kidney), kidney.side, self.net, self.settings
            )
            for kidney in kidneys_of(case)
        }

    @cached_property
    def looker(self):
        apply, _ = make_unet(self.net, N_CLASSES, seed=0)

        def probabilities(params: Params, hu: jax.Array) -> jax.Array:
            both = jnp.stack([hu, jnp.roll(hu, MOVED, (0, 1, 2))])
            return jax.nn.softmax(apply(params, to_window(both, self.net.window_hu)[..., None]), axis=-1)

        return jax.jit(probabilities)

    @cached_property
    def begun(self):
        return start(self.net, self.settings, N_CLASSES, self.steps, self.seed)

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
        walk = train(state, step, samples, self.steps, self.settings.batch, self.seed)
        return deque(walk, maxlen=1)[0][0].params

    def look(self, model: Params, case: str) -> tuple[Labels, query.Score]:
        probs = np.asarray(self.looker(model, jnp.asarray(self.inner(self.samples[case].ct))))
        ours, moved = probs[0], np.roll(probs[1], tuple(-m for m in MOVED), (0, 1, 2))
        predicted, other = (p.argmax(-1).astype(np.uint8) for p in (ours, moved))
        score = query.Score(
            effort_s=query.expected_effort_s(predicted, other, self.spacing_mm, self.annotator),
            entropy=query.mean_entropy(ours),
            disagreement=query.disagreement(predicted, other),
            structures=frozenset(structures_in(predicted) & {"rcc"}),
        )
        return self.outer(case, predicted), score

    def correct(self, case: str, predicted: Labels) -> tuple[Labels, float]:
        rng = np.random.default_rng([self.seed, sorted(self.samples).index(case)])
        done = correct(self.samples[case].labels, predicted, self.spacing_mm, self.annotator, rng)
        return done.labels, sum(done.seconds.values())

    def measure(self, model: Params) -> float:
        found = [
            1
            - query.disagreement(self.inner(self.look(model, case)[0]), self.inner(self.samples[case].labels))
            for case in self.test
        ]
        return float(np.mean(found))

    def inner(self, array: np.ndarray) -> np.ndarray:
        """The patch in the middle of a sample, without the margin that training shifts in."""
        m = margin_voxels(self.net, self.settings.shift_mm)
        return array[m:-m, m:-m, m:-m] if m else array

    def outer(self, case: str, predicted: Labels) -> Labels:
        """A patch of labels in its whole sample; the margin, which was not looked at, holds the truth."""
        whole = self.samples[case].labels.copy()
        self.inner(whole)[...] = predicted
        return whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--target", type=float, default=0.7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "query.csv")
    given = parser.parse_args()
    rows = read(given.out)
    for seed in range(given.seeds):
        todo: list[query.Strategy] = [
            s for s in query.STRATEGIES if (seed, s, given.target) not in {r[:3] for r in rows}
        ]
        if not todo:
            continue
        phantoms = Phantoms(seed, given.patients, given.steps)
        begin = {name: phantoms.samples[name].labels for name in phantoms.labelled}
        for strategy in todo:
            rng = np.random.default_rng([seed, 1])
            points = replay(begin, phantoms.pool, phantoms, strategy, given.batch, rng, given.target)
            rows += [(seed, strategy, given.target, *point) for point in points]
            write(given.out, rows)
            print(
                f"seed {seed}, {strategy}: {' '.join(f'{p.minutes:.0f} min {p.dsc:.3f}' for p in points)}",
                flush=True,
            )
    report(rows, given.seeds, given.target)


def report(rows: list, n_seeds: int, target: float) -> None:
    """Minutes to the target by strategy, and the verdict."""
    minutes: dict[query.Strategy, tuple[float | None, ...]] = {}
    for strategy in query.STRATEGIES:
        walks = [
            [Point(*r[3:]) for r in rows if r[:3] == (seed, strategy, target)] for seed in range(n_seeds)
        ]
        minutes[strategy] = tuple(minutes_to(walk, target) for walk in walks)
        said = ", ".join("not reached" if m is None else f"{m:.0f}" for m in minutes[strategy])
        print(f"{strategy:14}{said}")
    print(Comparison(target, minutes).verdict())
    print(f"{Comparison(target, minutes).verdict('random')} (simulated minutes to DSC {target})")


def read(path: Path) -> list:
    """Rows of an earlier call."""
    if not path.exists():
        return []
    with open(path, newline="") as stream:
        return [
            (int(r["seed"]), r["strategy"], *map(float, (r[name] for name in COLUMNS[2:])))
            for r in csv.DictReader(stream)
        ]


def write(path: Path, rows: list) -> None:
    lines = [",".join(COLUMNS), *(f"{a},{b},{t:g},{n:.0f},{m:.3f},{dsc:.5f}" for a, b, t, n, m, dsc in rows)]
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
