"""NRRD files made by hand: members of gzip, types, byte orders and spaces, beside what ITK reads."""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kidseg_jax.formats import itk
from kidseg_jax.formats.nrrd import read_nrrd
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
    assert ours is not None
    voxels, grid = itk.read_nrrd(path)
    np.testing.assert_array_equal(ours[0], stored)
    np.testing.assert_array_equal(voxels, stored)
    assert ours[0].dtype == stored.dtype
    assert ours[1].geometry.is_close(grid.geometry, 1e-9)


def test_other_encodings_and_files_are_left_to_itk(tmp_path):
    text = " ".join(map(str, LABELS.ravel())).encode()
    path = nrrd_file(tmp_path / "x.nrrd", text, "ascii")
    assert read_nrrd(path) is None
    np.testing.assert_array_equal(read_volume(path).array, LABELS)
    (tmp_path / "x.raw").write_bytes(LABELS.tobytes())
    apart = nrrd_file(tmp_path / "x.nhdr", b"", "raw\ndata file: x.raw")
    assert read_nrrd(apart) is None
    np.testing.assert_array_equal(read_volume(apart).array, LABELS)
