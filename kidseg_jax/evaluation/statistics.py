"""Is a difference shown? Paired tests, corrected and clustered, and words that follow the numbers."""

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
class PairedTest:
    """After against before on the same kidneys; None where n or the spread is too small for a number.

    difference is mean(after - before), in the unit of the values; effect_size is that over its SD (Cohen's
    d_z). p_t is the published paired t-test over kidneys; p_wilcoxon the signed-rank test over kidneys;
    p_clustered the t-test over patients' mean differences; ci the 95 % bootstrap interval that draws
    patients, not kidneys; detectable the smallest difference that p_clustered's test finds in 80 % of repeats
    at this n and spread.
    """

    n: int
    patients: int
    difference: float | None
    ci: tuple[float, float] | None
    effect_size: float | None
    p_t: float | None
    p_wilcoxon: float | None
    p_clustered: float | None
    detectable: float | None


def summarise(values: Sequence[float | None]) -> Summary:
    """Mean and SD (n - 1) of the values that are defined: None and NaN are left out and not counted."""
    defined = _defined(values)
    n = len(defined)
    return Summary(n, float(defined.mean()) if n else None, float(defined.std(ddof=1)) if n > 1 else None)


def paired_test(
    before: Sequence[float | None],
    after: Sequence[float | None],
    patients: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 10_000,
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
        n=len(change),
        patients=len(per_patient),
        difference=float(change.mean()) if len(change) else None,
        ci=bootstrap_ci(change, groups, seed=seed, resamples=resamples),
        effect_size=float(change.mean() / sd) if sd else None,
        p_t=_t_test(change),
        p_wilcoxon=_wilcoxon(change),
        p_clustered=_t_test(per_patient),
        detectable=minimum_detectable_difference(_spread(per_patient), len(per_patient)),
    )


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


def bootstrap_ci(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[float, float] | None:
    """Percentile interval of the mean; whole groups (patients) are drawn with replacement, so their kidneys
    stay together.

    values: (n,) finite; groups: (n,). None with fewer than two groups. The same seed gives the same interval.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    n_groups = int(inverse.max()) + 1 if len(inverse) else 0
    if n_groups < 2:
        return None
    sums, counts = np.bincount(inverse, values), np.bincount(inverse)
    drawn = np.random.default_rng(seed).integers(n_groups, size=(resamples, n_groups))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


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


def verdict(test: PairedTest, p: float | None, unit: str = "points") -> str:
    """One plain sentence: a difference is claimed only when p <= 0.05, and its direction is named."""
    if test.difference is None:
        return "not measured: no pair is defined at both stages"
    moved = f"{abs(test.difference):.2f} {unit}"
    if p is None:
        return f"no test possible (n = {test.n}); the mean moved by {test.difference:+.2f} {unit}"
    if p > ALPHA:
        return f"no difference shown ({format_p(p)}); the mean moved by {test.difference:+.2f} {unit}"
    return f"{'better' if test.difference > 0 else 'worse'} by {moved} ({format_p(p)})"


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


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _defined(values: Sequence[float | None]) -> np.ndarray:
    array = _array(values)
    return array[np.isfinite(array)]
