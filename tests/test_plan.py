"""Patients stay on one side of every split, whatever the cohort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cohort import one_voxel

from kidseg_jax.cohort.case import LabelledKidney, Side
from kidseg_jax.config import CohortConfig
from kidseg_jax.phantom.cohort import plan_cohort
from kidseg_jax.staging.plan import make_plan, stage_sizes


def published_cohort(seed: int) -> list[LabelledKidney]:
    kidneys = []
    for index, patient in enumerate(plan_cohort(CohortConfig(), seed)):
        for side in patient.sides:
            name: Side = "left" if side > 0 else "right"
            kidneys.append(one_voxel(f"case_{index:05d}", f"p{index}", name, side == patient.rcc_side))
    return kidneys


def some_cohort(counts: list[int], seed: int) -> list[LabelledKidney]:
    rng = np.random.default_rng(seed)
    sides: tuple[Side, ...] = ("right", "left")
    return [
        one_voxel(f"c{i}", f"p{i}", side, bool(rng.random() < 0.5))
        for i, n in enumerate(counts)
        for side in sides[:n]
    ]


def test_sizes_are_the_published_ones_for_three_stages():
    assert stage_sizes(3, 50) == (20, 40, 50)
    assert stage_sizes(2, 50) == (20, 50)
    assert stage_sizes(4, 50) == (20, 30, 40, 50)


@pytest.mark.parametrize("seed", range(5))
def test_published_cohort_is_dealt_as_published(seed):
    kidneys = published_cohort(seed)
    plan = make_plan(kidneys, 3, seed)
    groups = [[k for k in kidneys if k.case in cases] for cases in (plan.test, *plan.new)]
    assert [len(group) for group in groups] == [10, 16, 16, 8]
    for group in groups:  # 30 of 50 have RCC
        assert abs(sum(k.has_rcc for k in group) - 0.6 * len(group)) <= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 2), min_size=8, max_size=30), st.integers(1, 4), st.integers(0, 9))
def test_no_patient_on_two_sides_and_none_lost(counts, n_stages, seed):
    kidneys = some_cohort(counts, seed)
    plan = make_plan(kidneys, n_stages, seed)
    groups = [plan.test, *plan.new]
    dealt = [case for group in groups for case in group]
    assert len(dealt) == len(set(dealt))
    assert all(groups)
    assert set(dealt) == {k.case for k in kidneys}
    assert make_plan(kidneys, n_stages, seed) == plan


@pytest.mark.parametrize("seed", range(5))
def test_a_place_for_one_kidney_is_not_left_empty(seed):
    """Two patients of one kidney are both needed to fill the groups before the one that wants one kidney."""
    kidneys = some_cohort([1, 1, 2, 2, 2, 2, 2, 2], seed)
    plan = make_plan(kidneys, 4, seed)
    groups = [[k for k in kidneys if k.case in cases] for cases in (plan.test, *plan.new)]
    assert all(groups)
    assert sum(abs(len(group) - wanted) for group, wanted in zip(groups, (3, 5, 1, 3, 2), strict=True)) <= 2


def test_one_stage_learns_from_everyone_who_is_not_tested():
    kidneys = some_cohort([2, 2, 2], 0)
    plan = make_plan(kidneys, 1, 0)
    assert [len(cases) for cases in (plan.test, *plan.new)] == [1, 2]
    assert {*plan.test, *plan.new[0]} == {k.case for k in kidneys}


def test_too_few_kidneys_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match="2 kidneys are too few for 3 stages"):
        make_plan(some_cohort([1, 1], 0), 3, 0)
    with pytest.raises(ValueError, match="need at least 1 stage, got 0"):
        stage_sizes(0, 50)
