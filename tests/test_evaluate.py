"""The verbs evaluate and compare: numbers, files, exit codes, one line where they refuse."""

import csv
import json

import numpy as np
import pytest

from kidseg_jax.cli.app import main
from kidseg_jax.evaluation.folders import evaluate_folders, label_maps
from kidseg_jax.evaluation.metrics import measure_kidney
from kidseg_jax.formats.seg_nrrd import write_segmentation
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume

SPACING = (2.0, 1.0, 0.5)


@pytest.fixture
def folders(tmp_path):
    """Three cases of truth and prediction as .npz, which needs no ITK."""
    rng = np.random.default_rng(0)
    for index in range(3):
        truth = np.zeros((14, 16, 18), np.uint8)
        truth[3:9, 4:12, 4:12] = 4
        truth[4:6, 6:8, 6:9] = 5
        predicted = np.roll(truth, 1 + index, axis=2)
        predicted[rng.random(truth.shape) < 0.002] = 1
        for name, labels in (("truth", truth), ("pred", predicted)):
            (tmp_path / name).mkdir(exist_ok=True)
            write_volume(tmp_path / name / f"case_{index}.npz", volume(labels))
    return tmp_path


def volume(labels: np.ndarray, spacing=SPACING) -> Volume:
    return Volume(labels, Geometry(labels.shape, spacing))


def arrays(folder, case):
    return read_labels(folder / f"{case}.npz").array


def test_records_are_those_of_measure_kidney_at_any_number_of_threads(folders):
    found = evaluate_folders(folders / "pred", folders / "truth")
    assert found.failures == {} and len(found.records) == 15
    for record in found.records:
        case = record["case"]
        expected = measure_kidney(arrays(folders / "truth", case), arrays(folders / "pred", case), SPACING)
        (one,) = [r for r in expected if r["structure"] == record["name"]]
        assert {k: v for k, v in record.items() if k not in ("case", "name")} == {
            k: v for k, v in one.items() if k != "structure"
        }
    assert evaluate_folders(folders / "pred", folders / "truth", threads=3) == found


def test_the_verb_writes_three_files_and_prints_means(folders, capsys):
    assert (
        main(["evaluate", str(folders / "pred"), str(folders / "truth"), "--out", str(folders / "out")]) == 0
    )
    printed = capsys.readouterr().out
    assert "parenchyma" in printed and "nsd_2mm" in printed
    data = json.loads((folders / "out" / "evaluation.json").read_text())
    rows = list(csv.DictReader((folders / "out" / "evaluation.csv").read_text().splitlines()))
    assert len(rows) == len(data["records"]) == 15
    parenchyma = [float(row["dsc"]) for row in rows if row["name"] == "parenchyma"]
    assert f"{np.mean(parenchyma):.3f}" in (folders / "out" / "evaluation.md").read_text()
    assert [row["dsc"] for row in rows if row["name"] == "vein"] == [""] * 3  # in neither map: undefined


def test_kits_refuses_values_it_does_not_know(folders, capsys):
    """An empty prediction of an unknown value is not a perfect one."""
    assert main(["evaluate", str(folders / "pred"), str(folders / "truth"), "--scheme", "kits"]) == 2
    assert "got label 4" in capsys.readouterr().err


def test_kits_writes_the_challenges_file(folders):
    for path in (*(folders / "pred").iterdir(), *(folders / "truth").iterdir()):
        write_volume(path, volume(np.array([0, 1, 0, 0, 1, 3], np.uint8)[arrays(path.parent, path.stem)]))
    assert main(["evaluate", str(folders / "pred"), str(folders / "truth"), "--scheme", "kits"]) == 0
    lines = (folders / "pred" / "evaluation.csv").read_text().splitlines()
    assert lines[0] == "caseID,Dice_kidney,Dice_masses,Dice_tumor,SD_kidney,SD_masses,SD_tumor"
    assert lines[-1].startswith("average,") and len(lines) == 5
    assert lines[1].split(",")[3] == "1.00000000"  # no tumour in either map


def test_kits_and_nnunet_layouts_meet(tmp_path):
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 2
    write_volume(tmp_path / "truth" / "case_00000" / "segmentation.npz", volume(labels))
    write_volume(tmp_path / "pred" / "case_00000.npz", volume(labels))
    assert set(label_maps(tmp_path / "truth")) == {"case_00000"}
    found = evaluate_folders(tmp_path / "pred", tmp_path / "truth", "values")
    assert [(r["name"], r["dsc"]) for r in found.records] == [("value 2", 1.0)]


def test_cases_without_partner_or_on_another_grid_are_failures(folders, capsys):
    (folders / "pred" / "case_2.npz").unlink()
    write_volume(folders / "pred" / "case_1.npz", volume(np.zeros((14, 16, 18), np.uint8), (2.0, 1.0, 0.6)))
    assert main(["evaluate", str(folders / "pred"), str(folders / "truth")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert (
        len(said) == 2
        and "case_1" in said[0]
        and "one grid" in said[0]
        and "case_2: no prediction" in said[1]
    )


def test_what_cannot_be_evaluated_is_one_line_and_exit_code_2(folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "elsewhere.npz").write_bytes((folders / "pred" / "case_0.npz").read_bytes())
    truth = str(folders / "truth")
    for bad, words in (("missing", "no such folder"), ("empty", "got none"), ("other", "no case of")):
        assert main(["evaluate", str(tmp_path / bad), truth]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1
    assert main(["evaluate", str(folders / "pred"), truth, "--threads", "0"]) == 2


def test_compare_prints_three_measures_and_writes_files(folders, capsys):
    first, second = (str(folders / name / "case_1.npz") for name in ("truth", "truth"))
    out = folders / "compared"
    assert main(["compare", first, second, "--label", "4", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("sampled points", "points to triangles", "area symmetric", "LPS"))
    data = json.loads((out / "comparison.json").read_text())
    assert data["units"] == "mm" and data["frame"] == "LPS" and data["watertight_a"] is True
    assert [measure["rms_mm"] for measure in data["measures"]] == pytest.approx([0, 0, 0], abs=1e-4)
    assert main(["compare", str(out / "a.stl"), str(out / "a_to_b.ply")]) == 0  # meshes are compared too


def test_compare_refuses_in_one_line(folders, tmp_path, capsys):
    good = str(folders / "truth" / "case_0.npz")
    (tmp_path / "text.stl").write_text("no mesh")
    for arguments, words in (
        ([good, str(tmp_path / "missing.nii.gz")], "no such"),
        ([good, str(tmp_path / "text.stl")], "triangles"),
        ([good, good, "--label", "3"], "label 3"),
        ([good, good, "--points", "0"], "points"),
        ([good, good, "--limit-mm", "0"], "limit-mm"),
    ):
        assert main(["compare", *arguments]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1


def named_ones(path, labels: np.ndarray) -> None:
    """Slicer's way: segments numbered 1, 2 in the file, told apart by name."""
    renumbered = np.array([0, 0, 0, 0, 1, 2], np.uint8)[labels]
    own = [STRUCTURES[3]._replace(label=1), STRUCTURES[4]._replace(label=2)]
    write_segmentation(path, volume(renumbered), own)


def test_a_segmentation_is_read_by_the_names_it_gives(folders, capsys):
    for path in (folders / "truth").iterdir():
        labels = arrays(path.parent, path.stem)
        write_volume(folders / "pred" / path.name, volume(labels))
        path.unlink()
        named_ones(path.with_suffix(".seg.nrrd"), labels)
    found = evaluate_folders(folders / "pred", folders / "truth")
    scores = {r["name"]: r["dsc"] for r in found.records}
    assert (scores["parenchyma"], scores["rcc"], scores["artery"]) == (1.0, 1.0, None)
    out = folders / "out"
    path = folders / "truth" / "case_0.seg.nrrd"
    assert main(["export", str(path), "--to", "nifti", "--out", str(out)]) == 0
    assert set(np.unique(read_labels(out / "case_0.nii.gz").array)) == {0, 4, 5}


def test_a_map_that_covers_a_part_of_the_other_is_laid_into_it(folders):
    for path in (folders / "pred").iterdir():
        whole = read_labels(folders / "truth" / path.name)
        part = whole.array[2:10, 3:13, 2:16]
        origin = tuple(whole.geometry.to_world([[2, 3, 2]])[0].tolist())
        write_volume(path, Volume(part, Geometry(part.shape, SPACING, origin)))
    assert {r["dsc"] for r in evaluate_folders(folders / "pred", folders / "truth").records} == {None, 1.0}
    assert {r["dsc"] for r in evaluate_folders(folders / "truth", folders / "pred").records} == {None, 1.0}
