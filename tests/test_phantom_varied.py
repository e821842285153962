"""The varied phantoms: bits, phases, anomalies, fields of view, and how a command line asks for them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from kidseg_jax.cli.app import main
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import COHORTS, CohortConfig
from kidseg_jax.imaging.structures import PARENCHYMA, RCC
from kidseg_jax.phantom.acquisition import draw_scanner
from kidseg_jax.phantom.cohort import make_case, make_cohort, plan_cohort
from kidseg_jax.phantom.phases import PHASES
from kidseg_jax.phantom.varied import SHARES, draw_of, draw_patient

SMALL = replace(
    COHORTS["varied"],
    patients=6,
    kidneys=11,
    rcc_kidneys=3,
    pixel_mm=(2.4, 3.0),
    slice_mm=(3.0, 5.0),
    length_mm=(150.0, 400.0),
    noise_hu=(2.0, 8.0),
)
SEED = 3


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(SMALL, seed=SEED, threads=2)


@pytest.fixture(scope="module")
def patients():
    config = replace(COHORTS["varied"], patients=300, kidneys=560, rcc_kidneys=100)
    plans = plan_cohort(config, SEED)
    return [draw_patient(draw_of(config, SEED, i), config, *plan) for i, plan in enumerate(plans)]


def labels_of(case):
    assert case.labels is not None
    return case.labels.array


def solid(case):
    return np.isin(labels_of(case), (PARENCHYMA, RCC))


def test_same_seed_same_bits_alone_or_together(cohort):
    again = make_case(SMALL, SEED, 2)
    assert again.ct.geometry == cohort[2].ct.geometry
    np.testing.assert_array_equal(again.ct.array, cohort[2].ct.array)
    np.testing.assert_array_equal(labels_of(again), labels_of(cohort[2]))


def test_patients_and_seeds_differ(cohort):
    other = make_case(SMALL, SEED + 1, 0)
    ct = cohort[0].ct.array
    for case in (cohort[1], other):
        assert case.ct.array.shape != ct.shape or (case.ct.array != ct).mean() > 0.5


def test_arrays_kidneys_and_tumours_are_those_of_the_plan(cohort):
    for case, plan in zip(cohort, plan_cohort(SMALL, SEED), strict=True):
        assert case.ct.array.dtype == np.int16 and labels_of(case).dtype == np.uint8
        assert case.ct.geometry == case.labels.geometry
        spacing, origin = np.array(case.ct.spacing_mm), np.array(case.ct.geometry.origin_mm)
        assert np.all(spacing * 64 % 1 == 0) and np.all(origin * 4 % 1 == 0)
        assert SMALL.slice_mm[0] <= spacing[0] <= SMALL.slice_mm[1]
        assert SMALL.pixel_mm[0] <= spacing[1] == spacing[2] <= SMALL.pixel_mm[1]
        found = kidneys_of(case)
        assert len(found) == len(plan.sides)
        assert any(kidney.has_rcc for kidney in found) == (plan.rcc_side is not None)


def test_labels_lie_in_the_body(cohort):
    for case in cohort:
        seen = ndimage.binary_fill_holes(ndimage.uniform_filter(case.ct.array.astype(np.float32), 3) > -400)
        assert (labels_of(case)[~np.asarray(seen)] > 0).sum() < 0.002 * (labels_of(case) > 0).sum()


def test_parenchyma_is_as_bright_as_its_phase_says():
    """Medians one voxel inside the parenchyma of four phantoms, one of each phase, without cysts."""
    bounds = {"unenhanced": (14, 48), "corticomedullary": (65, 235), "nephrographic": (95, 245)}
    bounds["excretory"] = (65, 200)
    plans = plan_cohort(replace(SMALL, patients=60, kidneys=120, rcc_kidneys=0), SEED)
    config = replace(SMALL, patients=60, kidneys=120, rcc_kidneys=0)
    for index, plan in enumerate(plans):
        patient = draw_patient(draw_of(config, SEED, index), config, *plan)
        phase = patient.tissues.phase
        if phase in bounds and not any(f.cysts or f.dilated or f.size < 0.8 for f in patient.findings):
            case = make_case(config, SEED, index)
            inside = np.asarray(ndimage.binary_erosion(labels_of(case) == PARENCHYMA), bool)
            low, high = bounds.pop(phase)
            assert low < np.median(case.ct.array[inside]) < high, (phase, index)
    assert not bounds


def test_every_phase_place_finding_and_extra_occurs(patients):
    n = len(patients)
    for phase in PHASES:
        assert 0.15 < sum(p.tissues.phase == phase for p in patients) / n < 0.35
    assert {p.place for p in patients} == {"normal", "low", "malrotated", "iliac", "horseshoe"}
    assert {name for p in patients for name in p.extras} == SHARES.keys()
    found = [f for p in patients for f in p.findings]
    for name in ("cysts", "stones", "dilated", "stent_hu", "strands"):
        assert 0.01 < sum(bool(getattr(f, name)) for f in found) / len(found) < 0.4, name
    sizes = np.array([f.size for f in found])
    assert sizes.min() < 0.65 and sizes.max() > 1.15
    assert any(p.tissues.filling.front < 0 for p in patients)  # prone
    fat = np.array([p.trunk.fat[0] for p in patients])
    assert fat.min() < 4 and fat.max() > 70


def test_hu_of_each_phase_lie_apart(patients):
    def of(phase, name):
        return np.array([getattr(p.tissues.contrast, name) for p in patients if p.tissues.phase == phase])

    assert of("unenhanced", "cortex").max() < 45 and of("unenhanced", "cortex").min() > 15
    assert (of("corticomedullary", "cortex") - of("corticomedullary", "medulla")).min() > 30
    assert of("corticomedullary", "artery").min() > of("nephrographic", "low_cava").max()
    assert np.abs(of("nephrographic", "cortex") / of("nephrographic", "medulla") - 1).mean() < 0.3
    assert of("excretory", "urine").min() > 100 > of("nephrographic", "urine").max()


def test_some_kidneys_are_cut_by_the_field_of_view_and_most_are_not():
    config = replace(SMALL, patients=60, kidneys=120, rcc_kidneys=0, slice_mm=(5, 5), pixel_mm=(3, 3))
    cut = []
    for index, plan in enumerate(plan_cohort(config, SEED)):
        draw = draw_of(config, SEED, index)
        patient = draw_patient(draw, config, *plan)
        _, canvas = draw_scanner(draw, patient.trunk, patient.beans, config)
        ends = [b.centre[2] + end * abs(b.frame[2, 2]) * b.half[2] for b in patient.beans for end in (-1, 1)]
        if min(ends) < canvas.z.min() or max(ends) > canvas.z.max():
            cut.append(index)
    assert 4 <= len(cut) <= 20
    case = make_case(config, SEED, cut[0])
    assert solid(case)[[0, -1]].any() and len(kidneys_of(case)) == 2


def test_a_scan_is_as_long_as_asked_for():
    config = replace(SMALL, length_mm=(160.0, 160.0))
    case = make_case(config, SEED, 1)
    assert case.ct.array.shape[0] * case.ct.spacing_mm[0] == pytest.approx(160, abs=case.ct.spacing_mm[0])
    with pytest.raises(ValueError, match=r"CohortConfig\.length_mm: .*got"):
        replace(SMALL, length_mm=(10.0, 160.0))


def test_command_line_takes_the_cohort_and_what_is_changed_of_it(tmp_path, capsys):
    out = tmp_path / "cohort"
    few = ["--patients", "1", "--kidneys", "2", "--rcc-kidneys", "0", "--pixel-mm", "3", "3"]
    argv = ["phantom", str(out), "--cohort", "varied", "--seed", "5", "--slice-mm", "5", "5", *few]
    assert main(argv) == 0
    assert "wrote 1 of 1 cases" in capsys.readouterr().out
    asked = json.loads((out / "phantom.json").read_text())
    assert asked["kind"] == "varied" and asked["noise_hu"] == list(COHORTS["varied"].noise_hu)
    assert main(["phantom", str(out), *few]) == 2  # the demo's is another cohort
    assert "other settings" in capsys.readouterr().err
    assert main(["phantom", str(tmp_path / "x"), "--cohort", "other"]) == 2
    assert "'demo', 'varied'" in capsys.readouterr().err


def test_the_demo_is_what_no_word_means():
    assert COHORTS["demo"] == CohortConfig() and CohortConfig().kind == "demo"
