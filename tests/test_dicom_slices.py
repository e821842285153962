"""What lies in a folder beside a good CT: passed over and counted where it is no CT, refused by name where it
should be a slice; nothing outside the folder is opened.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import CANARIES, without_meta, write_series
from grids import body_ct
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless, generate_uid

from kidseg_jax.cli.app import main
from kidseg_jax.cohort.folder import find_images
from kidseg_jax.formats.volumes import read_volume, read_with_notes
from kidseg_jax.imaging.volume import Geometry

GRID = Geometry((6, 8, 9), (2.5, 0.75, 0.5), (-10.0, 20.0, -300.0))
CT = body_ct(GRID)
OPENED: list[str] | None = None


def _listen(event: str, arguments: tuple) -> None:
    if OPENED is not None and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_listen)


def other(folder: Path, name: str, sop_class: str, modality: str, **elements: object) -> Path:
    """One object of another kind in a series of its own, made from a slice."""
    (path,) = write_series(folder / "made", CT, skip=(1, 2, 3, 4, 5))
    data = pydicom.dcmread(path)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    data.Modality, data.SeriesInstanceUID = modality, generate_uid()
    for key, value in elements.items():
        setattr(data, key, value)
    if "PixelData" in elements:
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.file_meta.TransferSyntaxUID = RLELossless
    path.unlink()
    path.parent.rmdir()
    data.save_as(folder / name)
    return folder / name


DOSE = {
    "DoseUnits": "GY",
    "DoseType": "PHYSICAL",
    "DoseSummationType": "PLAN",
    "DoseGridScaling": "1",
    "NumberOfFrames": 1,
    "FrameIncrementPointer": 0x3004000C,
    "GridFrameOffsetVector": ["0"],
}
ONE_BIT = {
    "NumberOfFrames": 1,
    "BitsAllocated": 1,
    "BitsStored": 1,
    "HighBit": 0,
    "PixelData": encapsulate(
        [(1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\xc1\0" * 4]
    ),
}
SLIDE = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "NumberOfFrames": 400, "Rows": 0}
BESIDE = {
    "RTDOSE": ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE", DOSE),
    "SEG of one bit": ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", ONE_BIT),
    "slide": ("1.2.840.10008.5.1.4.1.1.77.1.6", "SM", SLIDE),
    "report": ("1.2.840.10008.5.1.4.1.1.88.22", "SR", {"Rows": None, "ImagePositionPatient": None}),
    "PET": ("1.2.840.10008.5.1.4.1.1.128", "PT", {}),
    "screenshot": ("1.2.840.10008.5.1.4.1.1.7", "CT", {"SamplesPerPixel": 3}),
    "enhanced CT": ("1.2.840.10008.5.1.4.1.1.2.1", "CT", {"NumberOfFrames": 30}),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("meta", [True, False])
def test_what_is_no_ct_is_passed_over_and_counted(tmp_path, kind, meta):
    write_series(tmp_path, CT)
    sop_class, modality, elements = BESIDE[kind]
    path = other(tmp_path, "zz.dcm", sop_class, modality, **elements)
    if not meta and "PixelData" not in elements:
        without_meta(path)
    reading = read_with_notes(tmp_path)
    np.testing.assert_array_equal(reading.volume.array, CT.array)
    assert len(reading.notes) == 1 and reading.notes[0].startswith("left out: 1 "), reading.notes


def test_an_object_of_another_kind_may_be_broken(tmp_path):
    write_series(tmp_path, CT)
    path = other(tmp_path, "zz.dcm", *BESIDE["RTDOSE"][:2], **DOSE)
    path.write_bytes(path.read_bytes()[:-50])
    np.testing.assert_array_equal(read_volume(tmp_path).array, CT.array)


def test_files_beside_are_passed_over(tmp_path):
    """Texts, archives, hidden files, a directory of the medium, a link that goes round, a pipe."""
    write_series(tmp_path, CT)
    (tmp_path / "README").write_text("about")
    (tmp_path / "ct.zip").write_bytes(b"PK\3\4" + bytes(300))
    (tmp_path / "._IM0001").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    other(tmp_path, "DICOMDIR", "1.2.840.10008.1.3.10", "CT")
    (tmp_path / "round").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    reading = read_with_notes(tmp_path)
    np.testing.assert_array_equal(reading.volume.array, CT.array)
    assert reading.notes == (
        "left out: 2 files that are not DICOM",
        "left out: 1 linked folders",
        "left out: 1 pipes or devices",
    )


@pytest.mark.parametrize(
    "change", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "colour"]
)
def test_a_slice_that_has_lost_its_place_is_refused_by_name(tmp_path, change):
    def lose(k: int, data: FileDataset) -> None:
        if k == 5 and change == "colour":
            data.SamplesPerPixel = 3
        elif k == 5:
            delattr(data, change)

    write_series(tmp_path, CT, edit=lose)
    with pytest.raises(ValueError, match=r"IM\d+: is one of the (images without|colour images)"):
        read_volume(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 600, b"<html>404</html>"])
def test_a_file_named_like_a_slice_is_no_other_file(tmp_path, content):
    paths = write_series(tmp_path, CT)
    paths[0].write_bytes(content)
    with pytest.raises(ValueError, match=f"{paths[0].name}: named like a slice, but no DICOM"):
        read_volume(tmp_path)


def test_a_slice_of_another_modality_is_refused_by_name(tmp_path):
    """A series has one modality: the word is broken, and the file is still a slice of the CT."""
    write_series(tmp_path, CT, edit=lambda k, data: setattr(data, "Modality", "BT") if k == 5 else None)
    with pytest.raises(ValueError, match=r"IM\d+: is one of the objects of modality other than CT"):
        read_volume(tmp_path)


def test_a_slice_without_modality_is_a_slice(tmp_path):
    write_series(tmp_path, CT, edit=lambda k, data: data.__delattr__("Modality") if k == 5 else None)
    np.testing.assert_array_equal(read_volume(tmp_path).array, CT.array)


def test_a_broken_series_does_not_take_the_other_down(tmp_path):
    second = body_ct(GRID, 2)
    paths = write_series(tmp_path, CT, number=3, prefix="A")
    write_series(tmp_path, second, number=7, prefix="B")
    paths[2].write_bytes(paths[2].read_bytes()[:-20])
    for series in (None, "3"):
        with pytest.raises(ValueError, match=f"{paths[2].name}: its pixel data is cut short"):
            read_volume(tmp_path, series=series)
    reading = read_with_notes(tmp_path, series="7")
    np.testing.assert_array_equal(reading.volume.array, second.array)
    assert reading.notes == ("left out: 1 files of other series that cannot be read",)


def test_different_slices_with_one_uid_are_refused(tmp_path):
    write_series(tmp_path, CT, edit=lambda k, data: setattr(data, "SOPInstanceUID", f"1.2.{k // 2}"))
    with pytest.raises(ValueError, match=r"IM\d+ and IM\d+ are different images with one SOPInstanceUID"):
        read_volume(tmp_path)


def test_a_copy_with_other_pixels_is_refused(tmp_path):
    paths = write_series(tmp_path, CT)
    data = pydicom.dcmread(paths[0])
    data.PixelData = data.PixelData[:-2] + b"\1\1"
    data.save_as(tmp_path / "other")
    with pytest.raises(ValueError, match="different images with one SOPInstanceUID"):
        read_volume(tmp_path)


@pytest.mark.parametrize("deep", ["a/b/c", "DICOM/PA000001/ST000001"])
def test_folders_may_lie_deeper(tmp_path, deep):
    """As archives write them: below a case, and one series in two folders."""
    paths = write_series(tmp_path / "case" / deep / "0", CT)
    (tmp_path / "case" / deep / "1").mkdir()
    for path in paths[:3]:
        path.rename(path.parents[1] / "1" / path.name)
    assert find_images(tmp_path) == [("case", tmp_path / "case")]
    np.testing.assert_array_equal(read_volume(tmp_path / "case").array, CT.array)


@pytest.mark.parametrize("where", ["inside", "outside", "nowhere"])
def test_links_are_followed_inside_of_the_folder_only(tmp_path, where, monkeypatch):
    folder = tmp_path / "ct"
    paths = write_series(folder, CT)
    moved = {"inside": folder / "deep" / "x", "outside": tmp_path / "out" / "x", "nowhere": folder / "gone"}[
        where
    ]
    moved.parent.mkdir(exist_ok=True)
    paths[0].rename(moved)
    paths[0].symlink_to(moved)
    if where == "nowhere":
        moved.unlink()
    monkeypatch.setattr(sys.modules[__name__], "OPENED", [])
    if where == "inside":
        np.testing.assert_array_equal(read_volume(folder).array, CT.array)
    else:
        with pytest.raises(ValueError, match=f"{paths[0].name}: a link to no file of this folder"):
            read_volume(folder)
    assert OPENED and all(Path(name).resolve().is_relative_to(folder) for name in OPENED if "ct" in name)
    if where != "inside":
        assert not [name for name in OPENED if name in (str(moved), str(paths[0]))]


def test_a_directory_of_the_medium_is_not_followed(tmp_path, monkeypatch):
    secret = write_series(tmp_path / "secret", CT)[0]
    write_series(tmp_path / "ct", CT)
    path = other(tmp_path / "ct", "DICOMDIR", "1.2.840.10008.1.3.10", "CT")
    data = pydicom.dcmread(path)
    record = pydicom.Dataset()
    record.add_new(0x00041500, "LO", f"..\\secret\\{secret.name}")
    data.DirectoryRecordSequence = [record]
    data.save_as(path)
    monkeypatch.setattr(sys.modules[__name__], "OPENED", [])
    read_volume(tmp_path / "ct")
    assert OPENED and not [name for name in OPENED if "secret" in name]


def test_no_word_of_a_broken_header_is_said(tmp_path, capfd):
    """Not where series are listed, what is left out is counted, a file is refused, nor by the command."""

    def canaries(k: int, data: FileDataset) -> None:
        data.add_new(0x00200011, "LO", CANARIES[0])
        data.add_new(0x00200012, "LO", CANARIES[1])
        data.add_new(0x00281053, "LO", CANARIES[0] if k == 2 else "1")

    paths = write_series(tmp_path, CT, edit=canaries)
    other(tmp_path, "zz.dcm", "1.2.840.10008.5.1.4.1.1.128", "CANARYID")
    uids = [
        str(pydicom.dcmread(path)[key].value)
        for path in paths
        for key in ("SOPInstanceUID", "SeriesInstanceUID")
    ]
    said = []
    for _ in range(2):
        main(["info", str(tmp_path)])
        said.append("".join(capfd.readouterr()))
        (tmp_path / "zz.dcm").unlink(missing_ok=True)
        write_series(tmp_path, CT, edit=canaries, prefix="B")
    assert all("no rescale" in text for text in said[:1]) and "2 series" in said[1]
    assert not [word for word in (*CANARIES, *uids) if word in "".join(said)]
