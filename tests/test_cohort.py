"""Kidneys told apart by geometry, and cohorts of every convention read as one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from grids import body_ct, oblique, two_kidneys

from kidseg_jax.cli.app import main
from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import find_images, load_cohort
from kidseg_jax.cohort.label_maps import CONVENTIONS, label_map
from kidseg_jax.cohort.split import kidneys_of, split_kidneys
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Geometry, Volume, canonical, oriented

SPACING = (2.0, 2.0, 2.0)
SHAPE = (60, 60, 100)  # 120 x 120 x 200 mm


def bean(array, centre, radius_mm=(45, 22, 26), label=PARENCHYMA):
    """An ellipsoid at `centre` in mm from voxel (0, 0, 0)."""
    at = np.ogrid[tuple(slice(n) for n in array.shape)]
    inside = sum(((g * s - c) / r) ** 2 for g, s, c, r in zip(at, SPACING, centre, radius_mm, strict=True))
    array[inside <= 1] = label


def blank():
    return np.zeros(SHAPE, np.uint8)


def case_of(array, geometry=None) -> Case:
    """A case whose body fills the image but for 10 voxels of air on each side."""
    grid = geometry or Geometry(array.shape, SPACING)
    ct = np.full(array.shape, -1000, np.int16)
    ct[:, :, 10:-10] = 40
    return Case("c", "p", Volume(ct, grid), Volume(array, grid))


def both() -> np.ndarray:
    array = blank()
    bean(array, (60, 60, 50))
    bean(array, (60, 60, 150))
    return array


def labels_of(case: Case) -> Volume:
    assert case.labels is not None
    return case.labels


def test_two_kidneys_right_before_left():
    array = both()
    array[30, 30, 30:34] = RCC
    case = case_of(array)
    right, left = kidneys_of(case)
    assert (right.side, left.side) == ("right", "left")
    assert (right.name, right.has_rcc, left.has_rcc) == ("c_right", True, False)
    for kidney, half in ((right, np.s_[:, :, :50]), (left, np.s_[:, :, 50:])):
        expected = np.zeros_like(array)
        expected[half] = array[half]
        np.testing.assert_array_equal(kidney.alone(SHAPE), expected)
        where = np.argwhere(expected)
        assert kidney.box == (tuple(where.min(0)), tuple(where.max(0) + 1))
        np.testing.assert_array_equal(kidney.labels, expected[kidney.box.slices])


@pytest.mark.parametrize("code", ["LPS", "RAS", "IPL", "SRA", "PIR", "ALS"])
def test_sides_do_not_depend_on_how_the_file_is_turned(code):
    array = blank()
    bean(array, (60, 60, 50))
    plain = case_of(array)
    turned = Case("c", "p", oriented(plain.ct, code), oriented(labels_of(plain), code))
    assert kidneys_of(turned) == kidneys_of(plain)
    assert kidneys_of(turned)[0].side == "right"


@pytest.mark.parametrize(("x_mm", "side"), [(60, "right"), (140, "left")])
def test_a_single_kidney_is_told_by_the_middle_of_the_body(x_mm, side):
    array = blank()
    bean(array, (60, 60, x_mm))
    assert [kidney.side for kidney in kidneys_of(case_of(array))] == [side]


def test_the_middle_of_the_body_is_not_the_middle_of_the_image():
    array = blank()
    bean(array, (60, 60, 110))
    case = case_of(array)
    case.ct.array[:, :, :50] = -1000  # the body lies in the left half of the image
    assert kidneys_of(case)[0].side == "right"


def test_everything_labelled_belongs_to_a_single_kidney():
    array = blank()
    bean(array, (60, 60, 50))
    array[5:8, 30, 90] = URETER
    array[50, 30, 60:95] = VEIN
    kidney = kidneys_of(case_of(array))[0]
    np.testing.assert_array_equal(kidney.alone(SHAPE), array)


def test_a_vessel_belongs_to_the_kidney_it_touches_wherever_it_ends():
    array = both()
    artery = np.s_[30, 30, 38:70]  # touches the right kidney, ends beside the left one
    array[artery] = np.where(array[artery] == 0, ARTERY, array[artery])
    array[30, 30, 60:] = both()[30, 30, 60:]
    right, left = split_masks(array)
    assert right[array == ARTERY].all() and not left[array == ARTERY].any()


def test_a_vessel_that_joins_both_is_cut_half_way_between_their_centres():
    array = both()
    array[30, 30, :] = np.where(array[30, 30, :] == 0, VEIN, array[30, 30, :])
    right, left = split_masks(array)
    vein = np.flatnonzero(array[30, 30] == VEIN)
    np.testing.assert_array_equal(right[30, 30, vein], vein <= 50)
    np.testing.assert_array_equal(left[30, 30, vein], vein > 50)


def test_a_part_that_touches_none_belongs_to_the_nearest():
    array = both()
    array[0:4, 30, 46] = URETER
    array[0:4, 30, 56] = URETER
    array[30, 30, 45] = RCC
    right, left = split_masks(array)
    assert right[0:4, 30, 46].all() and left[0:4, 30, 56].all() and right[30, 30, 45]


def split_masks(array):
    split = split_kidneys(array, SPACING)
    assert len(split.boxes) == 2
    return split.owner == 1, split.owner == 2


def test_touching_kidneys_are_cut_where_they_are_thinnest():
    array = both()
    array[28:32, 28:32, 36:64] = np.maximum(array[28:32, 28:32, 36:64], PARENCHYMA)
    split = split_kidneys(array, SPACING)
    assert "touching or horseshoe" in split.notes[0]
    np.testing.assert_array_equal(split.owner > 0, array > 0)
    assert abs(int((split.owner == 1).sum()) - int((split.owner == 2).sum())) < 200


def test_a_kidney_with_a_large_tumour_is_one_kidney():
    """The lobe beyond the waist holds no parenchyma."""
    array = blank()
    bean(array, (60, 60, 60))
    bean(array, (60, 60, 125), (40, 40, 40), RCC)
    kidneys = kidneys_of(case_of(array))
    assert len(kidneys) == 1 and kidneys[0].has_rcc


def test_a_horseshoe_of_a_real_patient_is_two_kidneys(shared_data):
    stored = read_labels(shared_data / "kits19_labels" / "case_00005.nii.gz")
    known = label_map("kits19")
    small = canonical(stored).array[::4, ::2, ::2]
    split = split_kidneys(known.apply("x", np.ascontiguousarray(small)), (2.0, 1.953125, 1.953125))
    assert len(split.boxes) == 2
    assert "horseshoe" in split.notes[0]
    shares = np.bincount(split.owner.ravel())[1:] / np.count_nonzero(split.owner)
    assert shares.min() > 0.3


def test_a_transplant_beside_native_kidneys_is_left_out_and_noted():
    array = both()
    transplant = blank()
    bean(transplant, (6, 60, 52), (6, 14, 14))
    array[:13][transplant[:13] > 0] = PARENCHYMA
    array[9:20] = 0  # 22 mm and more below the native kidneys
    array[:9][transplant[:9] > 0] = PARENCHYMA
    split = split_kidneys(array, SPACING)
    assert len(split.boxes) == 2
    assert (split.owner[:9] == 0).all()
    assert "lies more than 20 mm from a kidney" in split.notes[0]


def test_a_transplant_alone_is_the_kidney():
    array = blank()
    bean(array, (20, 40, 60), (18, 14, 18))
    assert [k.side for k in kidneys_of(case_of(array))] == ["right"]


def test_pieces_near_a_kidney_are_its_own():
    array = both()
    array[34] = 0
    array[35:, :, :50] = both()[35:, :, :50]
    split = split_kidneys(array, SPACING)
    assert len(split.boxes) == 2 and not split.notes
    np.testing.assert_array_equal(split.owner > 0, array > 0)


@pytest.mark.parametrize("label", [0, ARTERY, RCC])
def test_no_parenchyma_is_no_kidney(label):
    array = blank()
    array[20:30, 20:30, 20:30] = label
    assert kidneys_of(case_of(array)) == ()


def test_labels_on_another_grid_are_refused():
    case = case_of(both())
    moved = Geometry(SHAPE, SPACING, (0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="c: both volumes must lie on one grid"):
        kidneys_of(Case("c", "p", case.ct, Volume(both(), moved)))


def stored_as(name: str, labels: np.ndarray) -> np.ndarray:
    """Our labels in the values of a convention; what it cannot tell becomes background."""
    table = np.zeros(256, np.uint8)
    for value, structure in reversed(CONVENTIONS[name].items()):
        table[NAMES.index(structure) + 1] = value
    return table[labels]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_read_as_one(tmp_path, name):
    grid = oblique(3, shape=(12, 14, 32))
    labels = two_kidneys(grid)
    folder = tmp_path / "case_00007"
    write_volume(folder / "imaging.nii.gz", body_ct(grid))
    write_volume(folder / "segmentation.nii.gz", labels.with_array(stored_as(name, labels.array)))
    cohort = load_cohort(tmp_path, name)
    case = cohort[0]
    assert case.structures == cohort.structures == frozenset(CONVENTIONS[name].values())
    known = np.isin(labels.array, [NAMES.index(s) + 1 for s in case.structures])
    np.testing.assert_array_equal(labels_of(case).array, np.where(known, labels.array, 0))
    assert len(kidneys_of(case)) == 2


def test_cysts_are_parenchyma():
    assert label_map("kits23").apply("x", np.array([[[0, 1, 2, 3]]], np.uint8)).tolist() == [[[0, 4, 5, 4]]]
    cect = label_map("cect").apply("x", np.array([[[1, 2, 3, 4, 5, 6]]], np.uint8))
    assert cect.tolist() == [[[1, 2, 3, 4, 5, 4]]]


def test_a_toml_label_map(tmp_path):
    (tmp_path / "m.toml").write_text(
        '[labels]\n3 = "left kidney"\n2 = "Right_Kidney"\n5 = "background"\n9 = "tumour"\n'
    )
    known = label_map(str(tmp_path / "m.toml"))
    assert known.structures == frozenset({"parenchyma", "rcc"})
    assert known.apply("x", np.array([[[0, 2, 3, 5, 9]]], np.uint8)).tolist() == [[[0, 4, 4, 0, 5]]]


def write_case(image, labels, grid, stored):
    write_volume(image, body_ct(grid))
    write_volume(labels, stored)


@pytest.mark.parametrize("layout", ["nnunet", "nnunet_listed", "msd", "folders_nrrd", "folders_dicom"])
def test_layouts(tmp_path, layout):
    grid = oblique(0, shape=(12, 14, 32))
    labels = two_kidneys(grid)
    kits = labels.with_array(stored_as("kits19", labels.array))
    names, how = ("a", "b"), "auto"
    for name in names:
        if layout == "nnunet":
            image, drawn = tmp_path / "imagesTr" / f"{name}_0000.nrrd", tmp_path / "labelsTr" / f"{name}.nrrd"
        elif layout == "nnunet_listed":
            image, drawn = tmp_path / "ct" / f"{name}.mha", tmp_path / "drawn" / f"{name}.mha"
        elif layout == "msd":
            image, drawn = tmp_path / "imagesTr" / f"{name}.nii.gz", tmp_path / "labelsTr" / f"{name}.nii.gz"
        else:
            image, drawn, how = (
                tmp_path / name / "imaging.nrrd",
                tmp_path / name / "segmentation.seg.nrrd",
                "kits19",
            )
        write_case(image, drawn, grid, kits)
        if layout == "folders_dicom":
            from dicom_files import write_series

            image.unlink()
            write_series(tmp_path / name / "imaging", body_ct(grid))
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "kidney": 1, "tumor": 2}}
    if layout == "nnunet":
        dataset["file_ending"] = ".nrrd"
    elif layout == "nnunet_listed":
        dataset["dataset"] = {n: {"images": [f"ct/{n}.mha"], "label": f"drawn/{n}.mha"} for n in names}
    elif layout == "msd":
        pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
        labels_of_msd = {"0": "background", "1": "kidney", "2": "cancer"}
        dataset = {"modality": {"0": "CT"}, "labels": labels_of_msd, "training": pairs}
    if how == "auto":
        (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    if layout == "msd":
        with pytest.raises(ValueError, match="'cancer' is none of"):
            load_cohort(tmp_path, how)
        how = "kits19"
    cohort = load_cohort(tmp_path, how)
    assert cohort.names == names
    assert cohort.structures == frozenset({"parenchyma", "rcc"})
    for case in cohort:
        assert set(np.unique(labels_of(case).array)) == {0, PARENCHYMA, RCC}
        assert len(kidneys_of(case)) == 2


def test_cases_are_read_when_asked_for(tmp_path):
    grid = oblique(0, shape=(12, 14, 32))
    write_volume(tmp_path / "good" / "imaging.npz", body_ct(grid))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "imaging.npz").write_bytes(b"no zip")
    cohort = load_cohort(tmp_path)
    assert cohort.names == ("broken", "good")
    assert cohort[1].labels is None and cohort[-1] is cohort[1]
    with pytest.raises(ValueError, match="not a whole"):
        _ = cohort[0]
    with pytest.raises(IndexError):
        _ = cohort[2]


def test_patients_come_from_a_column(tmp_path):
    grid = oblique(0, shape=(12, 14, 32))
    for name in ("a", "b", "c"):
        write_volume(tmp_path / name / "imaging.npz", body_ct(grid))
    assert load_cohort(tmp_path).patients == ("a", "b", "c")
    (tmp_path / "patients.toml").write_text('[patients]\na = "x"\nb = "x"\nc = 3\n')
    assert load_cohort(tmp_path).patients == ("x", "x", "3")
    (tmp_path / "patients.csv").write_text("case,age,patient\na,1,u\nb,2,v\nc,3,v\n")
    assert load_cohort(tmp_path).patients == ("u", "v", "v")
    assert load_cohort(tmp_path)[1].patient == "v"


def test_images_of_a_path(tmp_path):
    grid = oblique(0, shape=(12, 14, 32))
    for name in ("one.nii.gz", "two.mha", "one_kidseg.nii.gz", "folder/imaging.npz"):
        write_volume(tmp_path / name, body_ct(grid))
    write_volume(tmp_path / "three.seg.nrrd", two_kidneys(grid))
    assert [name for name, _ in find_images(tmp_path)] == ["folder", "one", "two"]
    assert find_images(tmp_path / "two.mha") == [("two", tmp_path / "two.mha")]


def run_info(capsys, *arguments):
    code = main(["info", *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def test_info_lists_every_case_and_says_what_is_wrong(tmp_path, capsys):
    grid = oblique(30, shape=(12, 14, 32))
    labels = two_kidneys(grid)
    write_case(tmp_path / "a" / "imaging.nrrd", tmp_path / "a" / "segmentation.nrrd", grid, labels)
    cut = labels.array.copy()
    cut[0, 5, 5:8] = cut[1, 5, 5:8] = cut[2, 5, 5:8] = PARENCHYMA
    write_case(
        tmp_path / "b" / "imaging.nrrd", tmp_path / "b" / "segmentation.nrrd", grid, labels.with_array(cut)
    )
    code, lines = run_info(capsys, tmp_path)
    assert code == 0
    assert lines[0].split()[:2] == ["case", "patient"]
    volume_ml = np.count_nonzero(labels.array == PARENCHYMA) * np.prod(grid.spacing_mm) / 1000
    assert "32 14 12" in lines[1] and "LPS~" in lines[1] and "right (RCC), left" in lines[1]
    assert f"{volume_ml:.1f}" in lines[1]
    assert any("b: right kidney is incomplete: it reaches the inferior face" in line for line in lines)
    assert lines[-1] == "2 cases of 2 patients, 2 can be used"
    write_volume(tmp_path / "c" / "imaging.nrrd", body_ct(grid))
    write_volume(tmp_path / "c" / "segmentation.nrrd", labels.with_array(labels.array * 0))
    code, lines = run_info(capsys, tmp_path)
    assert code == 1
    assert "c: cannot be used: labels hold no parenchyma, so no kidney" in lines


def test_info_of_real_label_maps_counts_what_numpy_counts(shared_data, capsys, tmp_path):
    source = shared_data / "kits19_labels" / "case_00061.nii.gz"
    os.symlink(source, tmp_path / "case_00061.nii.gz")
    code, lines = run_info(capsys, tmp_path, "--only-labels", "--label-map", "kits19")
    stored = read_labels(source)
    counts = np.bincount(stored.array.ravel()) * np.prod(stored.spacing_mm) / 1000
    assert code == 0
    assert lines[1].split()[-2:] == [f"{counts[1]:.1f}", f"{counts[2]:.1f}"]


def test_volumes_and_cohorts_import_numpy_only():
    code = (
        "import sys, kidseg_jax.imaging.volume, kidseg_jax.cohort.case, kidseg_jax.imaging.structures\n"
        "print([m for m in ('jax', 'itk', 'open3d', 'scipy', 'pydicom') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
