"""The verb predict: what it reads, where it writes, what it skips, and what it says when a case is broken."""

import csv
import json
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_files import write_series
from grids import body_ct, oblique, random_geometry

from kidseg_jax.cli.app import main
from kidseg_jax.formats.volumes import read_ct, read_labels, write_volume
from kidseg_jax.imaging.postprocess import DEFAULT
from kidseg_jax.imaging.structures import NAMES, PARENCHYMA, RCC
from kidseg_jax.imaging.volume import Volume, canonical, on_grid_of
from kidseg_jax.network import cascade
from kidseg_jax.network import models as model_files
from kidseg_jax.network.found_kidney import FoundKidney, after_rules
from kidseg_jax.network.origin import TrainedOn

GRID = oblique(15, shape=(12, 14, 32))


def bright_is_kidney(models, ct: Volume, threads=None, rules=DEFAULT) -> cascade.Prediction:
    """Stands in for the networks, tested elsewhere: voxels over 300 HU are parenchyma, over 600 RCC."""
    turned = canonical(ct)
    labels = np.where(turned.array > 600, RCC, np.where(turned.array > 300, PARENCHYMA, 0)).astype(np.uint8)
    kidneys = []
    if labels.any():
        incomplete, uncertain = bool(labels[0].any()), not (labels == RCC).any()
        kidneys.append(FoundKidney("right", (0, 0, 0), labels.shape, labels, incomplete, uncertain))
        kidneys = after_rules(kidneys, turned, rules)
        labels = kidneys[0].labels
    return cascade.Prediction(on_grid_of(labels, ct), tuple(kidneys))


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    models = SimpleNamespace(trained_on=TrainedOn("given cases", "none"))
    monkeypatch.setattr(model_files, "load_models", lambda path: models)
    monkeypatch.setattr(cascade, "predict", bright_is_kidney)
    monkeypatch.setattr(model_files, "told_structures", lambda models: frozenset(NAMES))


def with_kidney(grid=GRID, bottom=4) -> Volume:
    ct = body_ct(grid)
    turned = canonical(ct).array.copy()
    turned[bottom:8, 4:8, 3:9] = 400
    turned[5, 5, 5] = 700
    return on_grid_of(turned, ct)


def expected_labels(ct: Volume) -> np.ndarray:
    return np.where(ct.array > 600, RCC, np.where(ct.array > 300, PARENCHYMA, 0))


def predict(*arguments) -> int:
    return main(["predict", *map(str, arguments), "--model", "anything"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha", "npz", "seg.nrrd"])
def test_labels_lie_on_exactly_the_inputs_grid(tmp_path, seed, ending):
    ct = with_kidney(random_geometry(np.random.default_rng(seed), 24)) if seed else with_kidney()
    write_volume(tmp_path / "Ä scan.nii.gz", ct)
    assert predict(tmp_path / "Ä scan.nii.gz", "--to", ending) == 0
    labels = read_labels(tmp_path / f"Ä scan_kidseg.{ending}")
    read = read_ct(tmp_path / "Ä scan.nii.gz")
    np.testing.assert_array_equal(labels.array, expected_labels(read))
    np.testing.assert_allclose(labels.geometry.origin_mm, read.geometry.origin_mm, rtol=1e-6)
    np.testing.assert_allclose(labels.spacing_mm, read.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(labels.geometry.direction, read.geometry.direction, atol=1e-6)


def test_a_dicom_folder_writes_beside_itself(tmp_path):
    ct = with_kidney()
    write_series(tmp_path / "study", ct)
    assert predict(tmp_path / "study") == 0
    labels = read_labels(tmp_path / "study_kidseg.nii.gz")
    np.testing.assert_array_equal(labels.array, expected_labels(ct))
    assert labels.geometry.is_close(ct.geometry)


def test_no_kidney_is_one_line_and_no_file(tmp_path, capfd):
    write_volume(tmp_path / "x.nii.gz", body_ct(GRID))
    assert predict(tmp_path / "x.nii.gz", "--preview", "--statistics") == 2
    said = capfd.readouterr().err
    assert said == "kidseg_jax: x: found no kidney, no label map written\n"
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


@pytest.mark.parametrize("ending", ["nii", "nrrd", "npz"])
def test_a_full_disk_leaves_no_partial_file(tmp_path, capsys, small_disk, ending):
    write_volume(tmp_path / "x.nii.gz", with_kidney())
    small_disk(100)
    code = predict(tmp_path / "x.nii.gz", "--to", ending)
    small_disk(resource.RLIM_INFINITY)
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    assert "too large" in said
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_preview_and_statistics(tmp_path):
    import PIL.Image

    write_volume(tmp_path / "x.nii.gz", with_kidney())
    assert predict(tmp_path / "x.nii.gz", "--out", tmp_path / "out", "--preview", "--statistics") == 0
    with PIL.Image.open(tmp_path / "out" / "x_kidseg.png") as picture:
        assert picture.mode == "RGB"
    rows = table(tmp_path / "out" / "x_kidseg.csv")
    assert [row["structure"] for row in rows] == list(NAMES)
    voxel_ml = float(np.prod(GRID.spacing_mm)) / 1000
    found = {row["structure"]: float(row["volume_ml"]) for row in rows}
    assert found["parenchyma"] == pytest.approx((4 * 4 * 6 - 1) * voxel_ml, abs=5e-4)
    assert found["rcc"] == pytest.approx(voxel_ml, abs=5e-4)
    assert {(row["incomplete"], row["uncertain"]) for row in rows} == {("no", "no")}
    assert {row["trained_on"] for row in rows} == {"given cases"}
    (kidney,) = json.loads((tmp_path / "out" / "x_kidseg_measures.json").read_text())["kidneys"]
    assert (kidney["case"], kidney["side"]) == ("x", "right")
    assert kidney["volumes_ml"]["parenchyma"] == pytest.approx(found["parenchyma"], abs=1e-3)
    measured = table(tmp_path / "out" / "x_kidseg_measures.csv")
    assert {row["name"] for row in measured} >= {"volume of rcc", "arteries that enter", "caution"}


def test_a_kidney_that_is_cut_or_may_be_none_is_said_to_be(tmp_path, capsys):
    ct = with_kidney(bottom=0)
    ct.array[ct.array > 600] = 400
    write_volume(tmp_path / "x.nii.gz", ct)
    assert predict(tmp_path / "x.nii.gz", "--statistics") == 0
    assert "right (incomplete, uncertain) -> " in capsys.readouterr().out
    assert {(r["incomplete"], r["uncertain"]) for r in table(tmp_path / "x_kidseg.csv")} == {("yes", "yes")}


def test_a_structure_that_the_model_was_never_shown_has_no_volume(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "told_structures", lambda models: frozenset({"parenchyma", "rcc"}))
    write_volume(tmp_path / "x.nii.gz", with_kidney())
    assert predict(tmp_path / "x.nii.gz", "--statistics") == 0
    assert [row["structure"] for row in table(tmp_path / "x_kidseg.csv")] == ["parenchyma", "rcc"]


def test_rules_tidy_the_labels_and_the_volumes(tmp_path):
    ct = with_kidney()
    turned = canonical(ct).array.copy()
    turned[10, 11, 20:22] = 400
    write_volume(tmp_path / "x.nii.gz", on_grid_of(turned, ct))
    volumes = []
    for rules in ([], ["--rules"], ["--rules", "one_parenchyma", "sides_apart"]):
        assert predict(tmp_path / "x.nii.gz", "--statistics", "--overwrite", *rules) == 0
        labels = canonical(read_labels(tmp_path / "x_kidseg.nii.gz")).array
        assert labels[10, 11, 20:22].any() == (rules == ["--rules"]) and (labels[4:8, 4:8, 3:9] > 0).all()
        volumes.append(float(table(tmp_path / "x_kidseg.csv")[3]["volume_ml"]))
    stray_ml = 2 * float(np.prod(GRID.spacing_mm)) / 1000
    assert volumes[1] - volumes[0] == volumes[1] - volumes[2] == pytest.approx(stray_ml, abs=2e-3)


@pytest.mark.parametrize(
    ("origin", "says", "column"),
    [
        (TrainedOn("phantoms", "human"), "was trained on phantoms only and is not for patients", "phantoms"),
        (None, "does not say what it was trained on", "unknown"),
    ],
)
def test_a_model_of_phantoms_or_of_unknown_origin_is_named_once(
    tmp_path, capfd, monkeypatch, origin, says, column
):
    monkeypatch.setattr(model_files, "load_models", lambda path: SimpleNamespace(trained_on=origin))
    for i in range(2):
        write_volume(tmp_path / f"case_{i:05d}" / "imaging.nii.gz", with_kidney())
    assert predict(tmp_path, "--statistics") == 0
    assert capfd.readouterr().err == f"kidseg_jax: anything: {says}\n"
    assert {row["trained_on"] for row in table(tmp_path / "statistics.csv")} == {column}
    assert predict(tmp_path, "--statistics") == 0  # done before: no model is used
    assert capfd.readouterr().err == ""


def test_statistics_of_an_older_version_are_of_unknown_origin(tmp_path):
    for i in range(2):
        write_volume(tmp_path / f"case_{i:05d}" / "imaging.nii.gz", with_kidney())
    assert predict(tmp_path, "--statistics") == 0
    old = tmp_path / "case_00000" / "case_00000_kidseg.csv"
    old.write_text("".join(line.rpartition(",")[0] + "\n" for line in old.read_text().splitlines()))
    (tmp_path / "case_00001" / "case_00001_kidseg.nii.gz").unlink()
    assert predict(tmp_path, "--statistics") == 0
    rows = table(tmp_path / "statistics.csv")
    found = {(row["case"], row["trained_on"]) for row in rows}
    assert found == {("case_00000", "unknown"), ("case_00001", "given cases")}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def make_cases(folder: Path) -> None:
    write_volume(folder / "case_00000" / "imaging.nii.gz", with_kidney())
    write_volume(folder / "case_00001" / "imaging.nii.gz", body_ct(GRID))
    write_volume(folder / "case_00002" / "imaging.nii.gz", with_kidney(bottom=0))
    (folder / "case_00003").mkdir()
    (folder / "case_00003" / "imaging.nii.gz").write_bytes(b"no image at all")


def test_a_folder_goes_on_past_broken_cases_and_lists_them(tmp_path, capfd):
    make_cases(tmp_path / "in")
    assert predict(tmp_path / "in", "--out", tmp_path / "out", "--statistics") == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.splitlines()[-3:] == [
        "2 of 4 cases have no label map:",
        "  case_00001: found no kidney, no label map written",
        "  case_00003: imaging.nii.gz: not a NIfTI file, need a header of 348 bytes, got 15",
    ]
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == [
        "case_00000_kidseg.csv",
        "case_00000_kidseg.nii.gz",
        "case_00000_kidseg_measures.csv",
        "case_00000_kidseg_measures.json",
        "case_00002_kidseg.csv",
        "case_00002_kidseg.nii.gz",
        "case_00002_kidseg_measures.csv",
        "case_00002_kidseg_measures.json",
        "statistics.csv",
    ]
    rows = table(tmp_path / "out" / "statistics.csv")
    assert {(row["case"], row["incomplete"]) for row in rows} == {("case_00000", "no"), ("case_00002", "yes")}


def test_what_is_done_is_skipped(tmp_path, capfd):
    make_cases(tmp_path)
    assert predict(tmp_path) == 1
    done = tmp_path / "case_00000" / "case_00000_kidseg.nii.gz"
    before = done.stat().st_mtime_ns
    capfd.readouterr()
    assert predict(tmp_path) == 1
    assert "case_00000: done before" in capfd.readouterr().out
    assert done.stat().st_mtime_ns == before
    assert predict(tmp_path / "case_00000" / "imaging.nii.gz", "--out", tmp_path / "o") == 0
    assert predict(tmp_path / "case_00000" / "imaging.nii.gz", "--out", tmp_path / "o") == 0
    assert "done before: 1 of 1" in capfd.readouterr().out
    assert predict(tmp_path, "--overwrite") == 1
    assert done.stat().st_mtime_ns != before


def test_parts_together_are_the_whole_and_the_call_without_them_gathers(tmp_path, capfd):
    for i in range(3):
        write_volume(tmp_path / "in" / f"case_{i:05d}" / "imaging.nii.gz", with_kidney())
    given = (tmp_path / "in", "--statistics", "--out")
    assert predict(*given, tmp_path / "whole") == 0
    made = set()
    for part, n in (("1/2", 2), ("2/2", 1), ("4/4", 0)):
        assert predict(*given, tmp_path / "parts", "--part", part) == 0
        assert f"part {part.replace('/', ' of ')}: {n} of 3 cases" in capfd.readouterr().out
        now = {p.name for p in (tmp_path / "parts").iterdir()}
        assert len(now - made) == 4 * n and "statistics.csv" not in now
        made = now
    assert predict(*given, tmp_path / "parts") == 0
    whole, parts = (
        {p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in ("whole", "parts")
    )
    assert whole == parts


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_part_that_is_none_is_refused(tmp_path, capfd, part):
    write_volume(tmp_path / "x.nii.gz", with_kidney())
    assert predict(tmp_path / "x.nii.gz", f"--part={part}") == 2
    assert "--part: need" in capfd.readouterr().err
