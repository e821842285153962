"""DICOM SEG and RTSTRUCT: at the right place for every order and direction of axes and any angle, by readers
that are not ours, and read back as labels voxel for voxel.
"""

import itertools
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import CANARIES, write_series
from grids import body_ct, oblique, two_kidneys
from hypothesis import given, settings
from hypothesis import strategies as st

from kidseg_jax.cli.app import main
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.label_maps import label_map, read_structures
from kidseg_jax.export.dicom_seg import write_dicom_seg
from kidseg_jax.export.rtstruct import write_rtstruct
from kidseg_jax.formats.volumes import read_ct, read_volume, write_volume
from kidseg_jax.imaging.outlines import filled, outlines
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume, turned_onto

TURNS = [
    np.eye(3)[list(order)] * np.array(signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((-1.0, 1.0), repeat=3)
]
"""The 48 orders and directions of three axes."""


def any_turn(seed: int) -> np.ndarray:
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return axes * np.sign(np.linalg.det(axes))


def grid_with(axes: np.ndarray, square: bool = False) -> Geometry:
    spacing = (2.5, 0.75, 0.75) if square else (2.5, 0.8, 0.6)
    return Geometry((5, 9, 8), spacing, (12.5, -40.25, 301.0), tuple(map(tuple, axes.tolist())))


def lopsided(grid: Geometry, seed: int = 0) -> Volume:
    """Labels without any symmetry: a ring with an island in its hole, single voxels, and scatter."""
    rng = np.random.default_rng(seed)
    array = np.zeros(grid.shape, np.uint8)
    array[1:4, 1:7, 1:7] = 4
    array[2, 2:6, 2:6] = 0
    array[2, 3, 4] = 5
    array[0, 8, 0] = 1
    array[4, 0, 7] = 2
    scatter = rng.random(grid.shape) < 0.08
    array[scatter] = rng.integers(1, 6, int(scatter.sum()))
    return Volume(array, grid)


def at_places_of(labels: Volume, grid: Geometry) -> np.ndarray:
    """Labels on another grid, carried over voxel by voxel through the patient's millimetres."""
    array = np.zeros(grid.shape, np.uint8)
    voxels = np.argwhere(labels.array)
    there = grid.to_index(labels.geometry.to_world(voxels))
    assert np.abs(there - np.rint(there)).max() < 1e-3
    array[tuple(np.rint(there).astype(int).T)] = labels.array[tuple(voxels.T)]
    return array


def seg_by_highdicom(path: Path, grid: Geometry) -> np.ndarray:
    """The segments of a file, on a grid by highdicom's own volume and affine."""
    held = highdicom.seg.segread(path)
    array = np.zeros(grid.shape, np.uint8)
    for number in held.segment_numbers:
        name = held.get_segment_description(number).segment_label
        volume = held.get_volume(segment_numbers=[number])
        found = np.argwhere(volume.array[..., 0] > 0)
        world = volume.map_indices_to_reference(found)
        there = grid.to_index(world)
        assert np.abs(there - np.rint(there)).max() < 1e-3
        array[tuple(np.rint(there).astype(int).T)] = next(s.label for s in STRUCTURES if s.name == name)
    return array


def inside_by_brute_force(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels (row, column) around whose centre the polygon (n, 2) winds, by summed angles."""
    rows, columns = np.indices(shape)
    centres = np.stack([rows.ravel(), columns.ravel()], axis=1)
    to = polygon[None] - centres[:, None]
    angle = np.arctan2(to[..., 0], to[..., 1])
    turn = np.diff(np.concatenate([angle, angle[:, :1]], axis=1), axis=1)
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    return (np.abs(turn.sum(1)) > np.pi).reshape(shape)


def rtstruct_by_the_standard(path: Path, slices: list[Path], grid: Geometry) -> np.ndarray:
    """The ROIs of a file, each contour in the image that it names, by that image's own position and axes.

    Every point lies in the plane of the image, and each of an outline half-way between two pixels.
    """
    images = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, slices)}
    data = pydicom.dcmread(path)
    names = {roi.ROINumber: roi.ROIName for roi in data.StructureSetROISequence}
    array = np.zeros(grid.shape, np.uint8)
    for roi in data.ROIContourSequence:
        label = next(s.label for s in STRUCTURES if s.name == names[roi.ReferencedROINumber])
        by_image: dict[str, list[np.ndarray]] = {}
        for contour in roi.ContourSequence:
            image = images[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            points = np.array(contour.ContourData, float).reshape(-1, 3) - image.ImagePositionPatient
            assert contour.NumberOfContourPoints == len(points)
            axes = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
            assert np.abs(points @ np.cross(axes[0], axes[1])).max() < 1e-3
            places = np.stack(
                [points @ axes[1] / image.PixelSpacing[0], points @ axes[0] / image.PixelSpacing[1]], axis=1
            )
            by_image.setdefault(image.SOPInstanceUID, []).append(places)
        for uid, polygons in by_image.items():
            image = images[uid]
            shape = (image.Rows, image.Columns)
            mask = np.logical_xor.reduce([inside_by_brute_force(one, shape) for one in polygons])
            outside = np.argwhere(~np.pad(mask, 1)) - 1
            every, times = np.unique(np.concatenate(polygons).round(6), axis=0, return_counts=True)
            for place in every[times == 1]:  # the channel to a hole is passed twice
                for some in (np.argwhere(mask), outside):
                    assert np.abs(some - place).max(1).min() <= 0.5 + 1e-3
            axes = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
            row, column = np.nonzero(mask)
            world = np.array(image.ImagePositionPatient, float)
            world = world + np.outer(row * image.PixelSpacing[0], axes[1])
            world = world + np.outer(column * image.PixelSpacing[1], axes[0])
            array[tuple(np.rint(grid.to_index(world)).astype(int).T)] = label
    return array


def check(folder: Path, axes: np.ndarray, label_axes: np.ndarray) -> None:
    """A series with these axes, labels of the same voxels with axes in another order, both objects, both ways
    back.
    """
    grid = grid_with(axes)
    paths = write_series(folder / "ct", body_ct(grid))
    drawn = lopsided(grid)
    labels = turned(drawn, label_axes)
    np.testing.assert_array_equal(at_places_of(labels, grid), drawn.array)
    write_dicom_seg(folder / "seg.dcm", labels, folder / "ct", STRUCTURES, "manual")
    write_rtstruct(folder / "rtstruct.dcm", labels, folder / "ct", STRUCTURES, "manual")
    read = read_ct(folder / "ct").geometry
    expected = at_places_of(drawn, read)
    np.testing.assert_array_equal(seg_by_highdicom(folder / "seg.dcm", read), expected)
    np.testing.assert_array_equal(rtstruct_by_the_standard(folder / "rtstruct.dcm", paths, read), expected)
    for name in ("seg.dcm", "rtstruct.dcm"):
        back = read_structures(folder / name, label_map("kidseg"), read)
        np.testing.assert_array_equal(back.array, expected)
        back = (
            read_structures(folder / name, label_map("kidseg"), labels.geometry)
            if same_planes(labels.geometry, read)
            else back
        )
        np.testing.assert_array_equal(at_places_of(back, read), expected)


def same_planes(a: Geometry, b: Geometry) -> bool:
    """Whether the slices of two grids are the same planes."""
    return abs(float(np.asarray(a.direction)[:, 2] @ np.asarray(b.direction)[:, 2])) > 0.999


def turned(labels: Volume, turn: np.ndarray) -> Volume:
    """The same voxels with index axes in another order and direction, each as `turn` (3, 3) says."""
    own = labels.geometry
    order = np.abs(turn).argmax(0)  # for each new axis x, y, z the old one
    signs = turn[order, np.arange(3)]
    array = labels.array.transpose([2 - order[2 - a] for a in range(3)])
    array = array[tuple(slice(None, None, int(signs[2 - a])) for a in range(3))]
    corner = np.array(own.shape)[::-1] - 1
    index = np.where([signs[list(order).index(i)] < 0 for i in range(3)], corner, 0)
    z, y, x = (float(own.spacing_mm[2 - order[2 - a]]) for a in range(3))
    return Volume(
        array,
        Geometry(
            tuple(array.shape),
            (z, y, x),
            tuple(own.to_world(index[::-1]).tolist()),
            tuple(map(tuple, (np.asarray(own.direction) @ turn).tolist())),
        ),
    )


@pytest.mark.parametrize("number", range(48))
def test_every_order_and_direction_of_axes(tmp_path, number):
    check(tmp_path, TURNS[number], TURNS[(7 * number + 5) % 48])


@pytest.mark.parametrize("seed", range(50))
def test_any_angle(tmp_path, seed):
    check(tmp_path, any_turn(seed), TURNS[(11 * seed) % 48])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_outlines_fill_to_the_same_mask(data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    bits = data.draw(st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    mask = np.array(bits).reshape(shape)
    drawn = outlines(mask)
    np.testing.assert_array_equal(filled(drawn, shape), mask)
    brute = np.zeros(shape, bool)
    for one in drawn:
        brute ^= inside_by_brute_force(one, shape)
    np.testing.assert_array_equal(brute, mask)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_that_reach_outside_are_filled_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 2 * np.pi, 7))
    radius = rng.uniform(2, 9, 7)
    polygon = np.stack([5 + radius * np.sin(corners), 4 + radius * np.cos(corners)], axis=1)
    expected = inside_by_brute_force(polygon, (9, 8))
    np.testing.assert_array_equal(filled([polygon], (9, 8)), expected)
    np.testing.assert_array_equal(filled([np.concatenate([polygon, polygon[:1]])], (9, 8)), expected)


GRID = oblique(20, shape=(12, 14, 32), spacing_mm=(2.0, 1.5, 1.0))


@pytest.fixture
def drawn(tmp_path) -> Path:
    """A folder of two cases: DICOM with a SEG below it, DICOM with an RTSTRUCT beside its slices."""
    for name, to in (("a", "dicom-seg"), ("b", "rtstruct")):
        ct = tmp_path / "cases" / name
        write_series(ct / "CT", body_ct(GRID))
        write_volume(tmp_path / f"{name}.nrrd", two_kidneys(GRID))
        out = ct / ("labels" if to == "dicom-seg" else "CT")
        arguments = ["export", str(tmp_path / f"{name}.nrrd"), "--to", to, "--ct", str(ct / "CT")]
        assert main([*arguments, "--out", str(tmp_path / to), "--origin", "manual"]) == 0
        out.mkdir(exist_ok=True)
        (tmp_path / to / f"{name}.dcm").rename(out / f"{name}.dcm")
    return tmp_path / "cases"


def test_a_folder_of_dicom_cases_is_a_source_of_labels(drawn, capsys):
    cohort = load_cohort(drawn)
    assert cohort.names == ("a", "b")
    for case in cohort:
        assert case.labels is not None
        np.testing.assert_array_equal(case.labels.array, two_kidneys(GRID).array)
        np.testing.assert_array_equal(case.ct.array, body_ct(GRID).array)
    assert main(["info", str(drawn)]) == 0
    assert "2 cases of 2 patients, 2 can be used" in capsys.readouterr().out


def test_a_file_named_segmentation_beside_imaging(drawn, tmp_path):
    (drawn / "a" / "CT").rename(drawn / "a" / "imaging")
    (drawn / "a" / "labels" / "a.dcm").rename(drawn / "a" / "segmentation.dcm")
    cohort = load_cohort(drawn)
    assert cohort.files[0].labels == drawn / "a" / "segmentation.dcm"
    labels = cohort[0].labels
    assert labels is not None and (labels.array == two_kidneys(GRID).array).all()


def test_the_series_that_the_labels_were_drawn_on_is_taken(drawn):
    write_series(drawn / "a" / "other", body_ct(oblique(3, shape=(7, 9, 10)), 1), number=7, prefix="Z")
    case = load_cohort(drawn)[0]
    np.testing.assert_array_equal(case.ct.array, body_ct(GRID).array)


def test_labels_of_another_series_are_refused(drawn):
    for path in (drawn / "a" / "CT").iterdir():
        path.unlink()
    write_series(drawn / "a" / "CT", body_ct(GRID))
    with pytest.raises(ValueError, match=r"a\.dcm: drawn on another series than a holds"):
        _ = load_cohort(drawn)[0]


def test_two_label_files_are_refused(drawn):
    (drawn / "b" / "CT" / "c.dcm").write_bytes((drawn / "b" / "CT" / "b.dcm").read_bytes())
    with pytest.raises(ValueError, match=r"b: need one DICOM SEG or RTSTRUCT, got .*b\.dcm.*c\.dcm"):
        load_cohort(drawn)


@pytest.mark.parametrize("name", ["a/labels/a.dcm", "b/CT/b.dcm"])
def test_export_reads_them_too(drawn, tmp_path, name):
    ct = drawn / name[0] / "CT"
    arguments = ["export", str(drawn / name), "--to", "nrrd", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--ct", str(ct)]) == 0
    read = read_volume(tmp_path / "out" / f"{Path(name).name}.nrrd")
    np.testing.assert_array_equal(read.array, two_kidneys(GRID).array)


def test_labels_without_their_ct_are_refused(drawn, tmp_path, capsys):
    arguments = ["export", str(drawn / "b/CT/b.dcm"), "--to", "nrrd", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "b.dcm: a DICOM SEG or RTSTRUCT needs the CT that it was drawn on" in capsys.readouterr().err


def edited(path: Path, edit: Any) -> Path:
    data = pydicom.dcmread(path)
    edit(data)
    data.save_as(path)
    return path


def shifted(k: int, by_mm: float) -> Any:
    def edit(data: Any) -> None:
        for roi in data.ROIContourSequence:
            for contour in roi.ContourSequence:
                values = np.array(contour.ContourData, float)
                values[k::3] += by_mm
                contour.ContourData = [f"{v:.4f}" for v in values]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (shifted(2, 0.7), "contours must lie in the slices of the CT, one is off by 0.35"),
        (shifted(2, 400.0), "contours must lie inside the CT"),
        (shifted(0, 90.0), "contours must lie inside the CT"),
        (
            lambda data: setattr(data.ROIContourSequence[0].ContourSequence[0], "ContourData", ["1", "2"]),
            "a contour is not made of points",
        ),
        (lambda data: data.__delattr__("StructureSetROISequence"), "not a whole DICOM SEG or RTSTRUCT"),
        (
            lambda data: setattr(data.StructureSetROISequence[0], "ROIName", "Spleen"),
            r"need regions named artery, .*, got 'Spleen': say what it is in a \.toml label map",
        ),
    ],
)
def test_contours_that_fit_no_voxel_are_refused(drawn, edit, message):
    path = edited(drawn / "b" / "CT" / "b.dcm", edit)
    with pytest.raises(ValueError, match=rf"^b\.dcm: {message}"):
        read_structures(path, label_map("kidseg"), GRID)


def test_frames_that_fit_no_voxel_are_refused(drawn):
    path = drawn / "a" / "labels" / "a.dcm"
    moved = Geometry(GRID.shape, GRID.spacing_mm, (10.0, -20.5, 30.65), GRID.direction)
    with pytest.raises(ValueError, match=r"its voxels must be those of the CT, they are off by 0\.20 of one"):
        read_structures(path, label_map("kidseg"), moved)
    coarse = Geometry(GRID.shape, (2.0, 1.5, 2.0), GRID.origin_mm, GRID.direction)
    with pytest.raises(ValueError, match="its voxels must be those of the CT"):
        read_structures(path, label_map("kidseg"), coarse)
    part = GRID.part((0, 0, 0), (12, 14, 20))
    with pytest.raises(ValueError, match="its voxels must lie inside the CT, some do not"):
        read_structures(path, label_map("kidseg"), part)


def test_names_of_others(drawn, tmp_path):
    """Sides are dropped; what a label map names under [segments] is what it says."""

    def edit(data: Any) -> None:
        for roi, name in zip(
            data.StructureSetROISequence,
            ["A_Renal", "Vein", "URETER", "Kidney_R", "GTV"],
            strict=True,
        ):
            roi.ROIName = name

    path = edited(drawn / "b" / "CT" / "b.dcm", edit)
    toml = tmp_path / "names.toml"
    toml.write_text('[segments]\n"A_Renal" = "background"\n"GTV" = "rcc"\nkidney = "parenchyma"\n')
    labels = read_structures(path, label_map(str(toml)), GRID)
    expected = two_kidneys(GRID).array.copy()
    expected[expected == 1] = 0
    np.testing.assert_array_equal(labels.array, expected)


def test_a_kidney_drawn_with_its_tumour(drawn, caplog):
    """The tumour is laid over it, and said."""
    path = drawn / "b" / "CT" / "b.dcm"
    whole = two_kidneys(GRID)
    both = whole.with_array(np.where(whole.array == 5, 4, whole.array).astype(np.uint8))
    write_rtstruct(path.with_name("both"), both, drawn / "b" / "CT", STRUCTURES, "manual")
    kidney = next(
        roi
        for roi in pydicom.dcmread(path.with_name("both")).ROIContourSequence
        if roi.ROIDisplayColor == list(STRUCTURES[3].rgb)
    )

    def edit(data: Any) -> None:
        data.ROIContourSequence[3].ContourSequence = kidney.ContourSequence

    labels = read_structures(edited(path, edit), label_map("kidseg"), GRID)
    np.testing.assert_array_equal(labels.array, whole.array)
    n = int((whole.array == 5).sum())
    assert f"rcc is laid over {n} voxels of other regions" in caplog.text


def test_fractions_and_label_maps_are_read(tmp_path):
    """Segmentations as highdicom writes them, of the other two types."""
    paths = write_series(tmp_path / "ct", body_ct(GRID))
    images = [pydicom.dcmread(path) for path in paths]
    images.sort(key=lambda one: one.ImagePositionPatient[2])
    write_dicom_seg(tmp_path / "seg.dcm", two_kidneys(GRID), tmp_path / "ct", STRUCTURES, "manual")
    held = highdicom.seg.segread(tmp_path / "seg.dcm")
    described = [held.get_segment_description(number) for number in held.segment_numbers]
    masks = np.stack([two_kidneys(GRID).array == s.label for s in STRUCTURES], axis=-1)
    for kind, pixels in (
        ("FRACTIONAL", masks * 0.9 + 0.05),
        ("LABELMAP", two_kidneys(GRID).array),
    ):
        made = highdicom.seg.Segmentation(
            images,
            pixels,
            kind,
            described,
            series_instance_uid=highdicom.UID(),
            series_number=3,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="none",
            manufacturer_model_name="none",
            software_versions="0",
            device_serial_number="0",
        )
        made.save_as(tmp_path / f"{kind}.dcm")
        back = read_structures(tmp_path / f"{kind}.dcm", label_map("kidseg"), GRID)
        np.testing.assert_array_equal(back.array, two_kidneys(GRID).array)


def test_rtstruct_refers_and_tells_nothing_else(drawn):
    path = drawn / "b" / "CT" / "b.dcm"
    assert not [word for word in CANARIES if word.encode() in path.read_bytes()]
    data = pydicom.dcmread(path)
    paths = [one for one in sorted((drawn / "b" / "CT").iterdir()) if one != path]
    ct = pydicom.dcmread(paths[0])
    assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (ct.StudyInstanceUID, ct.FrameOfReferenceUID)
    frame = data.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == ct.SeriesInstanceUID
    uids = {one.ReferencedSOPInstanceUID for one in series.ContourImageSequence}
    assert uids == {pydicom.dcmread(one).SOPInstanceUID for one in paths}
    assert not data.PatientName and not data.PatientID
    for roi, s in zip(data.StructureSetROISequence, STRUCTURES, strict=True):
        assert (roi.ROIName, roi.ROIGenerationAlgorithm) == (s.name, "MANUAL")
    for roi, s in zip(data.ROIContourSequence, STRUCTURES, strict=True):
        assert list(roi.ROIDisplayColor) == list(s.rgb)
        assert all(len(str(v.original_string)) <= 16 for c in roi.ContourSequence for v in c.ContourData)


def test_labels_on_other_axes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="labels must lie along the axes of the grid"):
        turned_onto("here", two_kidneys(oblique(10)), oblique(20))
