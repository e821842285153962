"""Reading and writing volumes: every format against another reader, every trap of the headers."""

import gzip
import os
import re
import subprocess
import sys
from typing import Any

import itk
import nibabel
import nrrd
import numpy as np
import pytest
from grids import body_ct, oblique, random_geometry, two_kidneys
from nifti_files import RAS, nifti_bytes, put

from kidseg_jax.formats import seg_nrrd
from kidseg_jax.formats.raw import ROOM, untrusted
from kidseg_jax.formats.volumes import (
    WRITTEN,
    hounsfield,
    read_ct,
    read_labels,
    read_volume,
    read_with_notes,
    whole_labels,
    write_volume,
)
from kidseg_jax.imaging.structures import NAMES, STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume

RNG = np.random.default_rng(3)
CT = RNG.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
LPS = Geometry((4, 5, 6), (4.0, 3.0, 2.0), (-5.0, -6.0, 7.0))


@pytest.mark.parametrize("ending", WRITTEN)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_read_back_and_itk_agrees(tmp_path, ending, dtype, seed):
    if ending == ".seg.nrrd" and dtype is not np.uint8:
        with pytest.raises(TypeError, match="label maps are uint8"):
            write_volume(tmp_path / "x.seg.nrrd", Volume(CT.astype(dtype), LPS))
        return
    rng = np.random.default_rng(seed)
    grid = random_geometry(rng)
    volume = Volume((rng.random(grid.shape) * 200).astype(dtype), grid)
    write_volume(tmp_path / f"x{ending}", volume)
    read = read_volume(tmp_path / f"x{ending}")
    assert read.array.dtype == dtype
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.geometry.is_close(grid, 1e-4)
    if ending == ".npz":
        return
    image = itk.imread(str(tmp_path / f"x{ending}"))
    np.testing.assert_array_equal(itk.array_from_image(image), volume.array)
    np.testing.assert_allclose(np.array(image.GetOrigin()), grid.origin_mm, rtol=1e-6)
    np.testing.assert_allclose(np.array(image.GetSpacing()), grid.spacing_mm[::-1], rtol=1e-6)
    np.testing.assert_allclose(itk.array_from_matrix(image.GetDirection()), grid.direction, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_nibabel_finds_the_same_affine_in_both_forms(tmp_path, seed):
    grid = random_geometry(np.random.default_rng(seed))
    write_volume(tmp_path / "x.nii.gz", Volume(np.ones(grid.shape, np.uint8), grid))
    held: Any = nibabel.load(tmp_path / "x.nii.gz")
    corner = np.array(grid.shape) - 1
    expected = grid.to_world(corner) * (-1, -1, 1)
    for affine in (held.header.get_sform(), held.header.get_qform()):
        np.testing.assert_allclose(affine @ (*corner[::-1], 1), (*expected, 1), rtol=1e-5, atol=1e-3)
    assert held.header["sform_code"] == held.header["qform_code"] == 1


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "X.NII", "X.NII.GZ", "x.Nii.gz", "Ü nïcode çt.nii.gz"])
def test_every_voxel_type_byte_order_and_name_is_read(tmp_path, dtype, order, name):
    array = np.abs(CT // 10).astype(dtype)
    read = read_volume(put(tmp_path / name, nifti_bytes(array, order=order)))
    np.testing.assert_array_equal(read.array, np.abs(CT // 10))
    assert read.array.dtype == {"u1": np.uint8, "f4": np.float32, "f8": np.float32}.get(dtype, np.int16)
    assert read.geometry == LPS


def test_a_nii_beside_a_nii_gz_is_not_read_for_it(tmp_path):
    """ITK's NIfTI reader takes the voxels of X.nii when asked for X.nii.gz."""
    put(tmp_path / "x.nii", nifti_bytes(CT + 1))
    put(tmp_path / "x.nii.gz", nifti_bytes(CT))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, CT)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array, CT + 1)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (1.0, 0.0, lambda a: a),
        (0.0, 0.0, lambda a: a),
        (0.0, 7.0, lambda a: a),
        (np.nan, np.nan, lambda a: a),
        (1.0, -1024.0, lambda a: a - 1024.0),
        (0.5, 3.0, lambda a: a * 0.5 + 3),
        (-1.0, 0.0, lambda a: -a),
    ],
)
def test_slope_and_intercept(tmp_path, slope, intercept, expected):
    path = put(tmp_path / "x.nii.gz", nifti_bytes(CT, slope=slope, intercept=intercept))
    reading = read_with_notes(path)
    np.testing.assert_allclose(reading.volume.array, expected(CT.astype(float)))
    assert bool(reading.notes) == bool(np.isnan(slope))


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_scaled_voxels_are_those_of_nibabel_and_itk(tmp_path, dtype, order):
    content = nifti_bytes(np.abs(CT // 10).astype(dtype), order=order, slope=0.37, intercept=-11.5)
    path = put(tmp_path / "x.nii.gz", content)
    read = read_volume(path).array
    held: Any = nibabel.load(path)
    np.testing.assert_allclose(read.T, held.get_fdata(), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(read, itk.array_from_image(itk.imread(str(path))), rtol=1e-6, atol=1e-5)


def test_one_volume_in_four_dimensions(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(CT[None], dim=(4, 6, 5, 4, 1)))
    np.testing.assert_array_equal(read_volume(path).array, CT)


def test_an_extension_flag_without_an_extension(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(CT, tail=b"\1\0\0\0"))
    np.testing.assert_array_equal(read_volume(path).array, CT)


def test_gz_in_name_only(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(nifti_bytes(CT))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, CT)


def test_gz_of_several_members(tmp_path):
    content = nifti_bytes(CT)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, CT)


def test_zeros_behind_a_gz_are_padding(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(nifti_bytes(CT)) + b"\0" * 512)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, CT)


@pytest.mark.parametrize(("units", "scale"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_length_units(tmp_path, units, scale):
    reading = read_with_notes(put(tmp_path / "x.nii", nifti_bytes(CT, units=units)))
    np.testing.assert_allclose(reading.volume.spacing_mm, np.array(LPS.spacing_mm) * scale)
    np.testing.assert_allclose(reading.volume.geometry.origin_mm, np.array(LPS.origin_mm) * scale)
    assert bool(reading.notes) == (scale != 1.0)


def test_negative_pixdim_is_noted(tmp_path):
    reading = read_with_notes(put(tmp_path / "x.nii", nifti_bytes(CT, pixdim=(2.0, -3.0, 4.0))))
    assert reading.volume.geometry == LPS
    assert "negative" in reading.notes[0]


def test_qform_alone(tmp_path):
    """Quaternion (0, 0, 1) turns by 180 degrees about z: RAS to LPS."""
    read = read_volume(put(tmp_path / "x.nii", nifti_bytes(CT, sform=None, qform_code=1)))
    assert read.geometry.is_close(LPS, 1e-5)
    flipped = read_volume(put(tmp_path / "y.nii", nifti_bytes(CT, sform=None, qform_code=1, qfac=-1.0)))
    np.testing.assert_allclose(np.array(flipped.geometry.direction)[:, 2], (0, 0, -1), atol=1e-7)


def test_contradicting_forms_are_refused_until_one_is_named(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(CT, qform_code=1, q_offset=(5.0, 6.0, 27.0)))
    with pytest.raises(ValueError, match="qform and sform put a corner 20 mm apart"):
        read_volume(path)
    assert read_volume(path, orientation="sform").geometry.origin_mm[2] == 7.0
    assert read_volume(path, orientation="qform").geometry.origin_mm[2] == 27.0


def test_no_orientation_is_refused_until_it_is_named(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(CT, sform=None))
    with pytest.raises(ValueError, match="no orientation is stored"):
        read_volume(path)
    assert read_volume(path, orientation="pixdim").geometry == Geometry((4, 5, 6), (4.0, 3.0, 2.0))


def test_axes_a_little_off_are_repaired_and_noted(tmp_path):
    off = RAS.copy()
    off[0, 1] = 0.01  # 0.19 degrees; the farthest corner is 4 voxels away
    reading = read_with_notes(put(tmp_path / "x.nii", nifti_bytes(CT, sform=off)))
    axes = np.array(reading.volume.geometry.direction)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert "0.191 degrees off a right angle" in reading.notes[0]


def test_repairs_are_logged(tmp_path, caplog):
    read_volume(put(tmp_path / "x.nii", nifti_bytes(CT, pixdim=(2.0, -3.0, 4.0))))
    assert "x.nii: pixdim" in caplog.text


def test_a_reading_is_a_view_that_outlives_the_reader(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(np.full((64, 64, 64), 7, np.int16)))
    arrays = [read_volume(path).array for _ in range(8)]
    assert all((array == 7).all() for array in arrays)


@pytest.mark.parametrize("ending", [".nrrd", ".seg.nrrd"])
def test_nrrd_of_another_space(tmp_path, ending):
    """RAS in the file is LPS with x and y turned."""
    header = {
        "space": "right-anterior-superior",
        "space directions": np.diag([2.0, 3.0, 4.0]),
        "space origin": np.array([5.0, 6.0, 7.0]),
        "kinds": ["domain"] * 3,
    }
    labels = np.abs(CT % 5).astype(np.uint8)
    nrrd.write(str(tmp_path / f"x{ending}"), labels.T, header)
    read = read_volume(tmp_path / f"x{ending}")
    np.testing.assert_array_equal(read.array, labels)
    expected = Geometry((4, 5, 6), (4.0, 3.0, 2.0), (-5.0, -6.0, 7.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    assert read.geometry.is_close(expected, 1e-9)


def write_layers(path, layers, segments, **fields):
    header = {
        "space": "left-posterior-superior",
        "space directions": np.array([[np.nan] * 3, [2.0, 0, 0], [0, 3.0, 0], [0, 0, 4.0]]),
        "space origin": np.zeros(3),
        "kinds": ["list", "domain", "domain", "domain"],
        **{f"Segment{i}_{k}": v for i, segment in enumerate(segments) for k, v in segment.items()},
        **fields,
    }
    nrrd.write(str(path), np.stack([layer.T for layer in layers]), header)


def segment(name, value, layer=0):
    return {"ID": name, "Name": name, "LabelValue": str(value), "Layer": str(layer), "Color": "1 0 0"}


@pytest.mark.parametrize("key", ["Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation"])
def test_layers_become_one_map(tmp_path, key):
    first, second = np.zeros((2, 4, 5, 6), np.uint8)
    first[0], second[2:] = 1, 1
    path = tmp_path / "x.seg.nrrd"
    write_layers(
        path, [first, second], [segment("artery", 1), segment("vein", 1, 1)], **{key: "Binary labelmap"}
    )
    array, grid, segments = seg_nrrd.read_segmentation(path)
    np.testing.assert_array_equal(array, first + 2 * second)
    assert [(s.label, s.name) for s in segments] == [(1, "artery"), (2, "vein")]
    assert grid.geometry.spacing_mm == (4.0, 3.0, 2.0)


def test_voxels_of_two_segments_are_refused(tmp_path):
    first = np.ones((4, 5, 6), np.uint8)
    write_layers(tmp_path / "x.seg.nrrd", [first, first], [segment("a", 1), segment("b", 1, 1)])
    with pytest.raises(ValueError, match="120 voxels of segment 'b' also belong to another"):
        read_labels(tmp_path / "x.seg.nrrd")


def test_a_segmentation_keeps_names_colours_and_codes(tmp_path):
    labels = two_kidneys(oblique(10))
    write_volume(tmp_path / "x.seg.nrrd", labels)
    array, grid, segments = seg_nrrd.read_segmentation(tmp_path / "x.seg.nrrd")
    np.testing.assert_array_equal(array, labels.array)
    assert grid.geometry.is_close(labels.geometry, 1e-9)
    assert tuple(s.name for s in segments) == NAMES
    for found, structure in zip(segments, STRUCTURES, strict=True):
        assert (found.label, found.sct_code) == (structure.label, structure.sct_code)
        np.testing.assert_allclose(found.rgb or (), np.array(structure.rgb) / 255, atol=1e-6)


def test_hounsfield_rounds_and_tells_what_is_no_ct():
    ct = body_ct(oblique(0)).array
    np.testing.assert_array_equal(hounsfield("x", ct + np.float32(0.4)), ct)
    for no_ct in (np.clip(ct, 0, None), (ct / 2000).astype(np.float32), np.zeros_like(ct)):
        with pytest.raises(ValueError, match="not a CT in HU"):
            hounsfield("x", no_ct)


def test_whole_labels_takes_whole_numbers_only():
    np.testing.assert_array_equal(whole_labels("x", np.array([[[0.0, 255.0]]])), [[[0, 255]]])
    for array in (np.array([[[0.5]]]), np.array([[[-1]]]), np.array([[[256]]])):
        with pytest.raises(ValueError, match="label values"):
            whole_labels("x", array)


def test_real_files_read_as_nibabel_reads_them(shared_data):
    """Voxels, corners and label volumes of the NIfTI files of the shared data, counted independently.

    All of them with KIDSEG_ALL_DATA set; else one of each kind, for they are large.
    """
    paths = sorted(shared_data.rglob("*.nii.gz"))
    assert len(paths) >= 26
    for path in paths:
        held: Any = nibabel.load(path)
        slow = np.prod(held.shape) > 40e6 or re.search("annotator-[23]|_pred_|kidney-2", path.name)
        if slow and "KIDSEG_ALL_DATA" not in os.environ:
            continue
        read = read_volume(path)
        stored = np.asarray(held.dataobj)
        assert read.geometry.shape == stored.shape[::-1]
        assert (stored == read.array.T).all()
        corner = np.array(read.geometry.shape) - 1
        expected = (held.affine @ (*corner[::-1], 1))[:3] * (-1, -1, 1)
        np.testing.assert_allclose(read.geometry.to_world(corner), expected, atol=1e-3)
        if path.name != "example_ct.nii.gz" and "_ct_" not in path.name:
            labels = whole_labels(path.name, read.array)
            ours = np.bincount(labels.ravel()) * np.prod(read.spacing_mm) / 1000
            values = np.arange(int(stored.max()) + 1)
            counts = np.array([np.count_nonzero(stored == value) for value in values])
            theirs = counts * float(np.prod(held.header.get_zooms())) / 1000
            np.testing.assert_allclose(ours[values], theirs, rtol=1e-6)
            print(path.name, {int(v): round(float(ours[int(v)]), 2) for v in values}, "ml")


def test_itk_is_loaded_once_by_many_threads(tmp_path):
    """Two threads that load ITK at once get half a module each; the first reading of a process is a race."""
    paths = [tmp_path / name for name in ("x.nii.gz", "x.mha", "y.mha")]
    for path in paths:
        write_volume(path, Volume(CT, LPS))
    code = (
        "import sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from kidseg_jax.formats.volumes import read_volume\n"
        "together = threading.Barrier(9)\n"
        "def read(path):\n"
        "    together.wait()\n"
        "    return int(read_volume(path).array.sum())\n"
        "with ThreadPoolExecutor(9) as pool:\n"
        "    print(*pool.map(read, 3 * sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(int(CT.sum()))] * 9, done.stderr


@pytest.mark.parametrize("ending", [".npz", ".nii", ".nii.gz", ".nrrd"])
def test_npz_nifti_and_nrrd_need_no_itk(tmp_path, ending):
    write_volume(tmp_path / f"x{ending}", Volume(CT, LPS))
    code = (
        "import sys; sys.modules['itk'] = None\n"
        "from kidseg_jax.formats.volumes import read_volume, write_volume\n"
        f"v = read_volume({str(tmp_path / f'x{ending}')!r})\n"
        f"for e in {WRITTEN!r}:\n"
        f"    write_volume({str(tmp_path)!r} + '/y' + e, v.with_array(v.array.astype('uint8')))\n"
        f"print(read_volume({str(tmp_path)!r} + '/y.seg.nrrd').array.sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == int(CT.astype(np.uint8).sum())


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    write_volume(tmp_path / "x.nii.gz", Volume(CT, LPS))
    before = (tmp_path / "x.nii.gz").read_bytes()
    with pytest.raises(TypeError, match="voxels must be one of"):
        write_volume(tmp_path / "x.nii.gz", Volume(CT.astype(np.float64), LPS))
    assert (tmp_path / "x.nii.gz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_the_checksum_of_a_gz_is_looked_at(tmp_path):
    """ITK's reader gives wrong voxels without a word."""
    path = put(tmp_path / "x.nii.gz", nifti_bytes(RNG.integers(-1000, 1000, (40, 50, 60)).astype(np.int16)))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="gzip stream is cut or broken"):
        read_ct(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".npz"])
def test_a_file_that_would_take_more_room_than_there_is_is_refused(tmp_path, monkeypatch, ending):
    path = tmp_path / f"x{ending}"
    write_volume(path, Volume(np.ones((80, 80, 80), np.uint8), Geometry((80, 80, 80), (2.0, 2.0, 2.0))))
    for read in (read_volume, read_labels):
        with untrusted(500_000), pytest.raises(ValueError, match=rf"x{ending}: would take .* GiB"):
            read(path)
    monkeypatch.setenv(ROOM, "0.0004")
    with pytest.raises(ValueError, match=ROOM):
        read_volume(path)
    monkeypatch.setenv(ROOM, "0.001")
    assert read_volume(path).array.all()
    monkeypatch.setenv(ROOM, "much")
    with pytest.raises(ValueError, match="need a positive number of GiB"):
        read_volume(path)
