"""Who is tested and who is learned from in which stage: whole patients, fixed before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kidseg_jax.cohort.case import LabelledKidney

PUBLISHED_SIZES = (20, 40, 50)
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Plan:
    """Case names: one held-out test set for all stages, and the cases that are new in each stage.

    by_hand: those of the first stage that are learned from with the labels they came with.
    """

    test: tuple[str, ...]
    new: tuple[tuple[str, ...], ...]
    by_hand: tuple[str, ...] = ()

    def to_correct(self, index: int) -> tuple[str, ...]:
        """The cases that are predicted after stage `index`, for the next one; 0: by a start model."""
        new = self.new[index] if index < len(self.new) else ()
        return tuple(name for name in new if index or name not in self.by_hand)


def stage_sizes(n_stages: int, n_kidneys: int) -> tuple[int, ...]:
    """Kidneys labelled by the end of each stage, the test kidneys' share among them.

    Three stages of 50 kidneys have 20, 40 and 50, as published; other numbers of stages go from 20 to 50 in
    equal steps, a single one has all, other cohorts are in proportion. Raises ValueError when a stage would
    add no kidney.
    """
    if n_stages < 1:
        raise ValueError(f"stage_sizes: need at least 1 stage, got {n_stages}")
    low, high = PUBLISHED_SIZES[0], PUBLISHED_SIZES[-1]
    of_50 = PUBLISHED_SIZES if n_stages == 3 else np.linspace(high if n_stages == 1 else low, high, n_stages)
    sizes = tuple(round(float(size) / high * n_kidneys) for size in of_50)
    training = [round(size * (1 - TEST_SHARE)) for size in sizes]
    if any(b <= a for a, b in zip((0, *training[:-1]), training, strict=True)) or n_kidneys < 2:
        raise ValueError(
            f"stage_sizes: {n_kidneys} kidneys are too few for {n_stages} stages, got sizes {sizes}"
        )
    return sizes


def make_plan(kidneys: Sequence[LabelledKidney], n_stages: int, seed: int, started: bool = False) -> Plan:
    """Patients dealt to test set and stages: the wanted numbers of kidneys first, RCC spread evenly second.

    A patient's cases and kidneys stay together; the best of 500 seeded shuffles is taken. started: a start
    model predicts the first stage's cases, so that none of them is labelled by hand. Raises ValueError when
    patients are too few for every group to get one.
    """
    sizes = stage_sizes(n_stages, len(kidneys))
    training = [round(size * (1 - TEST_SHARE)) for size in sizes]
    wanted = [
        len(kidneys) - training[-1] if n_stages > 1 or len(kidneys) == sizes[-1] else sizes[-1] - training[-1]
    ]
    wanted += [b - a for a, b in zip((0, *training[:-1]), training, strict=True)]
    of_patient: dict[str, list[LabelledKidney]] = {}
    for kidney in kidneys:
        of_patient.setdefault(kidney.patient, []).append(kidney)
    patients = sorted(of_patient)
    if len(patients) < len(wanted):
        raise ValueError(
            f"make_plan: {n_stages} stages and a test set need {len(wanted)} patients, got {len(patients)}"
        )
    counts = np.array([len(of_patient[p]) for p in patients])
    rcc = np.array([sum(k.has_rcc for k in of_patient[p]) for p in patients])
    rng = np.random.default_rng(seed)
    deals = [_deal(rng.permutation(len(patients)), counts, wanted) for _ in range(500)]
    best = min(deals, key=lambda groups: _cost(groups, counts, rcc, wanted))
    _fill_empty(best, counts, wanted)
    cases = [tuple(sorted({k.case for i in group for k in of_patient[patients[i]]})) for group in best]
    return Plan(cases[0], tuple(cases[1:]), () if started else cases[1])


def people_plan(
    labelled_kidneys: Sequence[LabelledKidney],
    unlabelled: dict[str, str],
    n_stages: int,
    seed: int,
    started: bool = False,
) -> Plan:
    """A fifth of the labelled kidneys for testing, the rest for stage 1, the cases without labels after it.

    unlabelled: patient of each case name. Patients stay on one side: cases of test patients are left out.
    started: a start model predicts for stage 1 too, which gets its share of the cases without labels; one
    labelled patient, for testing, is enough then. Raises ValueError when fewer patients have labels than
    needed, or a stage would get no case.
    """
    of_patient: dict[str, list[LabelledKidney]] = {}
    for kidney in labelled_kidneys:
        of_patient.setdefault(kidney.patient, []).append(kidney)
    patients = sorted(of_patient)
    if len(patients) < (fewest := 1 if started else 2):
        needed = f"{fewest} patient{'s' * (fewest > 1)}"
        raise ValueError(f"people_plan: need labelled cases of {needed} or more, got {len(patients)}")
    wanted = max(1, round(TEST_SHARE * len(labelled_kidneys)))
    test: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(patients)).tolist():
        if sum(len(of_patient[patient]) for patient in test) < wanted and len(test) <= len(patients) - fewest:
            test.add(patients[i])
    pool = [case for case, patient in unlabelled.items() if patient not in test]
    parts = n_stages if started else n_stages - 1
    if len(pool) < parts:
        raise ValueError(f"people_plan: {n_stages} stages need {parts} cases without labels, got {len(pool)}")
    tested = tuple(sorted({k.case for k in labelled_kidneys if k.patient in test}))
    first = tuple(sorted({k.case for k in labelled_kidneys if k.patient not in test}))
    later = [tuple(map(str, part)) for part in np.array_split(pool, parts)] if parts else []
    if started:
        return Plan(tested, ((*first, *later[0]), *later[1:]), first)
    return Plan(tested, (first, *later), first)


def _deal(order: np.ndarray, counts: np.ndarray, wanted: list[int]) -> list[list[int]]:
    """Patients in turn into the first group with room for all their kidneys, or else into the last."""
    groups: list[list[int]] = [[] for _ in wanted]
    room = list(wanted)
    left = []
    for patient in order.tolist():
        fits = next((g for g, r in enumerate(room) if r >= counts[patient]), None)
        if fits is None:
            left.append(patient)
            continue
        groups[fits].append(patient)
        room[fits] -= int(counts[patient])
    if sum(wanted) >= counts.sum():
        groups[-1] += left
    return groups


def _fill_empty(groups: list[list[int]], counts: np.ndarray, wanted: list[int]) -> None:
    """Give each empty group a patient who was not dealt, or one of the group with most kidneys too many.

    A place for one kidney stays empty where every patient who fits has two, or fits elsewhere first.
    """
    left = sorted(set(range(len(counts))).difference(*groups))
    for group in groups:
        if not group:
            givers = [(counts[g].sum() - w, g) for g, w in zip(groups, wanted, strict=True) if len(g) > 1]
            group.append((left or max(givers)[1]).pop())


def _cost(groups: list[list[int]], counts: np.ndarray, rcc: np.ndarray, wanted: list[int]) -> float:
    share = rcc.sum() / counts.sum()
    return sum(
        100 * abs(int(counts[g].sum()) - w) + abs(float(rcc[g].sum()) - share * w) + 1000 * (not g)
        for g, w in zip(groups, wanted, strict=True)
    )
