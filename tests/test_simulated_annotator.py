"""The simulated annotator: what it sees, what it leaves, what it costs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import AnnotatorConfig, CohortConfig
from kidseg_jax.imaging.reach import within
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC, URETER
from kidseg_jax.labelling.simulated_annotator import correct, manual_seconds
from kidseg_jax.phantom.cohort import make_case

SPACING = (1.25, 0.8, 0.8)
STEADY = AnnotatorConfig(tolerance_mm=1.5, tolerance_spread=1.0, time_spread=0.0)
EXACT = AnnotatorConfig(tolerance_mm=0.0, smallest_ml=0.0)


def ball(shape, centre, radius_mm, spacing_mm=SPACING):
    axes = np.meshgrid(
        *(np.arange(n) * s - c for n, s, c in zip(shape, spacing_mm, centre, strict=True)), indexing="ij"
    )
    return sum(a**2 for a in axes) <= radius_mm**2


def kidney(shape=(32, 40, 44)):
    labels = np.zeros(shape, np.uint8)
    labels[ball(shape, (20, 16, 17), 13)] = PARENCHYMA
    labels[ball(shape, (20, 12, 9), 5)] = RCC
    labels[14:18, 19:22, 34:44] = ARTERY
    labels[2:20, 28:30, 28:30] = URETER
    return labels


def random_labels(seed, shape=(7, 8, 9)):
    """Blocky random labels: regions, not salt and pepper."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, tuple(-(-n // 2) for n in shape), dtype=np.uint8)
    return np.kron(coarse, np.ones((2, 2, 2), np.uint8))[tuple(slice(n) for n in shape)]


def run(truth, predicted, config=STEADY, seed=0, spacing_mm=SPACING):
    return correct(truth, predicted, spacing_mm, config, np.random.default_rng(seed))


def dice(a, b, label):
    total = np.count_nonzero(a == label) + np.count_nonzero(b == label)
    return 2 * np.count_nonzero((a == label) & (b == label)) / total if total else 1.0


def distance_mm(mask):
    """Brute force: distance of every voxel's centre to the nearest voxel of the mask, which is a box."""
    far = np.full(mask.shape, np.inf)
    for z, y, x in np.argwhere(mask):
        axes = np.ogrid[tuple(slice(n) for n in mask.shape)]
        outside = (
            np.maximum(0, abs(a - i) - 0.5) * s for a, i, s in zip(axes, (z, y, x), SPACING, strict=True)
        )
        far = np.minimum(far, np.sqrt(sum(o**2 for o in outside)))
    return far


@pytest.mark.parametrize("seed", range(10))
def test_no_tolerance_gives_the_truth(seed):
    truth, predicted = random_labels(seed), random_labels(seed + 100)
    assert np.array_equal(run(truth, predicted, EXACT).labels, truth)


def test_a_right_prediction_costs_only_the_look():
    truth = kidney()
    result = run(truth, truth.copy())
    assert np.array_equal(result.labels, truth)
    assert result.seconds == dict.fromkeys(("artery", "ureter", "parenchyma", "rcc"), STEADY.look_over_s)
    assert set(result.voxels_added.values()) == set(result.voxels_removed.values()) == {0}
    assert result.simulated


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    tolerance_mm=st.sampled_from([0.0, 0.8, 1.5, 3.0]),
    smallest_ml=st.sampled_from([0.0, 0.004, 0.02]),
)
def test_a_correction_is_a_plausible_edit(seed, tolerance_mm, smallest_ml):
    truth, predicted = random_labels(seed), random_labels(seed + 1)
    before = (truth.copy(), predicted.copy())
    config = AnnotatorConfig(tolerance_mm=tolerance_mm, smallest_ml=smallest_ml)
    result = run(truth, predicted, config, seed)
    assert np.array_equal(truth, before[0]) and np.array_equal(predicted, before[1])
    assert np.all((result.labels == truth) | (result.labels == predicted))
    assert not np.any((result.labels != truth) & (predicted == truth))
    for label, name in enumerate(NAMES, 1):
        assert dice(result.labels, truth, label) >= dice(predicted, truth, label)
        added = np.count_nonzero((result.labels == label) & (predicted != label))
        removed = np.count_nonzero((result.labels != label) & (predicted == label))
        assert result.voxels_added.get(name, 0) == added
        assert result.voxels_removed.get(name, 0) == removed


def test_only_slips_and_specks_stay():
    """An error that stays lies within tolerance or in a region below the limit."""
    truth = kidney()
    predicted = np.roll(truth, (1, 1, -1), (0, 1, 2))
    predicted[truth == RCC] = 0
    result = run(truth, predicted)
    stays = result.labels != truth
    assert stays.any()
    deep = np.zeros_like(stays)
    for label in range(1, 6):
        for mask, where in ((predicted == label, truth == label), (truth == label, predicted == label)):
            deep |= stays & where & (~within(mask, STEADY.tolerance_mm, SPACING))
    regions = np.zeros(deep.shape, np.int32)
    ndimage.label(deep, np.ones((3, 3, 3)), output=regions)
    volumes_ml = np.bincount(regions.ravel())[1:] * np.prod(SPACING) / 1000
    assert np.all(volumes_ml < STEADY.smallest_ml)
    assert dice(result.labels, truth, RCC) > dice(predicted, truth, RCC)


def test_a_missing_a_false_and_a_wrong_structure_are_seen():
    truth = kidney()
    missing = np.where(truth == URETER, 0, truth).astype(np.uint8)
    assert np.array_equal(run(truth, missing).labels, truth)
    false = truth.copy()
    false[26:30, 2:8, 36:42] = RCC
    assert np.array_equal(run(truth, false).labels, truth)
    wrong = np.where(truth == RCC, PARENCHYMA, truth).astype(np.uint8)
    assert np.array_equal(run(truth, wrong).labels == RCC, truth == RCC)


def test_a_slip_of_one_voxel_and_a_speck_are_not_seen():
    truth = kidney()
    slip = truth.copy()
    slip[ball(truth.shape, (20, 16, 17), 13.7) & (truth == 0)] = PARENCHYMA
    slip[30, 36, 40] = RCC
    result = run(truth, slip)
    assert np.array_equal(result.labels, slip)
    assert result.seconds["parenchyma"] == STEADY.look_over_s


@pytest.mark.parametrize("seed", range(8))
def test_more_error_takes_more_time(seed):
    truth = kidney()
    rng = np.random.default_rng(seed)
    predicted, seconds = truth.copy(), []
    for _ in range(6):
        seconds.append(run(truth, predicted, AnnotatorConfig(), seed).seconds)
        wrong = ball(truth.shape, rng.uniform(0, 1, 3) * (38, 30, 34), rng.uniform(3, 8))
        predicted[wrong & (predicted == truth)] = 0
    for earlier, later in pairwise(seconds):
        assert all(later[name] >= earlier[name] for name in earlier)
    assert sum(seconds[-1].values()) > sum(seconds[0].values())


def test_one_seed_gives_one_result():
    truth, predicted = random_labels(1), random_labels(2)
    once, again = (run(truth, predicted, AnnotatorConfig(), 3) for _ in range(2))
    assert np.array_equal(once.labels, again.labels) and once.seconds == again.seconds
    assert run(truth, predicted, AnnotatorConfig(), 4).seconds != once.seconds


def test_the_time_of_a_block_is_the_written_law():
    """A block of 4 x 5 x 6 voxels: 4 slices of 2.5 mm count as 8, each with an outline of 34 mm."""
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[2:6, 2:7, 2:8] = ARTERY
    expected = (
        STEADY.look_over_s
        + 8 * STEADY.seconds_per_slice
        + 8 * 2 * (5 * 1.0 + 6 * 2.0) * STEADY.seconds_per_outline_mm[0]
        + 4 * 5 * 6 * 2.5 * 1.0 * 2.0 / 1000 * STEADY.seconds_per_ml
    )
    assert manual_seconds(labels, (2.5, 1.0, 2.0), STEADY) == {"artery": pytest.approx(expected, rel=1e-12)}
    from_nothing = run(
        labels, np.zeros_like(labels), replace(EXACT, time_spread=0.0), spacing_mm=(2.5, 1.0, 2.0)
    )
    assert from_nothing.seconds["artery"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reach_mm", [0.0, 0.4, 0.625, 1.2, 2.0, 5.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_within_is_a_distance(seed, reach_mm):
    mask = np.random.default_rng(seed).random((9, 10, 11)) < 0.01
    far = distance_mm(mask)
    assert np.array_equal(within(mask, reach_mm, SPACING), far <= reach_mm + 1e-9)


def test_bad_labels_are_refused():
    good = kidney()
    with pytest.raises(ValueError, match=r"correct: need labels of one shape, got \(32, 40, 44\) and"):
        run(good, good[1:])
    with pytest.raises(ValueError, match="got values 0 to 6"):
        run(good + (good == RCC), good)
    with pytest.raises(TypeError, match="predicted must hold integers, got float64"):
        run(good, good.astype(float))
    with pytest.raises(ValueError, match=r"AnnotatorConfig\.tolerance_mm: must not be negative"):
        AnnotatorConfig(tolerance_mm=-1)
    with pytest.raises(ValueError, match=r"slice_mm: must be above 0"):
        AnnotatorConfig(slice_mm=0)


def test_a_phantom_kidney_from_nothing_takes_about_the_published_minutes():
    """Kim et al. 2020, table 2, by hand. RCC is left out: its size varies too much for one case."""
    case = make_case(CohortConfig(), 0, 1)
    published_s = {"artery": 2468, "vein": 2101, "ureter": 1463, "parenchyma": 1586}
    for kidney in kidneys_of(case):
        seconds = manual_seconds(kidney.labels, case.ct.spacing_mm, AnnotatorConfig())
        for structure, expected in published_s.items():
            assert 0.5 < seconds[structure] / expected < 2
