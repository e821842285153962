"""The label audit: every check on shapes whose truth is known, planted errors, the files that it writes."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay
from small_cohort import body, write_cohort

from kidseg_jax.audit import masses, networks, placement, shape, trees
from kidseg_jax.audit.checks import KINDS, measures_of
from kidseg_jax.audit.disagreement import disagreements
from kidseg_jax.audit.finding import ENOUGH_CASES, MOST_SCORE, Kind, Measure, ranked
from kidseg_jax.audit.pictures import PIXELS, three_slices
from kidseg_jax.audit.scene import Kidney, scene_of
from kidseg_jax.audit.sources import Source
from kidseg_jax.cli.app import main
from kidseg_jax.cohort.case import Case
from kidseg_jax.config import PRESETS, CohortConfig, NetConfig
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import ARTERY, N_CLASSES, NAMES, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Geometry, Volume, oriented
from kidseg_jax.phantom.cohort import make_case
from kidseg_jax.rundir import RunDirectory, asked_for, write_json

SPACING = (2.0, 1.5, 1.5)
PHANTOM = CohortConfig(patients=1, kidneys=2, rcc_kidneys=1, rcc_diameter_mm=(45.0, 60.0))


def ball(shape, centre, radius_mm, spacing_mm=SPACING):
    axes = [(np.arange(n) - c) * mm for n, c, mm in zip(shape, centre, spacing_mm, strict=True)]
    z, y, x = np.ix_(*(axis**2 for axis in axes))
    return z + y + x <= radius_mm**2


def one_kidney(labels, hu=None, spacing_mm=SPACING):
    hu = np.full(labels.shape, -100, np.int16) if hu is None else hu
    return Kidney("left", (0, 0, 0), hu, labels, np.zeros(labels.shape, bool), spacing_mm)


def case_of(ct, labels, spacing_mm=SPACING):
    grid = Geometry(labels.shape, spacing_mm)
    return Case("case", "case", Volume(ct, grid), Volume(labels, grid))


def lone_ball(centre=(20, 30, 40), shape=(44, 60, 72)):
    """A kidney of one ball in fat, off the middle of the image along every axis: CT and labels."""
    inside = ball(shape, centre, 24.0)
    hu = np.random.default_rng(0).normal(np.where(inside, 120, -100), 10).astype(np.int16)
    return hu, np.where(inside, PARENCHYMA, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def phantom():
    return make_case(PHANTOM, 4242, 0)


def with_labels(case, array):
    return replace(case, labels=case.labels.with_array(array))


def worst_kind(case):
    (audited, *_) = ranked({case.name: measures_of(scene_of(case))}, KINDS)
    return audited.findings[0].measure.kind if audited.findings else None


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("voxels", [-3, -2, -1, 0, 1, 2, 3])
def test_a_shift_is_found_to_the_voxel(axis, voxels):
    hu, labels = lone_ball()
    found = placement.best_shift(hu, np.roll(labels, voxels, axis), SPACING, axis)
    assert found.voxels == -voxels and found.mm == -voxels * SPACING[axis]
    assert (found.gain > 0.2) == (voxels != 0)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_the_axes_of_a_mirror_image_are_found(axes):
    hu, labels = lone_ball(centre=(15, 22, 28))
    assert placement.best_mirror(hu, labels, SPACING).gain_hu < -50
    found = placement.best_mirror(hu, np.ascontiguousarray(np.flip(labels, axes)), SPACING)
    assert found.axes == axes and found.gain_hu > 50


@pytest.mark.parametrize("gap", [0, 2, 5, 9])
def test_the_gap_of_a_cut_tube_is_measured(gap):
    labels = np.zeros((12, 12, 60), np.uint8)
    labels[2:10, 2:10, :10] = PARENCHYMA
    labels[5:8, 5:8, 10:50] = ARTERY
    labels[5:8, 5:8, 25 : 25 + gap] = 0
    found = trees.gaps(one_kidney(labels, np.full(labels.shape, 200, np.int16)), ARTERY)
    if not gap:
        assert found == []
    else:
        (only,) = found
        assert only.mm == pytest.approx((gap + 1) * SPACING[2])
        assert only.smaller_ml == pytest.approx(min(15, 25 - gap) * 9 * np.prod(SPACING) / 1000)
        assert only.open_share == 1.0 and not only.is_second
        assert abs(only.at[2] - (24 + (gap + 1) / 2)) < 1


def test_a_second_artery_from_the_midline_is_no_cut():
    labels = np.zeros((30, 12, 60), np.uint8)
    labels[:, :, 40:] = PARENCHYMA
    labels[4:7, 5:8, 2:40] = ARTERY
    labels[20:23, 5:8, 2:40] = ARTERY
    kidney = one_kidney(labels)
    (second,) = trees.gaps(kidney, ARTERY)
    assert second.is_second
    labels[20:23, 5:8, 2:30] = 0
    (branch,) = trees.gaps(one_kidney(labels), ARTERY)
    assert not branch.is_second
    assert trees.cut_size(branch, SPACING) > trees.cut_size(second, SPACING)


def test_every_sign_of_artery_and_vein_turns_when_they_are_swapped(phantom):
    other = np.arange(256, dtype=np.uint8)
    other[[ARTERY, VEIN]] = VEIN, ARTERY
    for right, wrong in zip(
        scene_of(phantom).kidneys,
        scene_of(with_labels(phantom, other[phantom.labels.array])).kidneys,
        strict=True,
    ):
        signs, turned = trees.swap_signs(right), trees.swap_signs(wrong)
        assert signs is not None and turned is not None
        assert turned == pytest.approx({name: -value for name, value in signs.items()})


def test_how_far_a_ureter_lies_from_its_kidney():
    labels = np.zeros((10, 10, 40), np.uint8)
    labels[:, :, :10] = PARENCHYMA
    labels[5, 5, 20:30] = URETER
    apart = trees.apart_mm(one_kidney(labels), URETER)
    assert apart is not None
    mm, at = apart
    assert mm == pytest.approx(11 * SPACING[2]) and at.tolist() == [5, 5, 20]
    assert trees.apart_mm(one_kidney(labels), VEIN) is None


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000))
def test_the_hull_is_that_of_a_triangulation(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((9, 12, 14), bool)
    for _ in range(4):
        mask |= ball(mask.shape, rng.uniform((2, 3, 3), (6, 8, 10)), rng.uniform(3, 6))
    points = np.argwhere(mask) * SPACING
    everywhere = np.argwhere(np.ones(mask.shape, bool)) * np.asarray(SPACING)
    expected = (Delaunay(points).find_simplex(everywhere, tol=1e-6) >= 0).reshape(mask.shape)
    if masses.kernels.label_components(mask)[1] == 1:
        got = masses.hull_of(mask, SPACING)
        assert not (got & ~expected).any() and np.count_nonzero(expected & ~got) <= 0.01 * expected.sum()


def test_a_flat_mask_is_its_own_hull():
    mask = np.zeros((5, 6, 7), bool)
    mask[2, 1:4, 2:5] = True
    assert (masses.hull_of(mask, SPACING) == mask).all()


def test_an_island_is_weighed_and_a_hole_is_measured():
    hu, labels = lone_ball()
    hole = ball(labels.shape, (20, 30, 40), 5.0)
    labels[hole] = 0
    labels[38:42, 50:54, 4:8] = VEIN
    scene = scene_of(case_of(hu, labels))
    (island,) = shape.islands(scene)
    voxel_ml = np.prod(SPACING) / 1000
    assert island.label == VEIN and island.ml == pytest.approx(64 * voxel_ml)
    assert 38 <= island.at[0] < 42 and 50 <= island.at[1] < 54 and 4 <= island.at[2] < 8
    ml, at = shape.holes(scene)
    assert ml == pytest.approx(hole.sum() * voxel_ml) and at == (20, 30, 40)


def test_slices_that_were_left_out_are_counted():
    hu, labels = lone_ball()
    assert shape.skipped_slices(scene_of(case_of(hu, labels)))[0] == 0
    labels[18:20] = 0
    assert shape.skipped_slices(scene_of(case_of(hu, labels)))[0] == 2


def test_labels_in_air_and_in_fat_are_told():
    hu, labels = lone_ball()
    hu[ball(labels.shape, (20, 30, 40), 9.0)] = -900
    labels[2:6, 2:10, 2:10] = RCC
    measured = {(m.kind, m.structure): m for m in measures_of(scene_of(case_of(hu, labels)))}
    assert 1.0 < measured["in_air", "parenchyma"].size < 4.0
    assert measured["in_air", "rcc"].size == 0
    assert measured["unlike_tissue", "rcc"].size == pytest.approx(80, abs=10)


def test_disagreement_is_one_minus_dsc_and_tells_who_stands_alone():
    a, b = np.zeros((6, 8, 10), np.uint8), np.zeros((6, 8, 10), np.uint8)
    a[1:5, 1:5, 1:5] = PARENCHYMA
    b[1:5, 1:5, 3:7] = PARENCHYMA
    b[0, 0, :8] = RCC
    a[5, 7, :8] = VEIN
    found = {m.kind: m for m in disagreements(a, b, (5.0, 5.0, 5.0), frozenset(NAMES), "it")}
    assert found["disagreement"].size == pytest.approx(0.5)
    assert found["network_alone"].structure == "rcc" and found["network_alone"].size == pytest.approx(1.0)
    assert found["label_alone"].structure == "vein"
    assert list(disagreements(a, b, (5.0, 5.0, 5.0), {"artery"}, "it")) == []
    assert list(disagreements(a * 0, b * 0, (5.0, 5.0, 5.0), NAMES, "it")) == []


KIND = {"odd": Kind("odd", "odd", "mm", 1.0, 0.5)}


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_a_larger_size_never_ranks_lower_and_scores_are_bounded(sizes):
    audited = ranked({name: [Measure("odd", size, (0, 0, 0), "")] for name, size in sizes.items()}, KIND)
    assert {case.name for case in audited} == sizes.keys()
    scores = {case.name: case.score for case in audited}
    assert all(0 <= score <= 1.1 * MOST_SCORE for score in scores.values())
    by_size = sorted(sizes, key=lambda name: sizes[name])
    assert all(scores[a] <= scores[b] for a, b in pairwise(by_size))


def test_what_a_cohort_has_everywhere_counts_less_but_an_error_in_most_maps_is_not_usual():
    def score_of(sizes):
        audited = ranked({str(i): [Measure("odd", s, (0, 0, 0), "")] for i, s in enumerate(sizes)}, KIND)
        return {case.name: case.score for case in audited}

    alone = score_of([2.0])["0"]
    assert alone == pytest.approx(2.0)
    assert score_of([2.0] * ENOUGH_CASES)["0"] == 0
    assert score_of([50.0] * 20)["0"] == MOST_SCORE


def test_a_right_label_map_has_no_finding_that_tells(phantom):
    (audited,) = ranked({"case": measures_of(scene_of(phantom))}, KINDS)
    assert audited.score < 3


def test_a_map_is_judged_alike_however_its_axes_run(phantom):
    turned = replace(phantom, ct=oriented(phantom.ct, "IRA"), labels=oriented(phantom.labels, "IRA"))
    assert measures_of(scene_of(turned)) == measures_of(scene_of(phantom))


@pytest.mark.parametrize(
    "error, kinds",
    [
        ("swap", {"swapped_vessels"}),
        ("left out", {"missing_mass"}),
        ("parenchyma", {"mass_as_parenchyma"}),
        ("shift", {"shifted"}),
        ("blob", {"island"}),
        ("mirror", {"mirrored"}),
        ("empty", {"no_kidney"}),
        ("no vein", {"missing_structure"}),
    ],
)
def test_a_planted_error_is_the_worst_finding(phantom, error, kinds):
    labels = phantom.labels.array.copy()
    if error == "swap":
        vessels = (labels == ARTERY) | (labels == VEIN)
        labels[vessels] = ARTERY + VEIN - labels[vessels]
    elif error in ("left out", "parenchyma"):
        labels[labels == RCC] = 0 if error == "left out" else PARENCHYMA
    elif error == "shift":
        labels = np.roll(labels, 2, 0)
    elif error == "blob":
        labels[ball(labels.shape, (8, labels.shape[1] // 2, 20), 8.0, phantom.ct.spacing_mm)] = VEIN
    elif error == "mirror":
        labels = np.ascontiguousarray(labels[:, :, ::-1])
    elif error == "empty":
        labels[labels >= PARENCHYMA] = 0
    else:
        labels[labels == VEIN] = 0
    assert worst_kind(with_labels(phantom, labels)) in kinds


def test_structures_that_labels_cannot_tell_are_not_missed(phantom):
    kits = np.where(phantom.labels.array >= PARENCHYMA, phantom.labels.array, 0).astype(np.uint8)
    case = replace(with_labels(phantom, kits), structures=frozenset({"parenchyma", "rcc"}))
    assert "missing_structure" not in {m.kind for m in measures_of(scene_of(case))}


def test_the_picture_shows_three_slices_and_ends_of_the_image():
    hu, labels = lone_ball()
    scene = scene_of(case_of(hu, labels))
    picture = three_slices(scene, (0, 0, 0), labels)
    assert picture.shape == (PIXELS, 3 * PIXELS, 3) and picture.dtype == np.uint8


def test_a_folder_is_audited_without_jax(tmp_path, capfd):
    write_cohort(tmp_path / "data", 4, 3)
    ct, labels = body(9)
    shifted = labels.with_array(np.ascontiguousarray(labels.array[:, :, ::-1]))
    write_volume(tmp_path / "data" / "=odd" / "imaging.npz", ct)
    write_volume(tmp_path / "data" / "=odd" / "segmentation.npz", shifted)
    out = tmp_path / "out"
    command = (
        "import sys; from kidseg_jax.cli.app import main; code = main(sys.argv[1:]); "
        "assert 'jax' not in sys.modules; sys.exit(code)"
    )
    argv = ["audit", str(tmp_path / "data"), "--no-network", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", command, *argv], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads((out / "audit.json").read_text())
    assert [case["rank"] for case in said["cases"]] == [1, 2, 3, 4]
    assert {case["case"] for case in said["cases"]} == {"=odd", "case_00000", "case_00001", "case_00002"}
    page = (out / "audit.html").read_text()
    assert page.count("<img src='data:image/png;base64,") == 4
    assert "http://" not in page and "https://" not in page and "<script" not in page
    table = (out / "audit.csv").read_text().splitlines()
    assert table[0].startswith("rank,case,case_score") and any(",'=odd," in row for row in table[1:])


def test_a_broken_case_is_named_and_the_others_are_audited(tmp_path, capsys):
    write_cohort(tmp_path, 2, 2)
    (tmp_path / "case_00001" / "segmentation.npz").write_bytes(b"no label map")
    assert main(["audit", str(tmp_path), "--no-network"]) == 1
    said = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert list(said["failures"]) == ["case_00001"] and len(said["cases"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, said",
    [
        (["nowhere"], "no such run or folder"),
        ([".", "--no-network"], "found no case"),
        ([".", "--cross-validate", "2", "--model", "m"], "exclude each other"),
    ],
)
def test_what_cannot_be_audited_is_said_in_one_line(tmp_path, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *argv]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and (said in lines[0] or argv[1:2] == ["--cross-validate"])
    assert list(tmp_path.iterdir()) == []


def test_label_maps_without_cts_are_judged_by_their_shapes(tmp_path, phantom):
    labels = phantom.labels.array.copy()
    labels[:4, :4, :4] = RCC
    write_volume(tmp_path / "right.nii.gz", phantom.labels)
    write_volume(tmp_path / "stray.nii.gz", phantom.labels.with_array(labels))
    assert main(["audit", str(tmp_path)]) == 0
    said = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert [case["case"] for case in said["cases"]] == ["stray", "right"]
    assert said["cases"][0]["findings"][0]["check"] == "island"
    assert "without CTs" in said["notes"][0]


def a_run(folder):
    """A run of two cases as it lies on disk: one predicted by stage 1, one corrected by a person."""
    write_cohort(folder / "data", 2, 2)
    run = RunDirectory(folder / "run")
    how = {"label_map": "kidseg", "annotator": "human", "blind": 0.0, "start": None}
    asked = asked_for(PRESETS["demo"], 2, folder / "data", **how)
    write_json(run.settings, asked)
    _, labels = body(0)
    no_artery = labels.with_array(np.where(labels.array == ARTERY, 0, labels.array).astype(np.uint8))
    write_volume(run.stage(1).prediction("case_00000"), no_artery)
    corrected = body(1)[1]
    renamed = np.where(corrected.array == ARTERY, VEIN, corrected.array).astype(np.uint8)
    corrected = corrected.with_array(renamed)
    write_volume(run.stage(1).correction("case_00001"), corrected)
    return run


def test_a_run_is_audited_with_its_own_predictions_and_newest_labels(tmp_path):
    run = a_run(tmp_path)
    source = Source(run.path)
    assert list(source.names) == ["case_00000", "case_00001"]
    first, second = (source.look(name) for name in source.names)
    assert first.predicted is not None and first.who == "stage 1"
    assert second.predicted is None and second.case.labels is not None
    assert (second.case.labels.array == VEIN).any()
    assert main(["audit", str(run.path), "--pictures", "0"]) == 0
    said = json.loads((run.path / "audit" / "audit.json").read_text())
    found = {f["check"] for case in said["cases"] for f in case["findings"] if case["case"] == "case_00000"}
    assert "label_alone" in found
    assert "1 of 2 label maps were compared" in said["notes"][-1]


def test_networks_of_the_other_folds_are_asked(tmp_path, monkeypatch):
    write_cohort(tmp_path, 2, 2)
    net = NetConfig(features=(4, 8), patch=(16, 16, 16), spacing_mm=8.0)
    coarse = NetConfig(features=(4, 8), patch=(24, 32, 48), spacing_mm=8.0)

    def tiny(steps):
        config = PRESETS["demo"]
        fine = replace(config.fine_train, steps=steps, poses=1, shift_mm=8.0, optimizer="adam")
        learn = replace(config.coarse_train, steps=steps, optimizer="adam")
        return replace(config, coarse=coarse, fine=net, fine_train=fine, coarse_train=learn)

    monkeypatch.setattr(networks, "small", tiny)
    said = []
    ask, notes = networks.cross_validated(Source(tmp_path), 2, 2, 1, said.append)
    assert len(said) == 2 and all("on 2 kidneys" in line for line in said)
    look = ask(Source(tmp_path).look("case_00001"))
    assert look.predicted is not None and look.predicted.array.max() < N_CLASSES
    assert notes
    with pytest.raises(ValueError, match="need 2 to 2 parts"):
        networks.cross_validated(Source(tmp_path), 3, 2, 1, said.append)
