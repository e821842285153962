"""Does the audit find planted errors? 60 label maps of phantoms, six kinds of error, the CT checks alone.

    python benchmarks/audit.py [--cohort demo] [--seeds 9101 9102] [--plantings 5]

Every seed is a cohort of 60 phantoms that the checks were not built on (built on: demo 7001, varied 7002);
each planting puts the six errors into six other label maps and ranks all 60. An error is found where its map
is among the first 12. No network is asked. Rows go to benchmarks/results/audit.csv. Phantoms, not patients.
"""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import tyro
from planted import ERRORS
from rows import about, append_rows, say

from kidseg_jax.audit.checks import KINDS, measures_of
from kidseg_jax.audit.finding import Measure, ranked
from kidseg_jax.audit.scene import scene_of
from kidseg_jax.cohort.case import Case
from kidseg_jax.config import COHORTS, CohortConfig
from kidseg_jax.imaging.volume import canonical, on_grid_of
from kidseg_jax.phantom.cohort import make_case

MAPS, FIRST = 60, 0.2


def cohort_of(kind: str) -> CohortConfig:
    """A cohort of `MAPS` patients in the shares of its default."""
    of = COHORTS[kind]
    share = MAPS / of.patients
    kidneys, with_rcc = round(share * of.kidneys), round(share * of.rcc_kidneys)
    return replace(of, patients=MAPS, kidneys=kidneys, rcc_kidneys=with_rcc)


def measured(case: Case) -> tuple[Measure, ...]:
    """What the checks measure of a case; a case that cannot be looked at would end the benchmark."""
    return measures_of(scene_of(case))


def plant(case: Case, error: str, rng: np.random.Generator) -> Case | None:
    """The case with an error in its labels; None where the error has no place in it."""
    assert case.labels is not None
    turned = canonical(case.labels)
    wrong = ERRORS[error](turned.array, canonical(case.ct).array, turned.spacing_mm, rng)
    return None if wrong is None else replace(case, labels=on_grid_of(wrong, case.labels))


def judged(kind: str, seed: int, plantings: int) -> tuple[list[tuple[str, int]], Counter[str], float]:
    """Rank of every planted error, the checks that put other maps first, and seconds for each look."""
    config = cohort_of(kind)
    rng = np.random.default_rng([seed, 21])
    owners: list[dict[int, str]] = []
    for _ in range(plantings):
        given: dict[int, str] = {}
        for error in rng.permutation(list(ERRORS)):
            given[next(int(i) for i in rng.permutation(MAPS) if int(i) not in given)] = str(error)
        owners.append(given)
    clean: dict[str, tuple[Measure, ...]] = {}
    wrong: list[dict[str, tuple[Measure, ...]]] = [{} for _ in range(plantings)]
    waiting: list[list[str]] = [[] for _ in range(plantings)]
    looks, seconds = 0, 0.0
    kept: list[dict[str, str]] = [{} for _ in range(plantings)]
    for index in range(MAPS):
        case = make_case(config, seed, index)
        began = time.perf_counter()
        clean[case.name] = measured(case)
        looks += 1
        for k, given in enumerate(owners):
            if index in given:
                waiting[k].insert(0, given[index])
            for error in waiting[k][:1]:
                planted = plant(case, error, rng)
                if planted is None:
                    continue
                waiting[k].remove(error)
                wrong[k][case.name], kept[k][case.name] = measured(planted), error
                looks += 1
        seconds += time.perf_counter() - began
    ranks: list[tuple[str, int]] = []
    instead: Counter[str] = Counter()
    for maps, errors in zip(wrong, kept, strict=True):
        audited = ranked(clean | maps, KINDS)
        ranks += [(errors[case.name], place) for place, case in enumerate(audited, 1) if case.name in errors]
        first = [case for case in audited[: round(FIRST * MAPS)] if case.name not in errors and case.findings]
        instead.update(case.findings[0].measure.kind for case in first)
    return ranks, instead, seconds / looks


def main(
    cohort: str = "demo", seeds: tuple[int, ...] = (9101, 9102), plantings: int = 5, keep: bool = True
) -> None:
    """Plant, rank, count, print and keep.

    Args:
        cohort: demo or varied.
        seeds: of the cohorts, ones that nothing was built on.
        plantings: how often six errors are planted into each cohort.
        keep: whether rows go to the file.
    """
    most = round(FIRST * MAPS)
    rows = []
    for seed in seeds:
        ranks, instead, seconds = judged(cohort, seed, plantings)
        for error in ("all", *ERRORS):
            places = [place for name, place in ranks if error in ("all", name)]
            found = sum(place <= most for place in places)
            row = {
                **about(),
                "cohort": f"phantoms, {cohort}",
                "seed": seed,
                "error": error,
                "planted": len(places),
                "in_first_20_percent": found,
                "share": found / len(places) if places else float("nan"),
                "worst_rank": max(places, default=0),
                "seconds_a_map": seconds,
            }
            say(row)
            rows.append(row)
        print("other maps in the first 20 %, by their worst finding:", dict(instead))
    if keep:
        append_rows("audit", rows)


if __name__ == "__main__":
    tyro.cli(main)
