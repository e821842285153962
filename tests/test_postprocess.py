"""Rules for label maps: what goes, what stays, each by itself; nothing that is plausible goes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import CohortConfig
from kidseg_jax.imaging.postprocess import DEFAULT, NOTHING, RULES, VARIANTS, Rules, apply, split_sides
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.phantom.cohort import make_case

SPACING = (1.0, 1.0, 1.0)


def only(*rules, gap_mm=3.0, **settings):
    return replace(NOTHING, **dict.fromkeys(rules, True), gap_mm=gap_mm, **settings)


def kidney():
    labels = np.zeros((20, 20, 40), np.uint8)
    labels[5:15, 5:15, 5:15] = PARENCHYMA
    labels[9:11, 9:11, 15:22] = ARTERY
    labels[9:11, 11:13, 15:22] = VEIN
    labels[2:8, 6:8, 15:17] = URETER
    labels[5:8, 2:5, 5:8] = RCC
    return labels


def changed(labels, rules):
    return np.argwhere(apply(labels, SPACING, rules) != labels)


@pytest.mark.parametrize("rule", RULES)
def test_a_whole_kidney_passes_every_rule(rule):
    labels = kidney()
    assert np.array_equal(apply(labels, SPACING, only(rule)), labels)


def test_a_stray_piece_of_each_label_is_dropped_by_its_own_rule_alone():
    for label, rule in {
        PARENCHYMA: "one_parenchyma",
        RCC: "masses_attached",
        ARTERY: "vessels_touch",
        VEIN: "vessels_touch",
        URETER: "vessels_touch",
    }.items():
        labels = kidney()
        labels[16:18, 16:18, 30:33] = label
        assert np.array_equal(apply(labels, SPACING, only(rule)), kidney())
        others = [other for other in RULES if other not in (rule, "largest_kidney")]
        assert np.array_equal(apply(labels, SPACING, only(*others)), labels)
        assert np.array_equal(apply(labels, SPACING, NOTHING), labels)


def test_the_largest_kidney_stays_with_its_mass_and_nothing_else_of_both():
    labels = kidney()
    expected = labels.copy()
    labels[0:10, 0:10, 25:35] = RCC  # as large as the kidney: 1000 voxels, and not attached
    labels[17:19, 17:19, 2:5] = PARENCHYMA
    labels[17, 2, 2] = expected[17, 2, 2] = VEIN
    assert np.array_equal(apply(labels, SPACING, DEFAULT), expected)
    assert np.array_equal(apply(labels, SPACING, NOTHING), labels)


def test_a_large_detached_mass_stays():
    labels = kidney()
    labels[0:10, 0:10, 25:35] = RCC  # 1 ml
    assert changed(labels, only("masses_attached", detached_rcc_ml=1.001)).shape[0] == 1000
    assert len(changed(labels, only("masses_attached", detached_rcc_ml=1.0))) == 0


def test_vessels_reach_their_kidney_over_small_gaps_and_over_each_other():
    labels = kidney()
    labels[9:11, 9:11, 15:18] = 0  # the artery now begins 4 mm away from centre to centre, beside the vein
    assert len(changed(labels, only("vessels_touch", gap_mm=0.0))) == 0
    labels[9:11, 11:13, 15:22] = 0
    assert len(changed(labels, only("vessels_touch", gap_mm=3.9))) == 2 * 2 * 4
    assert len(changed(labels, only("vessels_touch", gap_mm=4.0))) == 0


def test_a_kidney_replaced_by_its_tumour_keeps_tumour_and_vessels():
    labels = kidney()
    labels[labels == PARENCHYMA] = RCC
    assert np.array_equal(apply(labels, SPACING, Rules()), labels)
    vessels = np.where(np.isin(labels, (ARTERY, VEIN)), labels, 0).astype(np.uint8)
    assert np.array_equal(apply(vessels, SPACING, Rules()), vessels)
    empty = np.zeros_like(labels)
    assert np.array_equal(apply(empty, SPACING, Rules()), empty)


def test_parenchyma_cut_in_two_by_a_tumour_stays():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:10, 2:10, 2:10] = PARENCHYMA
    labels[5:7, 2:10, 2:10] = RCC
    assert np.array_equal(apply(labels, SPACING, Rules()), labels)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), rules=st.sets(st.sampled_from(RULES)))
def test_rules_only_remove_and_twice_is_once(seed, rules):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 6, (3, 4, 4), np.uint8), np.ones((2, 2, 2), np.uint8))
    labels[rng.random(labels.shape) < 0.3] = 0
    before = labels.copy()
    rules = only(*rules, detached_rcc_ml=0.01, gap_mm=1.0)
    once = apply(labels, SPACING, rules)
    assert np.array_equal(labels, before)
    assert np.all((once == labels) | (once == 0))
    assert np.array_equal(apply(once, SPACING, rules), once)


def test_phantom_truths_pass_every_rule():
    """The rules hold for the anatomy that the phantoms are built on."""
    case = make_case(CohortConfig(), 0, 1)
    for kidney_found in kidneys_of(case):
        labels = kidney_found.labels
        assert np.array_equal(apply(labels, case.ct.spacing_mm, Rules()), labels)


def test_what_both_sides_claim_goes_to_the_nearer_kidney():
    right, left = np.zeros((4, 4, 30), np.uint8), np.zeros((4, 4, 30), np.uint8)
    right[:, :, 2:8] = PARENCHYMA
    left[:, :, 22:28] = PARENCHYMA
    right[1:3, 1:3, 8:22] = left[1:3, 1:3, 8:22] = VEIN
    a, b = split_sides(right, left, SPACING, Rules())
    assert not ((a > 0) & (b > 0)).any()
    assert np.array_equal((a > 0) | (b > 0), (right > 0) | (left > 0))
    assert np.flatnonzero((a == VEIN).any((0, 1))).tolist() == list(range(8, 15))
    assert np.flatnonzero((b == VEIN).any((0, 1))).tolist() == list(range(15, 22))
    a, b = split_sides(right, left, SPACING, NOTHING)
    assert np.array_equal(a, right) and not (b == VEIN).any()
    with pytest.raises(ValueError, match="must lie on one grid"):
        split_sides(right, left[1:], SPACING, Rules())


def test_the_variants_hold_each_rule_alone_and_beside_the_default():
    labels = kidney()
    labels[16:18, 16:18, 30:33] = ARTERY
    labels[1:3, 16:18, 30:33] = RCC
    counts = {
        name: {"artery": float((apply(labels, SPACING, replace(rules, gap_mm=3.0)) == ARTERY).sum())}
        for name, rules in VARIANTS.items()
    }
    artery = {name: row["artery"] for name, row in counts.items()}
    assert list(artery)[:2] == ["none", "largest_kidney"] and list(artery)[-1] == "all"
    cut = {name for name, voxels in artery.items() if voxels == 28.0}
    assert cut == {"vessels_touch", "largest_kidney and vessels_touch", "all"}
    assert {voxels for name, voxels in artery.items() if name not in cut} == {40.0}


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"Rules\.gap_mm: must not be negative, got -1"):
        Rules(gap_mm=-1)
