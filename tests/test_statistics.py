"""Statistics against SciPy, by hand, and on simulated data whose power is known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as _scipy

from kidseg_jax.evaluation.statistics import (
    bootstrap_ci,
    cluster_means,
    format_p,
    holm,
    minimum_detectable_difference,
    paired_test,
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
    assert found.p_clustered == pytest.approx(found.p_t)  # one kidney a patient: nothing to cluster
    assert found.effect_size == pytest.approx((after - before).mean() / (after - before).std(ddof=1))


def test_undefined_pairs_are_left_out_and_not_counted():
    before, after = [1.0, None, 3.0, float("nan"), 6.0], [2.0, 5.0, 5.0, 1.0, 9.0]
    found = paired_test(before, after, alone(5))
    assert found.n == 3 and found.difference == pytest.approx(2.0)
    assert found.p_t == pytest.approx(stats.ttest_rel([2, 5, 9], [1, 3, 6]).pvalue)


def test_too_little_data_gives_none_not_nan():
    for values in ([], [1.0]):
        found = paired_test(values, values, alone(len(values)))
        assert (found.p_t, found.p_wilcoxon, found.ci, found.detectable) == (None,) * 4
    shifted = paired_test([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], alone(3))
    assert shifted.difference == pytest.approx(1.0) and shifted.p_t is None and shifted.effect_size is None
    same = paired_test([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], alone(3))
    assert same.p_t == 1.0 and same.p_wilcoxon == 1.0
    with pytest.raises(ValueError, match="one patient per pair"):
        paired_test([1.0], [1.0], [])


def test_two_patients_and_kidneys_that_do_not_change_are_no_trouble():
    two = paired_test([0.0, 0.0], [0.0, 0.1], ["a", "b"])
    assert two.p_t == pytest.approx(0.5) and two.detectable is not None and two.detectable > 0.1
    tied = paired_test([0, 0, 0, 0.2, 0.3, 0.4], [0, 0, 0.1, 0.3, 0.3, 0.6], alone(6))
    assert tied.p_wilcoxon is not None and 0 < tied.p_wilcoxon < 1


def test_both_kidneys_of_a_patient_count_once_in_the_clustered_test():
    rng = np.random.default_rng(3)
    change = np.repeat(rng.normal(1, 2, 8), 2)  # both kidneys of a patient change alike
    patients = [f"p{i // 2}" for i in range(16)]
    found = paired_test([0.0] * 16, change.tolist(), patients)
    assert found.patients == 8 and found.n == 16
    assert found.p_clustered == pytest.approx(stats.ttest_1samp(change[::2], 0).pvalue)
    assert found.p_t is not None and found.p_clustered is not None and found.p_t < found.p_clustered
    assert found.ci is not None
    apart = bootstrap_ci(change, np.arange(16).astype(str))
    assert apart is not None and found.ci[1] - found.ci[0] > 1.2 * (apart[1] - apart[0])


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    hits = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(30), 2)
        values = np.repeat(rng.normal(5, 2, 30), 2) + rng.normal(0, 1, 60)
        interval = bootstrap_ci(values, groups, seed=seed, resamples=600)
        assert interval is not None
        hits += interval[0] <= 5 <= interval[1]
    assert 0.90 <= hits / 300 <= 0.98


def test_bootstrap_follows_its_seed_and_needs_two_groups():
    values, groups = np.arange(6.0), np.array(["a", "a", "b", "b", "c", "c"])
    assert bootstrap_ci(values, groups, seed=1) == bootstrap_ci(values, groups, seed=1)
    assert bootstrap_ci(values, np.repeat("a", 6)) is None
    assert cluster_means(values, groups).tolist() == [0.5, 2.5, 4.5]


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
    assert verdict(flat, flat.p_t).startswith("no difference shown (p = ")
    up = paired_test(before.tolist(), (before + 9 + noise).tolist(), alone(10))
    assert verdict(up, up.p_t).startswith("better by") and "p < 0.001" in verdict(up, up.p_t)
    down = paired_test((before + 9 + noise).tolist(), before.tolist(), alone(10))
    assert verdict(down, down.p_t).startswith("worse by")
    nothing = paired_test([None], [1.0], ["a"])
    assert verdict(nothing, nothing.p_t).startswith("not measured")
    single = paired_test([1.0], [2.0], ["a"])
    assert verdict(single, single.p_t).startswith("no test possible (n = 1)")
    assert (format_p(0.0004), format_p(0.05)) == ("p < 0.001", "p = 0.050")
