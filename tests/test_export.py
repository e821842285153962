"""Every export, read back by a reader that is not ours: same voxels, same places, names and colours kept."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import highdicom
import itk
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import slicerio
import trimesh
from dicom_files import CANARIES, without_meta, write_series
from grids import body_ct, oblique, two_kidneys

from kidseg_jax.cli.app import main
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import NAMES, STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume, canonical

GRID = oblique(20, shape=(12, 14, 32), spacing_mm=(2.0, 1.5, 1.0))
LABELS = two_kidneys(GRID)


def export(source: Path, to: str, out: Path, *more: str) -> Path:
    assert main(["export", str(source), "--to", to, "--out", str(out), *more]) == 0
    return out


@pytest.fixture
def source(tmp_path) -> Path:
    write_volume(tmp_path / "case.nrrd", LABELS)
    return tmp_path / "case.nrrd"


@pytest.fixture
def cases(tmp_path) -> Path:
    """Two cases of one patient and one of another, on different grids."""
    for i, grid in enumerate((GRID, oblique(-5, shape=(12, 14, 32)), oblique(90, shape=(12, 14, 32)))):
        write_volume(tmp_path / "cases" / f"case_{i:05d}" / "imaging.nii.gz", body_ct(grid, i))
        write_volume(tmp_path / "cases" / f"case_{i:05d}" / "segmentation.nii.gz", two_kidneys(grid))
    rows = "case,patient\ncase_00000,P-1\ncase_00001,P-1\ncase_00002,P-2\n"
    (tmp_path / "cases" / "patients.csv").write_text(rows)
    return tmp_path / "cases"


def assert_same_in_itk(path: Path, expected: Volume) -> None:
    image = itk.imread(str(path))
    np.testing.assert_array_equal(itk.array_from_image(image), expected.array)
    np.testing.assert_allclose(np.array(image.GetOrigin()), expected.geometry.origin_mm, rtol=1e-6)
    np.testing.assert_allclose(np.array(image.GetSpacing()), expected.spacing_mm[::-1], rtol=1e-6)
    direction = itk.array_from_matrix(image.GetDirection())
    np.testing.assert_allclose(direction, expected.geometry.direction, atol=1e-6)


def test_nifti_holds_names_and_colours(source, tmp_path):
    path = export(source, "nifti", tmp_path / "out") / "case.nii.gz"
    assert_same_in_itk(path, LABELS)
    held: Any = nibabel.load(path)
    text = held.header.extensions[0].get_content()
    text = text if isinstance(text, str) else bytes(text).decode()
    for s in STRUCTURES:
        row = re.search(
            rf'<Label Key="{s.label}" Red="(.*?)" Green="(.*?)" Blue="(.*?)" .*?CDATA\[(.*?)\]', text
        )
        assert row and row[4] == s.name
        np.testing.assert_allclose([float(row[i]) * 255 for i in (1, 2, 3)], s.rgb, atol=1e-3)


def test_nrrd(source, tmp_path):
    path = export(source, "nrrd", tmp_path / "out") / "case.nrrd"
    assert_same_in_itk(path, LABELS)
    array, header = nrrd.read(str(path))
    np.testing.assert_array_equal(array.T, LABELS.array)
    steps = np.array(GRID.direction) * np.array(GRID.spacing_mm)[::-1]
    np.testing.assert_allclose(header["space directions"], steps.T)
    np.testing.assert_allclose(header["space origin"], GRID.origin_mm)
    assert header["space"] == "left-posterior-superior"


def test_seg_nrrd_in_slicerio(source, tmp_path):
    path = export(source, "seg.nrrd", tmp_path / "out", "--origin", "cnn_corrected") / "case.seg.nrrd"
    assert_same_in_itk(path, LABELS)
    held = slicerio.read_segmentation(str(path))
    np.testing.assert_array_equal(held["voxels"].T, LABELS.array)
    ijk_to_lps = np.asarray(held["ijkToLPS"])
    index = np.array([3, 2, 1, 1])
    np.testing.assert_allclose((ijk_to_lps @ index)[:3], GRID.to_world(index[:3][::-1]), atol=1e-9)
    assert [s["name"] for s in held["segments"]] == list(NAMES)
    for found, s in zip(held["segments"], STRUCTURES, strict=True):
        np.testing.assert_allclose(np.array(found["color"]) * 255, s.rgb, atol=1e-3)
        assert (found["labelValue"], found["layer"]) == (s.label, 0)
        assert found["terminology"]["type"][:2] == ["SCT", s.sct_code]
        where = np.argwhere(LABELS.array == s.label)[:, ::-1]
        expected = np.stack([where.min(0), where.max(0)], axis=1).ravel().tolist()
        assert found["extent"] == expected
    assert "kidseg.origin:cnn_corrected" in nrrd.read_header(str(path))["Segment0_Tags"]


def test_itksnap(source, tmp_path):
    out = export(source, "itksnap", tmp_path / "out")
    assert_same_in_itk(out / "case.nii.gz", LABELS)
    lines = (out / "case.label.txt").read_text().splitlines()
    assert "# ITK-SnAP Label Description File" in lines
    rows = [
        re.fullmatch(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+(\d)\s+(\d)\s+"(.*)"', x) for x in lines
    ]
    found = [row.groups() for row in rows if row]
    assert found[0] == ("0", "0", "0", "0", "0", "0", "0", "Clear Label")
    assert [(int(r[0]), tuple(map(int, r[1:4])), r[7]) for r in found[1:]] == [
        (s.label, s.rgb, s.name) for s in STRUCTURES
    ]


@pytest.mark.parametrize(
    ("origin", "algorithm"), [("manual", "MANUAL"), ("cnn", "AUTOMATIC"), ("cnn_corrected", "SEMIAUTOMATIC")]
)
@pytest.mark.parametrize("turned", [False, True])
def test_dicom_seg_in_highdicom(tmp_path, origin, algorithm, turned):
    """The label map may come in any orientation of the series' grid; frames lie where the CT's slices lie."""
    paths = write_series(tmp_path / "ct", body_ct(GRID))
    labels = LABELS
    if turned:
        flipped = np.array(GRID.direction) * [1, 1, -1]
        top = GRID.to_world(np.array([GRID.shape[0] - 1, 0, 0]))
        grid = Geometry(GRID.shape, GRID.spacing_mm, tuple(top.tolist()), tuple(map(tuple, flipped.tolist())))
        labels = Volume(LABELS.array[::-1], grid)
    write_volume(tmp_path / "case.nrrd", labels)
    more = ("--ct", str(tmp_path / "ct"), "--origin", origin)
    path = export(tmp_path / "case.nrrd", "dicom-seg", tmp_path / "out", *more) / "case.dcm"
    segmentation = highdicom.seg.segread(str(path))
    assert segmentation.SegmentationType == "BINARY"
    assert segmentation.number_of_segments == len(STRUCTURES)
    sources = [pydicom.dcmread(p) for p in paths]
    for k in range(GRID.shape[0]):
        uid = next(
            d.SOPInstanceUID
            for d in sources
            if np.allclose(d.ImagePositionPatient, GRID.to_world(np.array([k, 0, 0])), atol=1e-3)
        )
        frames = segmentation.get_pixels_by_source_instance(
            [uid], combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(frames[0], LABELS.array[k])
    for number, s in enumerate(STRUCTURES, 1):
        found = segmentation.get_segment_description(number)
        assert found.segment_label == s.name
        assert found.algorithm_type.value == algorithm
        assert found.segmented_property_type.value == s.sct_code
        lab = highdicom.color.CIELabColor.from_rgb(*s.rgb)
        assert list(found.RecommendedDisplayCIELabValue) == list(lab.value)


@pytest.mark.parametrize("odd", ["without meta", "no thickness", "thickness of words", "positions in full"])
def test_dicom_seg_over_files_that_lack_what_they_may(tmp_path, odd):
    """Thickness is then the distance between slices, and geometry stands as it was read."""

    def edit(k: int, data: Any) -> None:
        if odd == "no thickness":
            del data.SliceThickness
        elif odd == "thickness of words":
            data.add_new(0x00180050, "LO", CANARIES[0])
        elif odd == "positions in full":
            data.add_new(0x00200032, "LO", [f"{float(v):.15f}" for v in data.ImagePositionPatient])

    paths = write_series(tmp_path / "ct", body_ct(GRID), edit=edit)
    if odd == "without meta":
        for path in paths:
            without_meta(path)
    source = tmp_path / "one.nii.gz"
    write_volume(source, LABELS)
    found = pydicom.dcmread(
        export(source, "dicom-seg", tmp_path / "out", "--ct", str(tmp_path / "ct")) / "one.dcm"
    )
    measures = found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    thick = GRID.spacing_mm[0] * (1.0 if "thickness" in odd else 1.5)
    assert float(measures.SliceThickness) == pytest.approx(thick)
    places = {
        tuple(f.PlanePositionSequence[0].ImagePositionPatient) for f in found.PerFrameFunctionalGroupsSequence
    }
    ks = np.flatnonzero(LABELS.array.any((1, 2)))
    np.testing.assert_allclose(
        sorted(places, key=lambda p: p[2]),
        sorted(map(tuple, GRID.to_world(np.stack([ks, 0 * ks, 0 * ks], 1))), key=lambda p: p[2]),
        atol=1e-6,
    )


def test_dicom_seg_refers_and_tells_nothing_else(tmp_path):
    paths = write_series(tmp_path / "ct", body_ct(GRID))
    write_volume(tmp_path / "case.nrrd", LABELS)
    path = (
        export(tmp_path / "case.nrrd", "dicom-seg", tmp_path / "out", "--ct", str(tmp_path / "ct"))
        / "case.dcm"
    )
    content = path.read_bytes()
    assert not [word for word in CANARIES if word.encode() in content]
    held, ct = pydicom.dcmread(path), pydicom.dcmread(paths[0])
    for key in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert held[key].value == ct[key].value
    referenced = held.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == ct.SeriesInstanceUID
    uids = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert uids == {pydicom.dcmread(p).SOPInstanceUID for p in paths}
    assert not held.PatientName and not held.PatientID


def volume_ml(label: int) -> float:
    """Volume of a structure's voxels; the surface between them cuts their corners."""
    return int((LABELS.array == label).sum()) * float(np.prod(GRID.spacing_mm)) / 1000


@pytest.mark.parametrize("to", ["stl", "ply"])
def test_meshes_in_trimesh(source, tmp_path, to):
    out = export(source, to, tmp_path / "out")
    for s in STRUCTURES:
        mesh: Any = trimesh.load(out / f"case_{s.name}.{to}", force="mesh")
        assert mesh.is_watertight
        np.testing.assert_allclose(mesh.bounds.mean(0), surface_bounds(s.label).mean(0), atol=1e-3)
        assert 0 < mesh.volume / 1000 <= volume_ml(s.label)
        if to == "ply":
            np.testing.assert_array_equal(np.unique(mesh.visual.vertex_colors[:, :3], axis=0), [s.rgb])
    about = json.loads((out / f"case_{to}.json").read_text())
    assert about["units"] == "mm"
    assert about["frame"].startswith("LPS")


def surface_bounds(label: int) -> np.ndarray:
    """Bounds of the surface half-way to the neighbours: half a voxel beyond the outermost voxel centres."""
    where = np.argwhere(LABELS.array == label).astype(float)
    steps = np.concatenate([np.eye(3) / 2, -np.eye(3) / 2])
    points = GRID.to_world((where[:, None] + steps).reshape(-1, 3))
    return np.stack([points.min(0), points.max(0)])


def test_glb_in_trimesh(source, tmp_path):
    """One named, coloured node a structure; the root turns mm, LPS into metres, Y up."""
    path = export(source, "glb", tmp_path / "out") / "case.glb"
    scene: Any = trimesh.load(path)
    assert set(scene.geometry) == set(NAMES)
    content = path.read_bytes()
    n = struct.unpack_from("<I", content, 12)[0]
    document, blob = json.loads(content[20 : 20 + n]), content[28 + n :]
    for s in STRUCTURES:
        mesh = scene.geometry[s.name]
        of_mesh = next(m for m in document["meshes"] if m["name"] == s.name)["primitives"][0]["attributes"]
        view = document["bufferViews"][document["accessors"][of_mesh["COLOR_0"]]["bufferView"]]
        rgba = np.frombuffer(blob, np.uint8, view["byteLength"], view["byteOffset"]).reshape(-1, 4)
        np.testing.assert_array_equal(np.unique(rgba, axis=0), [(*s.rgb, 255)])
        matrix, _ = scene.graph.get(s.name)
        x, y, z = surface_bounds(s.label).mean(0) / 1000
        placed = trimesh.transform_points(mesh.bounds, matrix)
        np.testing.assert_allclose((placed.min(0) + placed.max(0)) / 2, (x, z, -y), atol=1e-6)


def test_nnunet(cases, tmp_path):
    out = export(cases, "nnunet", tmp_path / "nnUNet_raw") / "Dataset101_Kidneys"
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "CT"}
    assert (dataset["numTraining"], dataset["file_ending"]) == (3, ".nii.gz")
    assert dataset["labels"] == {"background": 0, **{s.name: s.label for s in STRUCTURES}}
    for case in load_cohort(cases):
        assert case.labels is not None
        assert_same_in_itk(out / "imagesTr" / f"{case.name}_0000.nii.gz", case.ct)
        assert_same_in_itk(out / "labelsTr" / f"{case.name}.nii.gz", case.labels)
    again = load_cohort(out, "auto")
    assert again.names == load_cohort(cases).names


def test_label_values_of_nnunet_are_consecutive(tmp_path):
    """KiTS labels know parenchyma and tumour only: the classes are 1 and 2, and none is empty by design."""
    labels = LABELS.with_array(np.choose(LABELS.array, [0, 0, 0, 0, 1, 2]).astype(np.uint8))
    write_volume(tmp_path / "in" / "a" / "imaging.nii.gz", body_ct(GRID))
    write_volume(tmp_path / "in" / "a" / "segmentation.nii.gz", labels)
    out = export(tmp_path / "in", "nnunet", tmp_path / "Dataset007_Kits", "--label-map", "kits19")
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "parenchyma": 1, "rcc": 2}
    assert_same_in_itk(out / "labelsTr" / "a.nii.gz", labels)


def test_msd(cases, tmp_path):
    out = export(cases, "msd", tmp_path / "Task11_Kidneys")
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"0": "background", **{str(s.label): s.name for s in STRUCTURES}}
    assert (dataset["name"], dataset["modality"], dataset["numTraining"]) == (
        "Task11_Kidneys",
        {"0": "CT"},
        3,
    )
    for pair, case in zip(dataset["training"], load_cohort(cases), strict=True):
        assert case.labels is not None
        assert_same_in_itk(out / pair["image"], case.ct)
        assert_same_in_itk(out / pair["label"], case.labels)


def test_kits_has_slices_along_array_axis_0(cases, tmp_path):
    out = export(cases, "kits", tmp_path / "kits")
    for case in load_cohort(cases):
        assert case.labels is not None
        held: Any = nibabel.load(out / case.name / "segmentation.nii.gz")
        assert nibabel.aff2axcodes(held.affine) == ("I", "P", "L")
        values = np.choose(canonical(case.labels).array, [0, 0, 0, 0, 1, 2])
        np.testing.assert_array_equal(np.asarray(held.dataobj), values[::-1])  # superior to inferior
    again = load_cohort(out, "kits19")
    assert again.structures == frozenset({"parenchyma", "rcc"})
    assert again[0].ct.geometry.shape == canonical(load_cohort(cases)[0].ct).array.shape[::-1]


def test_bids(cases, tmp_path):
    out = export(cases, "bids", tmp_path / "derivatives" / "kidseg", "--description", "stage3")
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "kidseg_jax"
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*_dseg.nii.gz"))
    assert found == [
        "sub-P1/ses-case00000/anat/sub-P1_ses-case00000_desc-stage3_dseg.nii.gz",
        "sub-P1/ses-case00001/anat/sub-P1_ses-case00001_desc-stage3_dseg.nii.gz",
        "sub-P2/anat/sub-P2_desc-stage3_dseg.nii.gz",
    ]
    labels = load_cohort(cases)[2].labels
    assert labels is not None
    assert_same_in_itk(out / found[2], labels)
    rows = [line.split("\t") for line in (out / found[2].replace(".nii.gz", ".tsv")).read_text().splitlines()]
    assert rows[0][:2] == ["index", "name"]
    assert [(int(r[0]), r[1], tuple(bytes.fromhex(r[3][1:]))) for r in rows[2:]] == [
        (s.label, s.name, s.rgb) for s in STRUCTURES
    ]


def test_segments_named_by_someone_else(tmp_path):
    """Slicer's own names and values: the label map comes from the file itself."""
    stored = LABELS.with_array(np.choose(LABELS.array, [0, 0, 0, 0, 7, 9]).astype(np.uint8))
    header = {
        "space": "left-posterior-superior",
        "space directions": (np.array(GRID.direction) * np.array(GRID.spacing_mm)[::-1]).T,
        "space origin": np.array(GRID.origin_mm),
        "kinds": ["domain"] * 3,
    }
    for i, (value, name) in enumerate([(7, "Left_kidney"), (9, "Tumor")]):
        header |= {f"Segment{i}_ID": name, f"Segment{i}_Name": name, f"Segment{i}_LabelValue": str(value)}
    nrrd.write(str(tmp_path / "s.seg.nrrd"), stored.array.T, header)
    path = export(tmp_path / "s.seg.nrrd", "nrrd", tmp_path / "out", "--label-map", "auto") / "s.nrrd"
    assert_same_in_itk(path, LABELS.with_array(np.where(LABELS.array > 3, LABELS.array, 0).astype(np.uint8)))


def test_a_folder_of_cases_in_a_format_of_single_files(cases, tmp_path):
    out = export(cases, "seg.nrrd", tmp_path / "out")
    for case in load_cohort(cases):
        assert case.labels is not None
        assert_same_in_itk(out / f"{case.name}.seg.nrrd", case.labels)
