"""NRRD files made by hand: members of gzip, types, byte orders and spaces, beside what ITK reads."""

import bz2
import gzip
import os
from itertools import pairwise
from pathlib import Path

import itk_reading
import numpy as np
import pytest

from kidseg_jax.formats.nrrd import read_nrrd
from kidseg_jax.formats.raw import untrusted
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import read_labels, read_volume

LABELS = np.random.default_rng(0).integers(0, 6, (5, 6, 7), np.uint8)
ENDINGS = [".nrrd", ".seg.nrrd"]


def nrrd_file(path: Path, data: bytes, encoding="gzip", kind="uchar", endian="little", space="LPS") -> Path:
    header = (
        f"NRRD0004\ntype: {kind}\ndimension: 3\nspace: {space}\nsizes: 7 6 5\n"
        "space directions: (0,2,0) (0.5,0,0) (0,0,-3)\nkinds: domain domain domain\n"
        f"endian: {endian}\nencoding: {encoding}\nspace origin: (1,2,3)\n\n"
    )
    path.write_bytes(header.encode() + data)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cuts", [(), (1,), (100,), (0, 0), (209,), (50, 51, 210)])
def test_several_members_are_one_stream(tmp_path, ending, cuts):
    held, ends = LABELS.tobytes(), (0, *cuts, LABELS.size)
    members = [gzip.compress(held[a:b]) for a, b in pairwise(ends)]
    read = read_labels(nrrd_file(tmp_path / f"x{ending}", b"".join(members)))
    np.testing.assert_array_equal(read.array, LABELS)


@pytest.mark.parametrize("ending", ENDINGS)
def test_zeros_behind_a_member_are_padding(tmp_path, ending):
    path = nrrd_file(tmp_path / f"x{ending}", gzip.compress(LABELS.tobytes()) + bytes(512))
    np.testing.assert_array_equal(read_labels(path).array, LABELS)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cut", [-1, -4, -8, -9, -40, 10, 1])
def test_every_cut_is_refused(tmp_path, ending, cut):
    path = nrrd_file(tmp_path / f"x{ending}", gzip.compress(LABELS.tobytes())[:cut])
    with pytest.raises(ValueError, match=rf"x{ending}: .*(cut|cannot hold)"):
        read_volume(path)


KINDS = {
    "signed char": "i1",
    "unsigned char": "u1",
    "short": "i2",
    "uint16": "u2",
    "int": "i4",
    "float": "f4",
    "double": "f8",
}


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize(
    ("kind", "space"), [*((k, "LPS") for k in KINDS), ("short", "RAS"), ("short", "left-anterior-superior")]
)
def test_voxels_and_grid_are_those_that_itk_reads(tmp_path, kind, space, endian, encoding):
    stored = (LABELS.astype(float) - 3 * (kind[0] != "u")).astype(KINDS[kind])
    data = stored.astype(stored.dtype.newbyteorder("<" if endian == "little" else ">")).tobytes()
    packed = gzip.compress(data) if encoding == "gzip" else data
    path = nrrd_file(tmp_path / "x.nrrd", packed, encoding, kind, endian, space)
    ours = read_nrrd(path)
    voxels, grid = itk_reading.read_nrrd(path)
    np.testing.assert_array_equal(ours[0], stored)
    np.testing.assert_array_equal(voxels, stored)
    assert ours[0].dtype == stored.dtype
    assert ours[1].geometry.is_close(grid.geometry, 1e-9)


def test_other_encodings_and_data_beside_the_header(tmp_path):
    """What ITK reads of them is the same; a file of nobody we know may not name another one."""
    text = " ".join(map(str, LABELS.ravel())).encode()
    np.testing.assert_array_equal(read_volume(nrrd_file(tmp_path / "x.nrrd", text, "ascii")).array, LABELS)
    packed = nrrd_file(tmp_path / "x.nrrd", bz2.compress(LABELS.tobytes()), "bzip2")
    np.testing.assert_array_equal(read_volume(packed).array, LABELS)
    (tmp_path / "x.raw").write_bytes(b"one line\nab" + LABELS.tobytes())
    for skips in ("line skip: 1\nbyte skip: 2", "byte skip: -1", "byte skip: 11"):
        apart = nrrd_file(tmp_path / "x.nhdr", b"", f"raw\n{skips}\ndata file: x.raw")
        np.testing.assert_array_equal(read_volume(apart).array, LABELS)
        np.testing.assert_array_equal(itk_reading.read_nrrd(apart)[0], LABELS)
    with untrusted(1 << 30), pytest.raises(ValueError, match="need data in the file itself"):
        read_volume(apart)


@pytest.mark.parametrize("place", ["/etc/hostname", "../other.raw", "linked.raw", "pipe", ".", "gone.raw"])
def test_no_header_leads_out_of_its_folder(tmp_path, place):
    """Nor to a pipe, which would wait for ever."""
    (tmp_path / "other.raw").write_bytes(LABELS.tobytes())
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "linked.raw").symlink_to(tmp_path / "other.raw")
    os.mkfifo(folder / "pipe")
    path = nrrd_file(folder / "x.nhdr", b"", f"raw\ndata file: {place}")
    with pytest.raises(ValueError, match=r"x\.nhdr: its data file must lie beside it"):
        read_volume(path)
    with pytest.raises(ValueError, match="need a plain file"):
        read_volume((folder / "pipe").rename(folder / "pipe.nrrd"))


def test_lengths_in_other_units_are_converted(tmp_path):
    path = nrrd_file(tmp_path / "x.nrrd", LABELS.tobytes(), 'raw\nspace units: "um" "mm" "cm"')
    assert read_volume(path).spacing_mm == (30.0, 0.0005, 2.0)
    with pytest.raises(ValueError, match="space units"):
        read_volume(nrrd_file(tmp_path / "x.nrrd", LABELS.tobytes(), 'raw\nspace units: "s" "mm" "mm"'))


@pytest.mark.parametrize("at", [0, 3])
def test_layers_lie_on_the_axis_that_is_no_direction_of_space(tmp_path, at):
    """Slicer writes the list axis first; other tools write it last."""
    layers = np.stack([LABELS == 4, LABELS == 5]).astype(np.uint8)
    sizes, kinds, steps = ["7", "6", "5"], ["domain"] * 3, ["(2,0,0)", "(0,2,0)", "(0,0,3)"]
    for words, word in ((sizes, "2"), (kinds, "list"), (steps, "none")):
        words.insert(at, word)
    header = (
        f"NRRD0004\ntype: uint8\ndimension: 4\nspace: LPS\nsizes: {' '.join(sizes)}\n"
        f"space directions: {' '.join(steps)}\nkinds: {' '.join(kinds)}\nencoding: raw\n"
        "space origin: (0,0,0)\n"
        "Segment0_ID:=a\nSegment0_Name:=parenchyma\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
        "Segment1_ID:=b\nSegment1_Name:=rcc\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n\n"
    )
    path, data = tmp_path / "x.seg.nrrd", np.moveaxis(layers, 0, 3 - at).tobytes()
    path.write_bytes(header.encode() + data)
    array, grid, _ = read_segmentation(path)
    assert grid.geometry.spacing_mm == (3.0, 2.0, 2.0)
    np.testing.assert_array_equal(array, np.where(LABELS == 4, 1, 0) + np.where(LABELS == 5, 2, 0))
    path.write_bytes(header.replace("none", "(1,0,0)").encode() + data)
    with pytest.raises(ValueError, match=r"x\.seg\.nrrd: .*(fit 4 axes|list axis)"):
        read_segmentation(path)
