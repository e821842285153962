"""Metrics against hand counts, the surface-distance package and the KiTS definitions."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kidseg_jax.evaluation.kits import REGIONS, measure_kits
from kidseg_jax.evaluation.metrics import (
    KITS_TOLERANCES_MM,
    TOLERANCES_MM,
    crop_together,
    dice,
    measure,
    measure_kidney,
)
from kidseg_jax.imaging.structures import NAMES, PARENCHYMA, RCC

SPACING = (3.0, 0.8, 0.7)


def cube(lo, hi, shape=(12, 14, 16)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))] = True
    return mask


def test_dice_counts():
    a, b = cube((0, 0, 0), (2, 2, 2)), cube((1, 0, 0), (3, 2, 2))
    assert dice(a, b) == pytest.approx(2 * 4 / 16)
    assert dice(a, a) == 1.0 and dice(a, ~a) == 0.0
    assert dice(np.zeros_like(a), np.zeros_like(a)) is None


def test_volumes_and_shifts_by_hand():
    truth, predicted = cube((2, 2, 2), (6, 8, 8)), cube((2, 2, 4), (6, 8, 10))
    found = measure(truth, predicted, SPACING)
    voxel_ml = 3.0 * 0.8 * 0.7 / 1000
    assert found.truth_ml == pytest.approx(4 * 6 * 6 * voxel_ml)
    assert found.volume_error_ml == pytest.approx(0) and found.volume_error_percent == pytest.approx(0)
    assert found.hd_mm == pytest.approx(2 * 0.7)
    assert found.nsd_2mm == 1.0
    assert found.nsd_1mm is not None and 0 < found.nsd_1mm < 1
    larger = measure(truth, cube((2, 2, 2), (6, 8, 11)), SPACING)
    assert larger.volume_error_percent == pytest.approx(50.0)


def test_every_empty_case_is_defined():
    full, empty = cube((2, 2, 2), (6, 8, 8)), np.zeros((12, 14, 16), bool)
    neither = measure(empty, empty, SPACING)
    assert (neither.dsc, neither.nsd_1mm, neither.hd_mm, neither.surface_rms_mm) == (None,) * 4
    assert neither.truth_ml == 0 and neither.volume_error_percent is None
    for found in (measure(full, empty, SPACING), measure(empty, full, SPACING)):
        assert (found.dsc, found.nsd_2mm, found.hd_mm, found.hd95_mm, found.assd_mm) == (
            0,
            0,
            None,
            None,
            None,
        )
    assert measure(full, empty, SPACING).volume_error_percent == pytest.approx(-100)


def test_a_kidney_without_rcc_has_no_rcc_dsc_but_a_false_positive_volume():
    truth = cube((2, 2, 2), (8, 9, 10)).astype(np.uint8) * PARENCHYMA
    predicted = truth.copy()
    predicted[3, 3, 3:5] = RCC
    records = {record["structure"]: record for record in measure_kidney(truth, predicted, SPACING)}
    assert tuple(records) == NAMES
    rcc = records["rcc"]
    assert rcc["dsc"] is None and rcc["nsd_2mm"] is None
    assert rcc["false_positive_ml"] == pytest.approx(2 * np.prod(SPACING) / 1000)
    assert records["artery"]["dsc"] is None and records["artery"]["false_positive_ml"] == 0
    assert 0.9 < records["parenchyma"]["dsc"] < 1 and records["parenchyma"]["false_positive_ml"] == 0
    assert {key for record in records.values() for key in record} == set(rcc)
    json.dumps(list(records.values()), allow_nan=False)


def test_measures_do_not_depend_on_where_the_masks_lie_or_which_way_axes_run():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 7, 8, 9)) < 0.3
    expected = measure(a, b, SPACING)
    moved = [np.pad(mask, ((3, 0), (1, 5), (0, 2))) for mask in (a, b)]
    assert measure(moved[0], moved[1], SPACING) == expected
    mirrored = measure(a[::-1, :, ::-1], b[::-1, :, ::-1], SPACING)
    assert (mirrored.dsc, mirrored.hd_mm) == pytest.approx((expected.dsc, expected.hd_mm))
    back = measure(b, a, SPACING)
    assert (back.dsc, back.hd95_mm, back.assd_mm) == pytest.approx(
        (expected.dsc, expected.hd95_mm, expected.assd_mm)
    )


@pytest.mark.parametrize(
    ("truth", "predicted", "spacing", "kind"),
    [
        (np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), SPACING, ValueError),
        (np.zeros((2, 2), bool), np.zeros((2, 2), bool), SPACING, ValueError),
        (np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), bool), SPACING, TypeError),
        (np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool), (1.0, 0.0, 1.0), ValueError),
        (np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool), (1.0, np.nan, 1.0), ValueError),
    ],
)
def test_bad_input_is_refused(truth, predicted, spacing, kind):
    with pytest.raises(kind, match="measure:"):
        measure(truth, predicted, spacing)


@pytest.fixture(scope="module")
def surface_distance() -> ModuleType:
    return pytest.importorskip(
        "surface_distance", reason="the surface-distance package is not installed (extra bench)"
    )


def agrees_with_package(package: ModuleType, truth: np.ndarray, predicted: np.ndarray, spacing_mm) -> None:
    with pytest.warns(DeprecationWarning):  # the package uses names SciPy has deprecated
        theirs = package.compute_surface_distances(truth, predicted, spacing_mm)
    ours = measure(truth, predicted, spacing_mm)
    areas = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    means = package.compute_average_surface_distance(theirs)
    assert ours.dsc == pytest.approx(package.compute_dice_coefficient(truth, predicted), abs=1e-6)
    assert ours.hd_mm == pytest.approx(package.compute_robust_hausdorff(theirs, 100), abs=1e-6)
    assert ours.hd95_mm == pytest.approx(package.compute_robust_hausdorff(theirs, 95), abs=1e-6)
    assert ours.assd_mm == pytest.approx(np.average(means, weights=areas), abs=1e-6)
    squares = np.concatenate([theirs["distances_gt_to_pred"], theirs["distances_pred_to_gt"]]) ** 2
    weights = np.concatenate([theirs["surfel_areas_gt"], theirs["surfel_areas_pred"]])
    assert ours.surface_rms_mm == pytest.approx(np.sqrt(np.average(squares, weights=weights)), abs=1e-6)
    for name, tolerance in TOLERANCES_MM.items():
        expected = package.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert getattr(ours, name) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_random_masks_agree_with_the_surface_distance_package(surface_distance, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 12, 3))
    a, b = rng.random((2, *shape)) < rng.uniform(0.05, 0.8)
    a[0, 0, 0] = b[-1, -1, -1] = True
    agrees_with_package(surface_distance, a, b, tuple(rng.uniform(0.4, 4, 3)))


def annotators(folder: Path, kidney: str) -> list[Path]:
    return sorted((folder / "kits23_annotators").glob(f"{kidney}_annotator-*.nii.gz"))


@pytest.mark.parametrize("kidney", ["case_00018_kidney-1", "case_00061_kidney-2"])
def test_two_annotators_agree_with_the_surface_distance_package(surface_distance, shared_data, kidney):
    from kidseg_jax.formats.volumes import read_labels

    first, second = (read_labels(path) for path in annotators(shared_data, kidney)[:2])
    agrees_with_package(surface_distance, first.array > 0, second.array > 0, first.spacing_mm)


@pytest.mark.parametrize("case", ["07", "13"])
@pytest.mark.parametrize("network", ["CE", "Dice"])
def test_a_network_and_an_expert_agree_with_the_surface_distance_package(
    surface_distance, shared_data, case, network
):
    from kidseg_jax.formats.volumes import read_labels

    folder = shared_data / "evalseg_left_kidney"
    truth, predicted = (
        read_labels(folder / f"{case}_{name}.nii.gz") for name in ("truth", f"pred_{network}")
    )
    left = truth.array == 3, predicted.array == 3
    assert left[0].any() and left[1].any()
    agrees_with_package(surface_distance, *left, truth.spacing_mm)


@pytest.mark.parametrize("case", ["case_00018", "case_00061"])
def test_kits_maps_agree_with_the_surface_distance_package(surface_distance, shared_data, case):
    from kidseg_jax.formats.volumes import read_labels

    labels = read_labels(shared_data / f"kits19_labels/{case}.nii.gz")
    moved = np.roll(labels.array, (2, -1), axis=(1, 2))
    moved[moved == 2] = 1  # the tumour is missed
    records = measure_kits(labels.array, moved, labels.spacing_mm)
    for record, values in zip(records, REGIONS.values(), strict=True):
        a, b = np.isin(labels.array, values), np.isin(moved, values)
        if not b.any():
            assert a.any() and (record["dice"], record["surface_dice"]) == (0, 0)
            continue
        a, b = crop_together(a, b)
        with pytest.warns(DeprecationWarning):
            theirs = surface_distance.compute_surface_distances(a, b, labels.spacing_mm)
        tolerance_mm = KITS_TOLERANCES_MM[record["region"]]
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert record["surface_dice"] == pytest.approx(expected, abs=1e-6)
        assert record["dice"] == pytest.approx(surface_distance.compute_dice_coefficient(a, b), abs=1e-6)


def test_kits_regions_and_empty_cases_follow_the_challenge(surface_distance):
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 4, (2, 9, 10, 11)).astype(np.uint8)
    truth[truth == 3] = 0
    records = {record["region"]: record for record in measure_kits(truth, predicted, SPACING)}
    for name, labels in REGIONS.items():
        a, b = np.isin(truth, labels), np.isin(predicted, labels)
        with pytest.warns(DeprecationWarning):
            theirs = surface_distance.compute_surface_distances(a, b, SPACING)
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, KITS_TOLERANCES_MM[name])
        assert records[name]["surface_dice"] == pytest.approx(expected, abs=1e-6)
        assert records[name]["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    kidney_only = np.minimum(truth, 1)
    both_absent = {r["region"]: r for r in measure_kits(kidney_only, kidney_only, SPACING)}["tumor"]
    assert (both_absent["dice"], both_absent["surface_dice"]) == (1.0, 1.0)
    one_absent = {r["region"]: r for r in measure_kits(kidney_only, predicted, SPACING)}["tumor"]
    assert (one_absent["dice"], one_absent["surface_dice"]) == (0.0, 0.0)
