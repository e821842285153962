"""Pixels of DICOM images: every bit that counts becomes HU, packed or not; a cut file is refused by name."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import Edit, packed_by_itk, packed_by_pydicom, without_meta, write_series
from grids import body_ct
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from kidseg_jax.formats.volumes import read_ct, read_volume, read_with_notes
from kidseg_jax.imaging.volume import Geometry

PLAIN = Geometry((6, 8, 9), (2.5, 0.75, 0.5), (-10.0, 20.0, -300.0))
PACKINGS = {
    "RLE": packed_by_pydicom(RLELossless),
    "JPEG-LS": packed_by_pydicom(JPEGLSLossless),
    "JPEG": packed_by_itk("JPEG"),
    "JPEG 2000": packed_by_itk("JPEG2000"),
}


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_volume(folder)
    said = str(caught.value)
    assert "\n" not in said and all(word in said for word in words), said


def last(paths: list[Path]) -> Path:
    """The file of the slice that lies highest: without it the rest is a series."""
    return max(paths, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))


@pytest.mark.parametrize("cut_at", [0.0, 0.1, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("where", [0, -1])
@pytest.mark.parametrize("meta", [True, False])
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, cut_at, where, meta):
    """First and last in place count most: without them the rest is a whole series of one slice less."""
    paths = write_series(tmp_path / "ct", body_ct(PLAIN))
    paths.sort(key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    if not meta:
        for path in paths:
            without_meta(path)
    whole = paths[where].read_bytes()
    paths[where].write_bytes(whole[: int(cut_at * len(whole))])
    refused(tmp_path / "ct", paths[where].name)


@pytest.mark.parametrize("last_tag", [0x00080060, 0x0020000D, 0x00200032])
def test_a_file_cut_between_two_elements_is_refused_by_name(tmp_path, last_tag):
    """What is left reads as a whole data set: without pixels, and before its place is told."""
    paths = write_series(tmp_path / "ct", body_ct(PLAIN))
    cut = last(paths)
    data = pydicom.dcmread(cut)
    for element in list(data):
        if element.tag > last_tag:
            del data[element.tag]
    data.save_as(cut)
    refused(tmp_path / "ct", cut.name, "holds no pixel data")


@pytest.mark.parametrize("meta", [True, False])
def test_pixel_data_shorter_than_its_image_is_refused(tmp_path, meta):
    def half(k: int, data: FileDataset) -> None:
        if k == 3:
            data.PixelData = data.PixelData[: len(data.PixelData) // 2]

    paths = write_series(tmp_path / "ct", body_ct(PLAIN), edit=half)
    if not meta:
        for path in paths:
            without_meta(path)
    refused(tmp_path / "ct", "cut short: 72 of 144 bytes")


def test_files_without_meta_are_read(tmp_path):
    ct = body_ct(PLAIN)
    for path in write_series(tmp_path / "ct", ct):
        without_meta(path)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, ct.array)


def test_no_pixels_no_slice(tmp_path):
    def empty(k: int, data: FileDataset) -> None:
        if k == 5:
            del data.PixelData

    write_series(tmp_path / "ct", body_ct(PLAIN), edit=empty)
    refused(tmp_path / "ct", "it holds no pixel data")


def test_a_header_that_promises_more_than_memory_takes_none(tmp_path):
    def huge(k: int, data: FileDataset) -> None:
        data.Rows = data.Columns = 65535

    write_series(tmp_path / "ct", body_ct(PLAIN), edit=huge)
    refused(tmp_path / "ct", "cut short: 144 of 8589672450 bytes")


def test_more_voxels_than_there_is_room_for_are_refused(tmp_path, monkeypatch):
    write_series(tmp_path / "ct", body_ct(PLAIN))
    monkeypatch.setenv("KIDSEG_MAX_GIB", "1e-7")
    refused(tmp_path / "ct", "GiB of voxels", "KIDSEG_MAX_GIB")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_byte_orders(tmp_path, syntax):
    ct = body_ct(PLAIN)
    for path in write_series(tmp_path / "ct", ct):
        data = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
        data.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            path,
            data,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax == ImplicitVRLittleEndian,
            force_encoding=True,
        )
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, ct.array)


def test_bits_and_signs_may_differ_between_slices(tmp_path):
    """12 bits with other things in the high ones, 12 bits signed, 16 bits signed: all are the same HU."""
    ct = body_ct(PLAIN)
    ct = ct.with_array(np.clip(ct.array, -1000, 1000))

    def mixed(k: int, data: FileDataset) -> None:
        hu = ct.array[k].astype(np.int32)
        if k % 3 == 0:
            data.BitsStored, data.HighBit = 12, 11
            stored = hu + 1024 | 0x5000
        elif k % 3 == 1:
            data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 1
            data.RescaleIntercept, stored = 0, hu & 0x0FFF
        else:
            data.PixelRepresentation, data.RescaleIntercept, stored = 1, 0, hu
        data.PixelData = stored.astype(np.uint16).tobytes()

    write_series(tmp_path / "ct", ct, edit=mixed)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, ct.array)


def test_rescale_may_differ_between_slices(tmp_path):
    ct = body_ct(PLAIN)
    ct = ct.with_array((ct.array // 2 * 2).astype(np.int16))

    def mixed(k: int, data: FileDataset) -> None:
        if k % 2:
            data.RescaleSlope, data.RescaleIntercept = 2, -2000
            data.PixelData = ((ct.array[k].astype(int) + 2000) // 2).astype(np.uint16).tobytes()

    write_series(tmp_path / "ct", ct, edit=mixed)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, ct.array)


@pytest.mark.parametrize("gone", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",), ()])
def test_one_slice_without_rescale_is_refused_by_name(tmp_path, gone):
    def silent(k: int, data: FileDataset) -> None:
        if k == 2:
            data.RescaleIntercept = "" if not gone else data.RescaleIntercept
            for key in gone:
                delattr(data, key)

    paths = write_series(tmp_path / "ct", body_ct(PLAIN), edit=silent)
    odd = next(path for path in paths if not pydicom.dcmread(path).get("RescaleIntercept", ""))
    refused(tmp_path / "ct", odd.name, "no rescale slope and intercept", "5 other slices")


def test_a_series_without_rescale_is_noted(tmp_path):
    ct = body_ct(PLAIN)

    def silent(k: int, data: FileDataset) -> None:
        del data.RescaleSlope, data.RescaleIntercept
        data.PixelRepresentation, data.PixelData = 1, ct.array[k].tobytes()

    write_series(tmp_path / "ct", ct, edit=silent)
    reading = read_with_notes(tmp_path / "ct")
    np.testing.assert_array_equal(reading.volume.array, ct.array)
    assert reading.notes == ("no slice has a rescale slope and intercept: values are taken as HU",)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "-1024"), ("nan", "0"), ("1", "inf")])
def test_a_rescale_that_is_no_line_is_refused(tmp_path, slope, intercept):
    def broken(k: int, data: FileDataset) -> None:
        if k == 2:
            data.add_new(0x00281053, "LO", slope)
            data.add_new(0x00281052, "LO", intercept)

    write_series(tmp_path / "ct", body_ct(PLAIN), edit=broken)
    refused(tmp_path / "ct", "rescale slope and intercept must be finite and not zero")


@pytest.mark.parametrize("kind", PACKINGS)
def test_packed_pixels_are_read(tmp_path, kind):
    ct = body_ct(Geometry((3, 40, 50), (2.5, 0.75, 0.5)))
    write_series(tmp_path / "ct", ct, edit=PACKINGS[kind])
    np.testing.assert_array_equal(read_volume(tmp_path / "ct").array, ct.array)


@pytest.mark.parametrize("kind", PACKINGS)
@pytest.mark.parametrize("inside", [True, False])
def test_packed_pixels_that_are_cut_are_refused(tmp_path, kind, inside):
    """Cut with the file, or inside of it with every length right again."""
    paths = write_series(
        tmp_path / "ct", body_ct(Geometry((3, 40, 50), (2.5, 0.75, 0.5))), edit=PACKINGS[kind]
    )
    whole, path = last(paths).read_bytes(), last(paths)
    if inside:
        data = pydicom.dcmread(path)
        frame = next(generate_frames(data.PixelData, number_of_frames=1))
        data.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
        data.save_as(path)
    else:
        path.write_bytes(whole[:-700])
    refused(tmp_path / "ct", path.name, "cut short")


@pytest.mark.parametrize("kind", ["JPEG", "JPEG 2000"])
def test_a_header_of_another_size_than_its_packed_pixels_is_refused(tmp_path, kind):
    pack: Edit = PACKINGS[kind]

    def wider(k: int, data: FileDataset) -> None:
        pack(k, data)
        data.Columns = 4000

    write_series(tmp_path / "ct", body_ct(Geometry((3, 40, 50), (2.5, 0.75, 0.5))), edit=wider)
    refused(tmp_path / "ct", "its packed pixels are 40 x 50")


def test_a_way_of_storing_that_is_not_known_is_refused(tmp_path):
    def unknown(k: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = (
            UID("1.2.840.113619.5.2")  # big-endian pixels behind a little-endian header
        )

    write_series(tmp_path / "ct", body_ct(PLAIN), edit=unknown)
    refused(tmp_path / "ct", "stored in a way that is not read")
