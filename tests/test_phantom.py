"""The phantoms: counts, bits, anatomy of every label, and the verb that writes them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from kidseg_jax.cli.app import main
from kidseg_jax.config import CohortConfig
from kidseg_jax.formats.volumes import read_volume
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import IDENTITY, Geometry
from kidseg_jax.phantom.cohort import LEFT, RIGHT, make_case, make_cohort, plan_cohort
from kidseg_jax.phantom.shapes import (
    Draw,
    blank_canvas,
    blob,
    curve,
    lower_to_tube,
    paint,
    smooth_field,
)

SMALL = CohortConfig(patients=6, kidneys=9, rcc_kidneys=4)
CUBE = np.ones((3, 3, 3), bool)


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(SMALL, seed=11, threads=2)


def labels_of(case):
    assert case.labels is not None
    return case.labels.array


def kidneys_apart(case, config=SMALL, seed=11):
    """The mask of parenchyma and tumour on each side of the patient, by side."""
    plan = plan_cohort(config, seed)[int(case.name[-5:])]
    solid = np.isin(labels_of(case), (PARENCHYMA, RCC))
    pieces = np.zeros(solid.shape, np.int32)
    ndimage.label(solid, CUBE, output=pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    largest = np.argsort(sizes)[::-1][: len(plan.sides)] + 1
    across = np.arange(solid.shape[2]) * case.ct.spacing_mm[2] + case.ct.geometry.origin_mm[0]
    found = {}
    for piece in largest:
        mask = pieces == piece
        found[LEFT if (mask.sum(axis=(0, 1)) * across).sum() > 0 else RIGHT] = mask
    assert set(found) == set(plan.sides)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_default_cohort_has_the_published_counts(seed):
    plans = plan_cohort(CohortConfig(), seed)
    assert len(plans) == 36
    assert sum(len(plan.sides) for plan in plans) == 50
    assert sum(plan.rcc_side is not None for plan in plans) == 30
    assert all(plan.sides == (RIGHT, LEFT) for plan in plans if plan.rcc_side is None)
    assert all(plan.rcc_side in (None, *plan.sides) for plan in plans)


@pytest.mark.parametrize("patients,kidneys,rcc", [(1, 1, 0), (1, 2, 1), (4, 8, 4), (5, 5, 5), (7, 10, 0)])
def test_other_counts(patients, kidneys, rcc):
    plans = plan_cohort(CohortConfig(patients=patients, kidneys=kidneys, rcc_kidneys=rcc), 0)
    assert len(plans) == patients
    assert sum(len(set(plan.sides)) for plan in plans) == kidneys
    assert sum(plan.rcc_side is not None for plan in plans) == rcc


@pytest.mark.parametrize(
    "fields,field",
    [
        ({"patients": 0}, "patients"),
        ({"kidneys": 35}, "kidneys"),
        ({"kidneys": 73}, "kidneys"),
        ({"rcc_kidneys": 37}, "rcc_kidneys"),
        ({"rcc_kidneys": -1}, "rcc_kidneys"),
        ({"hardness": -0.1}, "hardness"),
        ({"hardness": float("nan")}, "hardness"),
        ({"accessory_artery": 1.5}, "accessory_artery"),
        ({"ureter_below_mm": -1.0}, "ureter_below_mm"),
        ({"pixel_mm": (2.0, 1.0)}, "pixel_mm"),
        ({"slice_mm": (0.0, 1.0)}, "slice_mm"),
        ({"noise_hu": (1.0, float("inf"))}, "noise_hu"),
    ],
)
def test_impossible_cohorts_are_refused(fields, field):
    with pytest.raises(ValueError, match=rf"CohortConfig\.{field}: .*got"):
        CohortConfig(**fields)


def test_seed_index_and_threads_out_of_range():
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        make_cohort(SMALL, seed=-1)
    with pytest.raises(ValueError, match="index must be 0 to 5, got 6"):
        make_case(SMALL, seed=0, index=6)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        make_cohort(SMALL, seed=0, threads=0)


def test_same_seed_same_bits_alone_or_together(cohort):
    for index in (0, 4):
        alone = make_case(SMALL, seed=11, index=index)
        assert alone.name == cohort[index].name
        assert alone.ct.geometry == cohort[index].ct.geometry
        np.testing.assert_array_equal(alone.ct.array, cohort[index].ct.array)
        np.testing.assert_array_equal(labels_of(alone), labels_of(cohort[index]))


def test_one_thread_makes_the_same_and_tells_progress(cohort):
    told = []
    two = replace(SMALL, patients=2, kidneys=3, rcc_kidneys=1)
    single = make_cohort(two, seed=3, threads=1, progress=told.append)
    double = make_cohort(two, seed=3, threads=2)
    assert told == [1, 2]
    for a, b in zip(single, double, strict=True):
        np.testing.assert_array_equal(a.ct.array, b.ct.array)
        np.testing.assert_array_equal(labels_of(a), labels_of(b))


def test_patients_and_seeds_differ(cohort):
    other = make_case(SMALL, seed=12, index=0)
    for case in (cohort[1], other):
        assert (
            case.ct.array.shape != cohort[0].ct.array.shape
            or (case.ct.array != cohort[0].ct.array).mean() > 0.5
        )


def test_arrays_and_geometry(cohort):
    for case in cohort:
        assert case.ct.array.dtype == np.int16
        assert labels_of(case).dtype == np.uint8
        assert case.ct.geometry == case.labels.geometry
        geometry = case.ct.geometry
        assert geometry.direction == IDENTITY
        assert np.all(np.mod(np.array(geometry.spacing_mm) * 64, 1) == 0)
        assert np.all(np.mod(np.array(geometry.origin_mm) * 4, 1) == 0)
        low, high = SMALL.pixel_mm
        assert low <= geometry.spacing_mm[1] == geometry.spacing_mm[2] <= high
        assert SMALL.slice_mm[0] <= geometry.spacing_mm[0] <= SMALL.slice_mm[1]


def test_values_are_those_of_a_body(cohort):
    for case in cohort:
        hu = case.ct.array
        assert hu.min() >= -1024 and hu.max() <= 3071
        assert abs(np.median(hu[:, :3, :3]) + 1000) < 30
        assert (hu > 250).sum() > 1000  # bone
        assert ((hu > -130) & (hu < -70)).mean() > 0.05  # fat


def test_kidneys_have_plausible_volumes_and_places(cohort):
    for case in cohort:
        voxel_ml = np.prod(case.ct.spacing_mm) / 1000
        plan = plan_cohort(SMALL, 11)[int(case.name[-5:])]
        for side, mask in kidneys_apart(case).items():
            parenchyma = (mask & (labels_of(case) == PARENCHYMA)).sum() * voxel_ml
            tumour = (mask & (labels_of(case) == RCC)).sum() * voxel_ml
            assert 60 < parenchyma < 220
            assert (tumour > 0) == (plan.rcc_side == side)
            assert tumour < 260


def test_every_kidney_has_its_vessels_and_ureter_in_touch(cohort):
    limits_ml = {ARTERY: (0.6, 8), VEIN: (1.2, 16), URETER: (1, 14)}
    for case in cohort:
        voxel_ml = np.prod(case.ct.spacing_mm) / 1000
        masks = kidneys_apart(case)
        for value, (low, high) in limits_ml.items():
            pieces = np.zeros(labels_of(case).shape, np.int32)
            ndimage.label(labels_of(case) == value, CUBE, output=pieces)
            sizes = np.bincount(pieces.ravel()) * voxel_ml
            for mask in masks.values():
                touched = np.unique(pieces[np.asarray(ndimage.binary_dilation(mask, CUBE), bool)])
                touched = touched[touched > 0]
                assert len(touched) >= 1, (case.name, value)
                total = sizes[touched].sum()
                assert low < total < high, (case.name, value)
                assert sizes[touched].max() > 0.5 * total, (case.name, value)


def test_structures_look_as_contrast_says(cohort):
    """Medians inside each structure, one voxel from its edge, stay in the ranges of the cortical phase."""
    for case in cohort:
        labels, hu = labels_of(case), case.ct.array
        core = {v: ndimage.binary_erosion(labels == v) for v in (ARTERY, VEIN, URETER, PARENCHYMA)}
        artery, vein, ureter, parenchyma = (np.median(hu[m]) for m in core.values())
        assert 120 < artery < 360
        assert 70 < vein < 230
        assert -30 < ureter < 60
        assert 60 < parenchyma < 220
        bright, dark = np.percentile(hu[core[PARENCHYMA]], [90, 5])
        assert bright > dark + 20  # cortex over medulla


def test_ureter_is_labelled_to_a_fixed_distance_below_the_kidney(cohort):
    for case in cohort:
        if len(plan_cohort(SMALL, 11)[int(case.name[-5:])].sides) > 1:
            continue
        step = case.ct.spacing_mm[0]
        kidney = np.flatnonzero(np.isin(labels_of(case), (PARENCHYMA, RCC)).any(axis=(1, 2)))
        ureter = np.flatnonzero((labels_of(case) == URETER).any(axis=(1, 2)))
        assert abs((kidney[0] - ureter[0]) * step - SMALL.ureter_below_mm) <= 2 * step
        assert np.all(np.diff(ureter) == 1)


@pytest.mark.parametrize("hardness", [0.0, 2.0])
def test_hardness_keeps_anatomy_whole(hardness):
    config = CohortConfig(patients=1, kidneys=2, rcc_kidneys=1, hardness=hardness)
    case = make_case(config, seed=5, index=0)
    assert case.labels is not None
    assert set(np.unique(labels_of(case))) == {0, ARTERY, VEIN, URETER, PARENCHYMA, RCC}
    assert len(kidneys_apart(case, config, 5)) == 2


def test_hardness_scales_the_spread_of_draws():
    def spread(hardness):
        draw = Draw(np.random.default_rng(0), hardness)
        return np.array([draw(10, 20) for _ in range(400)])

    assert np.all(spread(0) == 15)
    np.testing.assert_allclose(spread(0.5) - 15, (spread(1) - 15) / 2)
    assert 10 <= spread(1).min() < 10.2 and 19.8 < spread(1).max() <= 20
    assert spread(4).min() >= 5 and spread(4).max() <= 25


def grid(roll=0.0):
    return blank_canvas(Geometry((40, 48, 44), (1.5, 1.0, 1.0), (-22.0, -24.0, -30.0)), roll)


@pytest.mark.parametrize("roll", [0.0, 0.3, -1.2])
def test_window_holds_exactly_what_it_must(roll):
    canvas = grid(roll)
    window = canvas.window([-5, -9, -6], [8, 3, 12])
    inside = (canvas.x >= -5) & (canvas.x <= 8) & (canvas.y >= -9) & (canvas.y <= 3)
    inside = inside & (canvas.z >= -6) & (canvas.z <= 12)
    seen = np.zeros(inside.shape, bool)
    seen[window.slices] = True
    assert not (inside & ~seen).any()
    assert canvas.window([500, 0, 0], [510, 5, 5]).hu.size == 0


def test_tube_distance_is_that_of_a_capsule():
    canvas = grid(0.4)
    window = canvas.window([-1e3] * 3, [1e3] * 3)
    p, q = np.array([-6.0, 2.0, -9.0]), np.array([7.0, -3.0, 8.0])
    field = window.far()
    lower_to_tube(field, window, canvas, np.stack([p, q]), np.array([4.0, 4.0]))
    at = np.stack(np.broadcast_arrays(canvas.x, canvas.y, canvas.z), axis=-1).astype(float)
    t = np.clip((at - p) @ (q - p) / ((q - p) @ (q - p)), 0, 1)
    exact = np.linalg.norm(at - p - t[..., None] * (q - p), axis=-1) - 4
    near = exact < canvas.soft_mm
    np.testing.assert_allclose(field[near], exact[near], atol=2e-3)
    assert np.all(field[~near] > 0)


def test_soft_edges_conserve_volume():
    """Painted HU over a ball add up to its volume: the partial volume is in the edge."""
    canvas = grid()
    window = canvas.window([-1e3] * 3, [1e3] * 3)
    paint(window.hu, blob(window, (0.3, -0.4, 0.2), (12.0, 12.0, 12.0)), 0.0, canvas.soft_mm)
    volume = (canvas.hu.astype(float) + 1000).sum() / 1000 * np.prod(canvas.geometry.spacing_mm)
    assert volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)


def test_curve_passes_its_knots_and_smooth_field_is_smooth():
    knots = np.array([[0.0, 0, 0], [10, 5, 0], [20, 0, 8]])
    path = curve(knots, 2.0)
    for knot in knots:
        assert np.linalg.norm(path - knot, axis=1).min() < 1e-9
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 3.0
    canvas = grid()
    window = canvas.window([-1e3] * 3, [1e3] * 3)
    field = smooth_field(np.random.default_rng(0), window, canvas.geometry.spacing_mm, 10.0)
    assert field.shape == window.shape and np.abs(field).max() <= 1
    # smoothstep between values of [-1, 1] rises by at most 1.5 * 2 / 10 a mm
    assert np.abs(np.diff(field, axis=2)).max() <= 0.3 + 1e-6


@pytest.mark.filterwarnings("ignore:builtin type .* has no __module__:DeprecationWarning")  # ITK's SWIG types
def test_verb_writes_reads_back_and_resumes(tmp_path, capsys):
    out = tmp_path / "cohort"
    argv = ["phantom", str(out), "--seed", "7", "--patients", "2", "--kidneys", "3", "--rcc-kidneys", "1"]
    assert main(argv) == 0
    assert "wrote 2 of 2 cases" in capsys.readouterr().out
    config = CohortConfig(patients=2, kidneys=3, rcc_kidneys=1)
    for index in range(2):
        case = make_case(config, seed=7, index=index)
        assert case.labels is not None
        for name, volume in (("imaging", case.ct), ("segmentation", case.labels)):
            back = read_volume(out / case.name / f"{name}.nii.gz")
            assert back.geometry == volume.geometry
            assert back.array.dtype == volume.array.dtype
            np.testing.assert_array_equal(back.array, volume.array)

    kept = (out / "case_00000" / "imaging.nii.gz").stat().st_mtime_ns
    (out / "case_00001" / "segmentation.nii.gz").unlink()
    assert main(argv) == 0
    assert "wrote 1 of 2 cases" in capsys.readouterr().out
    assert (out / "case_00000" / "imaging.nii.gz").stat().st_mtime_ns == kept
    assert main(argv) == 0
    assert "done before, 2 cases" in capsys.readouterr().out
    assert json.loads((out / "phantom.json").read_text())["seed"] == 7


def test_verb_refuses_in_one_line(tmp_path, capsys):
    assert main(["phantom", str(tmp_path / "a"), "--patients", "2", "--kidneys", "9"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "phantom.json").write_text("{}")
    assert main(["phantom", str(tmp_path / "b")]) == 2
    assert "other settings" in capsys.readouterr().err
    (tmp_path / "c").write_text("a file")
    assert main(["phantom", str(tmp_path / "c")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
