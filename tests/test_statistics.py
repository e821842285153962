"""Statistics against SciPy, by hand, and on simulated data whose power is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy import stats as _scipy

from kidseg_jax.evaluation.statistics import (
    Estimate,
    cluster_means,
    detectable_range,
    format_p,
    holm,
    mean_of,
    minimum_detectable_difference,
    paired_test,
    saving_of,
    summarise,
    t_test_power,
    verdict,
)

stats: Any = _scipy


def alone(n: int) -> list[str]:
    return [f"patient {i}" for i in range(n)]


def test_summary_leaves_out_what_is_undefined():
    found = summarise([1.0, None, 3.0, float("nan"), 5.0])
    assert (found.n, found.mean, found.sd) == (3, 3.0, 2.0)
    assert summarise([None]).mean is None and summarise([2.0]).sd is None


@pytest.mark.parametrize("seed", range(5))
def test_p_values_are_scipys(seed):
    rng = np.random.default_rng(seed)
    before, after = rng.normal(60, 10, 12), rng.normal(63, 10, 12)
    found = paired_test(before.tolist(), after.tolist(), alone(12))
    assert found.p_t == pytest.approx(stats.ttest_rel(after, before).pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(after, before).pvalue)
    assert found.change.p == pytest.approx(found.p_t)  # one kidney a patient: nothing to cluster
    assert found.effect_size == pytest.approx((after - before).mean() / (after - before).std(ddof=1))


def test_undefined_pairs_are_left_out_and_not_counted():
    before, after = [1.0, None, 3.0, float("nan"), 6.0], [2.0, 5.0, 5.0, 1.0, 9.0]
    found = paired_test(before, after, alone(5))
    assert found.change.n == 3 and found.change.value == pytest.approx(2.0)
    assert found.p_t == pytest.approx(stats.ttest_rel([2, 5, 9], [1, 3, 6]).pvalue)


def test_too_little_data_gives_none_not_nan():
    for values in ([], [1.0]):
        found = paired_test(values, values, alone(len(values)))
        assert (found.p_t, found.p_wilcoxon, found.change.interval, found.detectable) == (None,) * 4
    shifted = paired_test([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], alone(3))
    assert shifted.change.value == pytest.approx(1.0) and shifted.p_t is None and shifted.effect_size is None
    same = paired_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], alone(3))
    assert same.p_t == 1.0 and same.p_wilcoxon == 1.0
    with pytest.raises(ValueError, match="one patient per pair"):
        paired_test([1.0], [1.0], [])


def test_two_patients_and_kidneys_that_do_not_change_are_no_trouble():
    two = paired_test([0.0, 0.0], [0.0, 0.1], ["a", "b"])
    assert two.p_t == pytest.approx(0.5) and two.detectable is not None and two.detectable[1] > 0.1
    tied = paired_test([0, 0, 0, 0.2, 0.3, 0.4], [0, 0, 0.1, 0.3, 0.3, 0.6], alone(6))
    assert tied.p_wilcoxon is not None and 0 < tied.p_wilcoxon < 1


def test_both_kidneys_of_a_patient_count_once():
    rng = np.random.default_rng(3)
    change = np.repeat(rng.normal(1, 2, 8), 2)  # both kidneys of a patient change alike
    patients = [f"p{i // 2}" for i in range(16)]
    found = paired_test([0.0] * 16, change.tolist(), patients)
    assert found.change.patients == 8 and found.change.n == 16
    assert found.change.p == pytest.approx(stats.ttest_1samp(change[::2], 0).pvalue)
    assert found.p_t is not None and found.change.p is not None and found.p_t < found.change.p
    low, high = stats.ttest_1samp(change[::2], 0).confidence_interval(0.95)
    assert found.change.interval == (pytest.approx(low), pytest.approx(high))
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(change[::2]).pvalue)


def test_the_variance_and_its_freedom_are_cr2_written_out_with_matrices():
    """Against the definition: A_g is the symmetric root of (I - H)_gg, freedom that of Q'Q."""
    rng = np.random.default_rng(5)
    groups = np.array([*"aabcccddef"])
    values = rng.normal(2, 1, 10)
    n, ones = 10, np.ones((10, 1))
    annihilator = np.eye(n) - ones @ ones.T / n
    meat, columns = 0.0, []
    for group in np.unique(groups):
        own = groups == group
        root = linalg.inv(np.real(linalg.sqrtm(annihilator[np.ix_(own, own)])))
        score = root @ np.ones(own.sum()) / n
        meat += float(score @ (values - values.mean())[own]) ** 2
        columns.append(annihilator[:, own] @ score)
    gram = np.array(columns) @ np.array(columns).T
    freedom = np.trace(gram) ** 2 / (gram**2).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(meat)
    found = mean_of(values, groups)
    assert found.interval == (pytest.approx(values.mean() - half), pytest.approx(values.mean() + half))
    assert found.p == pytest.approx(2 * stats.t.sf(values.mean() / np.sqrt(meat), freedom))


@pytest.mark.parametrize("patients", [6, 7, 10, 20])
def test_intervals_cover_and_tests_hold_their_level_for_few_patients(patients):
    """800 studies of patients with one or two kidneys that are alike; three standard errors are 0.023."""
    rng, repeats = np.random.default_rng(100 + patients), 800
    covered = {"mean": 0, "skewed": 0, "saving": 0, "paired saving": 0}
    claimed = 0
    for _ in range(repeats):
        (one, owners), (two, others) = (_kidneys(rng, patients) for _ in range(2))
        mean = mean_of(one, owners)
        claimed += mean.p is not None and mean.p <= 0.05
        covered["mean"] += _holds(mean, 0.0)
        covered["skewed"] += _holds(mean_of(*_kidneys(rng, patients, skewed=True)), 0.0)
        by_hand = 2000 * np.exp(0.3 * one)
        covered["saving"] += _holds(saving_of(by_hand, owners, 1000 * np.exp(0.3 * two), others), 0.5)
        again = 0.5 * by_hand * np.exp(0.3 * rng.normal(size=len(one)) - 0.045)
        covered["paired saving"] += _holds(saving_of(by_hand, owners, again, owners), 0.5)
    slack = 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert abs(covered["mean"] / repeats - 0.95) < slack
    assert claimed == repeats - covered["mean"]
    assert min(covered["saving"], covered["paired saving"]) / repeats > 0.94 - slack
    assert covered["skewed"] / repeats > 0.92 - slack  # what a t interval gives away at a skewness of 2


def _kidneys(rng: np.random.Generator, patients: int, skewed: bool = False) -> tuple[np.ndarray, list[str]]:
    """Values of variance 1.49 of patients with one or two kidneys each, alike with a correlation of 0.67."""
    owners = np.repeat(np.arange(patients), rng.integers(1, 3, patients))
    of_patient, of_kidney = (
        rng.exponential(size=n) - 1 if skewed else rng.normal(size=n) for n in (patients, len(owners))
    )
    values = of_patient[owners] + 0.7 * of_kidney
    return values, [str(owner) for owner in owners]


def _holds(found: Estimate, truth: float) -> bool:
    assert found.interval is not None
    return found.interval[0] <= truth <= found.interval[1]


def test_a_true_difference_of_this_size_lies_in_the_detectable_range():
    sd, n, repeats = 4.0, 7, 500
    truth = minimum_detectable_difference(sd, n)
    assert truth is not None
    rng = np.random.default_rng(0)
    ranges = [detectable_range(rng.normal(0, sd, n)) for _ in range(repeats)]
    held = np.mean([found is not None and found[0] <= truth <= found[1] for found in ranges])
    assert held == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / repeats))
    assert detectable_range(np.ones(5)) is None and detectable_range(np.zeros(0)) is None


def test_the_means_over_kidneys_and_over_patients_may_differ_in_sign():
    found = paired_test([0.0] * 4, [-1.0, -1.0, -1.0, 2.0], ["a", "a", "a", "b"])
    assert found.change.value == -0.25 and found.over_patients == 0.5


def test_an_estimate_needs_two_patients_and_leaves_out_what_is_undefined():
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None]
    assert mean_of(values, [*"aabbccc"]).n == 6
    alone_ = mean_of([1.0, 2.0], ["a", "a"])
    assert (alone_.value, alone_.interval, alone_.p) == (1.5, None, None)
    assert mean_of([], []).value is None
    assert saving_of([2.0], ["a"], [1.0], ["b"]).value == 0.5
    assert saving_of([2.0], ["a"], [1.0], ["b"]).interval is None
    assert saving_of([], [], [1.0], ["b"]).value is None
    assert saving_of([2.0, 3.0], ["a", "b"], [0.0, 0.0], ["a", "b"]).value == 1.0
    assert cluster_means(np.arange(6.0), np.array([*"aabbcc"])).tolist() == [0.5, 2.5, 4.5]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, None]) == [
        pytest.approx(0.03),
        pytest.approx(0.06),
        pytest.approx(0.06),
        None,
    ]
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_p_and_keeps_their_order(p_values):
    adjusted = np.array(holm(p_values), dtype=float)
    assert (adjusted >= np.array(p_values) - 1e-12).all() and adjusted.max() <= 1
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("n", [5, 10, 30])
def test_detectable_difference_is_found_in_four_of_five_simulated_studies(n):
    sd, repeats = 7.0, 4000
    difference = minimum_detectable_difference(sd, n)
    assert difference is not None
    changes = np.random.default_rng(n).normal(difference, sd, (repeats, n))
    found = np.mean(stats.ttest_1samp(changes, 0, axis=1).pvalue <= 0.05)
    assert found == pytest.approx(0.8, abs=0.02)  # 3 standard errors of 4000 repeats
    assert t_test_power(0.0, n) == pytest.approx(0.05, abs=1e-4)
    critical, shift = stats.t.ppf(0.975, n - 1), 0.6 * np.sqrt(n)
    noncentral = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert t_test_power(0.6, n) == pytest.approx(noncentral, abs=1e-4)


def test_detectable_difference_shrinks_with_n_and_is_none_without_spread():
    sizes = [minimum_detectable_difference(1.0, n) for n in (3, 6, 12, 24)]
    assert sizes == sorted(sizes, reverse=True)  # pyright: ignore[reportArgumentType]
    assert minimum_detectable_difference(None, 9) is None and minimum_detectable_difference(1.0, 1) is None


def test_words_follow_the_numbers():
    rng = np.random.default_rng(0)
    before = rng.normal(60, 5, 10)
    noise = rng.normal(0, 2, 10)
    flat = paired_test(before.tolist(), (before + noise - noise.mean()).tolist(), alone(10))
    assert verdict(flat.change, flat.change.p).startswith("no difference shown, +0.0 points (95 % CI -")
    up = paired_test(before.tolist(), (before + 9 + noise).tolist(), alone(10))
    said = verdict(up.change, up.change.p)
    assert said.startswith("better, +") and said.endswith("p < 0.001")
    assert verdict(up.change, 0.06).startswith("no difference shown, +")
    down = paired_test((before + 9 + noise).tolist(), before.tolist(), alone(10))
    assert verdict(down.change, down.change.p).startswith("worse, -")
    nothing = paired_test([None], [1.0], ["a"])
    assert verdict(nothing.change, nothing.change.p).startswith("not measured")
    single = paired_test([1.0], [2.0], ["a"])
    assert verdict(single.change, single.change.p).startswith("no test possible (n = 1)")
    assert (format_p(0.0004), format_p(0.05)) == ("p < 0.001", "p = 0.050")
