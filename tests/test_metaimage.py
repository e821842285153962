"""MetaImage files made by hand, beside what ITK reads; broken ones are refused whole."""

import zlib
from pathlib import Path

import itk_reading
import numpy as np
import pytest

from kidseg_jax.formats.metaimage import read_meta
from kidseg_jax.formats.raw import untrusted
from kidseg_jax.formats.volumes import read_volume, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume

VALUES = np.random.default_rng(0).integers(0, 90, (5, 6, 7)).astype(np.int16)
TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4"},
    **{"MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8", "MET_LONG": "i4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
}


def meta(path: Path, data: bytes, where: str = "LOCAL", kind: str = "MET_SHORT", **fields: str) -> Path:
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "TransformMatrix": "0 1 0 -1 0 0 0 0 1",
        "Offset": "10 -20.5 30",
        "ElementSpacing": "0.5 0.75 2",
        "DimSize": "7 6 5",
        "ElementType": kind,
        **fields,
        "ElementDataFile": where,
    }
    path.write_bytes("".join(f"{key} = {value}\n" for key, value in lines.items()).encode() + data)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TYPES)
def test_voxels_and_grid_are_those_that_itk_reads(tmp_path, kind, order, packed):
    data = VALUES.astype(order + TYPES[kind]).tobytes()
    fields = {"BinaryDataByteOrderMSB": str(order == ">")}
    if packed:
        data = zlib.compress(data)
        fields |= {"CompressedData": "True", "CompressedDataSize": str(len(data))}
    path = meta(tmp_path / "x.mha", data, kind=kind, **fields)
    voxels, grid = read_meta(path)
    theirs, their_grid = itk_reading.read_meta(path)
    np.testing.assert_array_equal(voxels, VALUES)
    np.testing.assert_array_equal(theirs, VALUES)
    assert grid.geometry.is_close(their_grid.geometry, 1e-9)


def test_data_in_a_file_beside_it_with_a_head_or_as_text(tmp_path):
    (tmp_path / "x.raw").write_bytes(b"header" + VALUES.tobytes())
    for before in ("6", "-1"):
        path = meta(tmp_path / "x.mhd", b"", "x.raw", HeaderSize=before)
        np.testing.assert_array_equal(read_volume(path).array, VALUES)
        np.testing.assert_array_equal(itk_reading.read_meta(path)[0], VALUES)
    text = " ".join(map(str, VALUES.ravel())).encode()
    np.testing.assert_array_equal(
        read_volume(meta(tmp_path / "t.mha", text, BinaryData="False")).array, VALUES
    )
    with untrusted(1 << 30), pytest.raises(ValueError, match="need data in the file itself"):
        read_volume(tmp_path / "x.mhd")


def test_lengths_in_other_units_are_converted(tmp_path):
    path = meta(tmp_path / "x.mha", VALUES.tobytes(), DistanceUnits="cm")
    assert read_volume(path).spacing_mm == (20.0, 7.5, 5.0)
    with pytest.raises(ValueError, match="DistanceUnits"):
        read_volume(meta(tmp_path / "x.mha", VALUES.tobytes(), DistanceUnits="inch"))


@pytest.mark.parametrize("name", ["x.mha", "x.nrrd", "x.seg.nrrd", "x.nii.gz"])
def test_every_flipped_bit_of_the_packed_voxels_is_seen(tmp_path, name):
    path = tmp_path / name
    labels = (VALUES % 6).astype(np.uint8)
    write_volume(path, Volume(labels, Geometry(labels.shape, (2.0, 0.75, 0.5))))
    whole = path.read_bytes()
    start = whole.rfind(b"\x1f\x8b") + 10 if "mha" not in name else whole.index(b"LOCAL\n") + 6
    seen = 0
    for at in range(start, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            same = np.array_equal(read_volume(path).array, labels)
        except ValueError:
            same, seen = True, seen + 1
        assert same, at
    assert seen > 0.9 * (len(whole) - start)


PACKED = zlib.compress(VALUES.tobytes())


@pytest.mark.parametrize(
    ("data", "fields", "reason"),
    [
        (PACKED[:-9], {}, "cut or broken"),
        (PACKED[:9], {"CompressedDataSize": "9"}, "cannot hold|cut"),
        (b"", {}, "cannot hold"),
        (VALUES.tobytes(), {}, "cut or broken"),
        (zlib.compress(VALUES.tobytes()[:-2]), {}, "cut short"),
        (zlib.compress(VALUES.tobytes() + bytes(1 << 21)), {}, "there are more"),
        (zlib.compress(bytes(200)), {"DimSize": "1000 1000 1000"}, "cannot hold"),
    ],
)
def test_packed_data_that_are_not_the_voxels_are_refused(tmp_path, data, fields, reason):
    path = meta(tmp_path / "x.mha", data, CompressedData="True", **fields)
    with pytest.raises(ValueError, match=rf"x.mha: .*({reason})"):
        read_volume(path)
