"""Is a difference shown? Intervals and tests that take the kidneys of a patient as dependent, and words.

Every interval of the project is one of `mean_of` or `saving_of`: a t interval with the variance and the
degrees of freedom of CR2 over patients, which covers for few patients, where a percentile bootstrap does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import optimize, special, stats

ALPHA = 0.05


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of n defined values; None where n is too small for it."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Estimate:
    """A mean over kidneys, or a share saved, with its 95 % interval; p is that of a mean of zero.

    The interval and p take values of one patient as dependent (CR2); None with fewer than two patients or
    without any spread.
    """

    n: int
    patients: int
    value: float | None
    interval: tuple[float, float] | None = None
    p: float | None = None


@dataclass(frozen=True)
class PairedTest:
    """After against before on the same kidneys; None where n or the spread is too small for a number.

    change is the mean over kidneys of after - before, in the unit of the values, with interval and p over
    patients; over_patients the mean over patients of their kidneys' means, which may have another sign.
    effect_size is the change over its SD (Cohen's d_z). p_t is the published paired t-test over kidneys as if
    they were independent, p_wilcoxon the signed-rank test over patients' means. detectable: see
    `detectable_range`.
    """

    change: Estimate
    over_patients: float | None
    effect_size: float | None
    p_t: float | None
    p_wilcoxon: float | None
    detectable: tuple[float, float] | None


def summarise(values: Sequence[float | None]) -> Summary:
    """Mean and SD (n - 1) of the values that are defined: None and NaN are left out and not counted."""
    defined = _defined(values)
    n = len(defined)
    return Summary(n, float(defined.mean()) if n else None, float(defined.std(ddof=1)) if n > 1 else None)


def paired_test(
    before: Sequence[float | None], after: Sequence[float | None], patients: Sequence[str]
) -> PairedTest:
    """Every statistic of one comparison.

    before, after, patients: one entry per kidney, in one order. A pair with an undefined member (None, NaN)
    is left out. Raises ValueError when lengths differ.
    """
    if not len(before) == len(after) == len(patients):
        raise ValueError(
            f"paired_test: need one patient per pair, got {len(before)}, {len(after)} and {len(patients)}"
        )
    change = _array(after) - _array(before)
    keep = np.isfinite(change)
    change, groups = change[keep], np.asarray(patients, dtype=str)[keep]
    per_patient = cluster_means(change, groups)
    sd = _spread(change)
    return PairedTest(
        change=mean_of(change, groups),
        over_patients=float(per_patient.mean()) if len(per_patient) else None,
        effect_size=float(change.mean() / sd) if sd else None,
        p_t=_t_test(change),
        p_wilcoxon=_wilcoxon(per_patient),
        detectable=detectable_range(per_patient),
    )


def mean_of(values: Sequence[float | None] | np.ndarray, patients: Sequence[str] | np.ndarray) -> Estimate:
    """The mean over kidneys with an interval and a p-value that hold when kidneys of a patient are alike.

    values, patients: (n,), one entry per kidney; None and NaN are left out. The variance is CR2, t has
    Satterthwaite's degrees of freedom: the t-test over patients' means where all have as many kidneys. Values
    that are all zero have p = 1.
    """
    array = _array(values)
    keep = np.isfinite(array)
    array, groups = array[keep], np.asarray(patients, dtype=str)[keep]
    n_patients = len(np.unique(groups))
    if not len(array):
        return Estimate(0, 0, None)
    mean = float(array.mean())
    if n_patients < 2 or not _spread(array):
        p = 1.0 if n_patients > 1 and not array.any() else None
        return Estimate(len(array), n_patients, mean, None, p)
    error, freedom = _cr2(np.ones((len(array), 1)), array - mean, groups, np.ones(1))
    if error <= 1e-12 * max(1.0, float(np.abs(array).max())):
        return Estimate(len(array), n_patients, mean)
    half = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Estimate(len(array), n_patients, mean, (mean - half, mean + half), p)


def saving_of(
    before: Sequence[float] | np.ndarray,
    before_patients: Sequence[str],
    after: Sequence[float] | np.ndarray,
    after_patients: Sequence[str],
) -> Estimate:
    """The share saved, 1 - mean after / mean before over kidneys, with its 95 % interval; p is None.

    Times (n,) > 0 of kidneys and their patients on either side; the same patients may stand on both. The
    interval is that of the logarithm of the ratio, linearised, with CR2 over patients; None with fewer than
    two patients on a side. n counts the kidneys after.
    """
    times = np.array([*before, *after], dtype=float)
    later = np.arange(len(times)) >= len(before)
    groups = np.array([*before_patients, *after_patients], dtype=str)
    patients = min(len(set(before_patients)), len(set(after_patients)))
    if not patients or times[~later].mean() <= 0:
        return Estimate(len(after), patients, None)
    means = np.array([times[~later].mean(), times[later].mean()])
    ratio = means[1] / means[0]
    if patients < 2 or ratio <= 0:
        return Estimate(len(after), patients, float(1 - ratio))
    design = np.stack([~later, later], axis=1).astype(float)
    error, freedom = _cr2(design, times - design @ means, groups, np.array([-1, 1]) / means)
    factor = float(np.exp(stats.t.ppf(1 - ALPHA / 2, freedom) * error))
    return Estimate(len(after), patients, float(1 - ratio), (1 - ratio * factor, 1 - ratio / factor))


def _cr2(
    design: np.ndarray, residuals: np.ndarray, groups: np.ndarray, gradient: np.ndarray
) -> tuple[float, float]:
    """Standard error and degrees of freedom of gradient . coefficients after least squares, by cluster.

    design: (n, k), residuals and groups: (n,), gradient: (k,). Source: Bell and McCaffrey 2002, Survey
    Methodology 28, with independent errors of one variance as the working model.
    """
    bread = np.linalg.inv(design.T @ design)
    share = design @ bread @ gradient
    variance, weights, rows = 0.0, [], []
    for group in np.unique(groups):
        own = groups == group
        x = design[own]
        values, vectors = np.linalg.eigh(np.eye(len(x)) - x @ bread @ x.T)
        inverse = np.where(values > 1e-10, values.clip(1e-10) ** -0.5, 0.0)
        adjusted = vectors @ (inverse * (vectors.T @ share[own]))
        variance += float(adjusted @ residuals[own]) ** 2
        weights.append(adjusted @ adjusted)
        rows.append(adjusted @ x)
    spread = np.diag(weights) - np.array(rows) @ bread @ np.array(rows).T
    return float(np.sqrt(variance)), float(np.trace(spread) ** 2 / (spread**2).sum())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm-adjusted p-values in the same order; None stays None and does not count as a test.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    p = _array(p_values)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted: list[float | None] = [None] * len(p)
    for index, value in zip(order, np.minimum(np.maximum.accumulate(steps), 1.0), strict=True):
        adjusted[index] = float(value)
    return adjusted


def detectable_range(per_patient: np.ndarray) -> tuple[float, float] | None:
    """The smallest difference that a t-test over so many patients finds in 80 % of repeats, from and to.

    per_patient: (n,) differences. From and to are for the ends of the 95 % interval of their SD (chi-square),
    since few patients hardly tell it. None without spread.
    """
    n, sd = len(per_patient), _spread(per_patient)
    if not sd:
        return None
    ends = np.sqrt((n - 1) / stats.chi2.ppf([1 - ALPHA / 2, ALPHA / 2], n - 1))
    low, high = (minimum_detectable_difference(float(sd * end), n) for end in ends)
    assert low is not None and high is not None
    return low, high


def minimum_detectable_difference(
    sd: float | None, n: int, *, alpha: float = ALPHA, power: float = 0.8
) -> float | None:
    """The mean difference that a two-sided paired t-test of n pairs with this SD of differences finds with
    `power`.

    In the unit of sd. None with fewer than two pairs or no spread.
    """
    if n < 2 or not sd:
        return None

    def shortfall(effect: float) -> float:
        return t_test_power(effect, n, alpha=alpha) - power

    return float(sd * _root(shortfall))


def t_test_power(effect: float, n: int, *, alpha: float = ALPHA) -> float:
    """Power of a two-sided paired t-test of n >= 2 pairs at a standardised effect (mean over SD), to 1e-4.

    The noncentral t as a mean over the spreads that a sample may show: SciPy's own gives NaN at n = 2.
    """
    limit, shift = _limits(n, alpha), effect * np.sqrt(n)
    return float(np.mean(special.ndtr(shift - limit) + special.ndtr(-shift - limit)))


@lru_cache(maxsize=64)
def _limits(n: int, alpha: float) -> np.ndarray:
    shares = (np.arange(4096) + 0.5) / 4096
    return stats.t.ppf(1 - alpha / 2, n - 1) * np.sqrt(stats.chi2.ppf(shares, n - 1) / (n - 1))


def cluster_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean value of each group, in order of group name."""
    if not len(values):
        return np.zeros(0)
    _, inverse = np.unique(groups, return_inverse=True)
    return np.bincount(inverse, values) / np.bincount(inverse)


def verdict(change: Estimate, p: float | None, unit: str = "points") -> str:
    """What is claimed of a change: a direction only when p <= 0.05; then its mean and its interval."""
    if change.value is None:
        return "not measured: no pair is defined at both stages"
    moved = f"{change.value:+.1f} {unit}{format_interval(change.interval, '+.1f')}"
    if p is None:
        return f"no test possible (n = {change.n}), {moved}"
    claim = "no difference shown" if p > ALPHA else "better" if change.value > 0 else "worse"
    return f"{claim}, {moved}, {format_p(p)}"


def format_interval(interval: tuple[float, float] | None, form: str) -> str:
    """ " (95 % CI 1.2 to 3.4)", or "" without one."""
    return "" if interval is None else f" (95 % CI {interval[0]:{form}} to {interval[1]:{form}})"


def format_p(p: float) -> str:
    """ "p = 0.012", to three decimals, or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _t_test(change: np.ndarray) -> float | None:
    if len(change) < 2 or not _spread(change):
        return 1.0 if len(change) > 1 and not change.any() else None
    result: Any = stats.ttest_1samp(change, 0.0)
    return float(result.pvalue)


def _wilcoxon(change: np.ndarray) -> float | None:
    if len(change) < 2:
        return None
    result: Any = stats.wilcoxon(change) if change.any() else None
    return 1.0 if result is None else float(result.pvalue)


def _spread(values: np.ndarray) -> float | None:
    """Sample SD, or None where it is undefined or nothing but rounding."""
    if len(values) < 2:
        return None
    sd = float(values.std(ddof=1))
    return sd if sd > 1e-12 * max(1.0, float(np.abs(values).max())) else None


def _root(function: Callable[[float], float]) -> float:
    high = 1.0
    while function(high) < 0:
        high *= 2
    root: Any = optimize.brentq(function, 0.0, high, xtol=1e-10)
    return float(root)


def _array(values: Sequence[float | None] | np.ndarray) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _defined(values: Sequence[float | None]) -> np.ndarray:
    array = _array(values)
    return array[np.isfinite(array)]
