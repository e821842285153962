"""DICOM folders: order, phases, gaps, tilt, series by name, and nothing of a patient in what comes out."""

from typing import Any

import itk
import nibabel
import numpy as np
import pytest
from dicom_files import CANARIES, Edit, write_series
from grids import body_ct, oblique

from kidseg_jax.cli.app import main
from kidseg_jax.formats.volumes import read_ct, read_volume, read_with_notes
from kidseg_jax.imaging.volume import Geometry

pytest.importorskip("pydicom")

PLAIN = Geometry((6, 8, 9), (2.5, 0.75, 0.5), (-10.0, 20.0, -300.0))


def same_grid(a: Geometry, b: Geometry):
    assert a.shape == b.shape
    np.testing.assert_allclose(a.spacing_mm, b.spacing_mm, rtol=1e-9)
    np.testing.assert_allclose(a.origin_mm, b.origin_mm, atol=1e-9)
    np.testing.assert_allclose(a.direction, b.direction, atol=1e-9)


@pytest.mark.parametrize("angle_deg", [0, 12.5])
def test_slices_are_ordered_by_position(tmp_path, angle_deg):
    ct = body_ct(oblique(angle_deg))
    write_series(tmp_path / "ct", ct)
    read = read_ct(tmp_path / "ct")
    np.testing.assert_array_equal(read.array, ct.array)
    assert read.array.dtype == np.int16
    assert read.geometry.is_close(ct.geometry, 1e-6)


def test_positions_that_run_down_are_turned_up(tmp_path):
    """Row x column gives the third axis, whichever way the files were numbered."""
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    ct = body_ct(Geometry((5, 6, 7), (3.0, 1.0, 1.0), (0.0, 0.0, 50.0), axes))
    write_series(tmp_path / "ct", ct)
    read = read_ct(tmp_path / "ct")
    np.testing.assert_array_equal(read.array, ct.array[::-1])
    same_grid(read.geometry, Geometry((5, 6, 7), (3.0, 1.0, 1.0), (0.0, 0.0, 38.0)))


def test_itk_series_reader_agrees(tmp_path):
    ct = body_ct(oblique(-7.0))
    write_series(tmp_path, ct)
    module: Any = itk
    names = module.GDCMSeriesFileNames.New()
    names.SetDirectory(str(tmp_path))
    image = itk.imread(list(names.GetInputFileNames()))
    read = read_ct(tmp_path)
    np.testing.assert_array_equal(itk.array_from_image(image), read.array)
    np.testing.assert_allclose(np.array(image.GetOrigin()), read.geometry.origin_mm, atol=1e-6)
    np.testing.assert_allclose(np.array(image.GetSpacing()), read.geometry.spacing_mm[::-1], atol=1e-6)
    np.testing.assert_allclose(
        itk.array_from_matrix(image.GetDirection()), read.geometry.direction, atol=1e-6
    )


def test_slice_thickness_is_not_the_spacing(tmp_path):
    write_series(tmp_path, body_ct(PLAIN))  # SliceThickness says 3.75
    assert read_ct(tmp_path).spacing_mm[0] == pytest.approx(2.5)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1024.0), (2.0, -2000.0)])
def test_rescale_gives_hu(tmp_path, slope, intercept):
    ct = body_ct(PLAIN)
    ct = ct.with_array((np.maximum(ct.array, -1000) // 2 * 2).astype(np.int16))
    if intercept == 0.0:
        ct = ct.with_array(np.maximum(ct.array + 1000, 0).astype(np.int16))
    write_series(tmp_path, ct, slope=slope, intercept=intercept)
    np.testing.assert_array_equal(read_volume(tmp_path).array, ct.array)


def test_two_series_are_told_apart_by_number(tmp_path):
    first, second = body_ct(PLAIN, 1), body_ct(PLAIN, 2)
    write_series(tmp_path, first, number=3, prefix="A")
    write_series(tmp_path, second, number=7, prefix="B")
    with pytest.raises(ValueError, match=r"2 series, name one of: '3' \(6 slices of 8x9\), '7'"):
        read_ct(tmp_path)
    np.testing.assert_array_equal(read_ct(tmp_path, series="7").array, second.array)


def test_two_series_of_one_number_get_a_letter(tmp_path):
    write_series(tmp_path, body_ct(PLAIN, 1), number=3, prefix="A")
    write_series(tmp_path, body_ct(oblique(5), 2), number=3, prefix="B")
    with pytest.raises(ValueError, match=r"'3' .*'3b'"):
        read_ct(tmp_path)
    assert read_ct(tmp_path, series="3").array.shape != read_ct(tmp_path, series="3b").array.shape


def test_two_phases_are_told_apart_by_acquisition(tmp_path):
    def second_phase(k, data):
        data.AcquisitionNumber, data.SeriesInstanceUID = 2, "1.2.3"

    first, second = body_ct(PLAIN, 1), body_ct(PLAIN, 2)
    write_series(tmp_path, first, prefix="A", edit=lambda k, d: setattr(d, "SeriesInstanceUID", "1.2.3"))
    write_series(tmp_path, second, prefix="B", edit=second_phase)
    with pytest.raises(ValueError, match=r"'1/1'.*'1/2'"):
        read_ct(tmp_path)
    np.testing.assert_array_equal(read_ct(tmp_path, series="1/2").array, second.array)


def test_localisers_other_files_and_copies_are_left_out_and_noted(tmp_path):
    ct = body_ct(PLAIN)
    paths = write_series(tmp_path, ct)
    (tmp_path / "copy").write_bytes(paths[2].read_bytes())
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 200)
    write_series(
        tmp_path,
        body_ct(Geometry((2, 4, 4), (5.0, 1.0, 1.0))),
        number=9,
        prefix="L",
        edit=lambda k, d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    reading = read_with_notes(tmp_path)
    np.testing.assert_array_equal(reading.volume.array, ct.array)
    assert reading.notes == (
        "left out: 1 files that are not DICOM",
        "left out: 2 localisers",
        "1 files are copies of others: left out",
    )


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        ((2,), "1 slices are missing, the first between -297.50 and -292.50 mm"),
        ((2, 3), "2 slices are missing"),
    ],
)
def test_a_missing_slice_is_named(tmp_path, skip, message):
    write_series(tmp_path, body_ct(PLAIN), skip=skip)
    with pytest.raises(ValueError, match=message):
        read_ct(tmp_path)


def placed(along_mm: list[float]) -> Edit:
    """An edit that puts slice k at a height of its own."""
    return lambda k, data: setattr(data, "ImagePositionPatient", [-10.0, 20.0, along_mm[k]])


@pytest.mark.parametrize("step_mm", [0.625, 1.25, 0.7, 0.33])
def test_positions_rounded_to_a_tenth_of_a_millimetre_are_read(tmp_path, step_mm):
    ct = body_ct(Geometry((40, 8, 9), (step_mm, 0.75, 0.5), (-10.0, 20.0, 0.0)))
    write_series(tmp_path, ct, edit=placed([round(k * step_mm, 1) for k in range(40)]))
    read = read_ct(tmp_path)
    np.testing.assert_array_equal(read.array, ct.array)
    assert read.geometry.is_close(ct.geometry, 0.051)  # as far as rounding moves a slice


@pytest.mark.parametrize("step_mm", [0.625, 1.25])
@pytest.mark.parametrize("gone", [1, 20, 38])
def test_a_slice_is_missed_between_rounded_positions_too(tmp_path, step_mm, gone):
    ct = body_ct(Geometry((40, 8, 9), (step_mm, 0.75, 0.5)))
    write_series(tmp_path, ct, edit=placed([round(k * step_mm, 1) for k in range(40)]), skip=(gone,))
    with pytest.raises(ValueError, match="1 slices are missing"):
        read_ct(tmp_path)


def test_a_slice_out_of_its_place_is_refused(tmp_path):
    write_series(tmp_path, body_ct(PLAIN), edit=placed([0, 2.5, 5, 7.8, 10, 12.5]))
    with pytest.raises(
        ValueError, match=r"slice distance varies, 2.2 to 2.8 mm, first between 5.00 and 7.80 mm"
    ):
        read_ct(tmp_path)


@pytest.mark.parametrize("edge", [0.0005, 0.00049999999, 0.0])
def test_axes_that_differ_by_rounding_are_one_series(tmp_path, edge):
    """Also where a rounded number would turn over between two slices."""

    def wobble(k: int, data: Any) -> None:
        s = edge + (1e-7 if k % 2 else -1e-7)
        c = (1 - s * s) ** 0.5
        data.ImageOrientationPatient = [f"{v:.10f}" for v in (c, s, 0, -s, c, 0)]
        data.PixelSpacing = [f"{0.75 + (1e-5 if k % 2 else -1e-5):.6f}", "0.5"]

    ct = body_ct(PLAIN)
    write_series(tmp_path, ct, edit=wobble)
    np.testing.assert_array_equal(read_ct(tmp_path).array, ct.array)


@pytest.mark.parametrize("turn", [(2, 0, 0, 0, 1, 0), (1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 0)])
def test_axes_that_are_none_are_refused(tmp_path, turn):
    write_series(
        tmp_path, body_ct(PLAIN), edit=lambda k, d: setattr(d, "ImageOrientationPatient", list(turn))
    )
    with pytest.raises(
        ValueError, match="need DICOM images of a CT, got none; left out: 6 images without position"
    ):
        read_ct(tmp_path)


def test_gantry_tilt_is_refused(tmp_path):
    write_series(
        tmp_path, body_ct(PLAIN), edit=lambda k, d: setattr(d, "ImagePositionPatient", [0, k * 0.5, k * 2.5])
    )
    with pytest.raises(ValueError, match=r"gantry tilt: slices are sheared by 11.31 degrees"):
        read_ct(tmp_path)


def test_many_series_of_one_number_have_names_of_their_own(tmp_path):
    for n in range(28):
        write_series(tmp_path, body_ct(PLAIN, n), skip=(2, 3, 4, 5), prefix=f"{chr(97 + n // 26)}{n}_")
    with pytest.raises(ValueError, match=r"28 series, name one of: '1' .*'1b' .*'1z' .*'1-27' .*'1-28'"):
        read_ct(tmp_path)


def test_the_advice_names_an_option_that_is_there(tmp_path, capsys):
    """`info` has what a refusal of its own asks for: --series and --orientation."""
    write_series(tmp_path / "ct", body_ct(PLAIN, 1), number=3, prefix="A")
    write_series(tmp_path / "ct", body_ct(PLAIN, 2), number=7, prefix="B")
    assert main(["info", str(tmp_path / "ct")]) == 1
    assert "info and export: --series" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "ct"), "--series", "7"]) == 0
    nibabel.save(nibabel.Nifti1Image(body_ct(PLAIN).array.T, None), tmp_path / "a.nii.gz")
    assert main(["info", str(tmp_path / "a.nii.gz")]) == 1
    assert "store one; in predict and info, --orientation pixdim" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "a.nii.gz"), "--orientation", "pixdim"]) == 0
    assert main(["info", str(tmp_path / "a.nii.gz"), "--form", "pixdim"]) == 0


def test_the_real_series_reads_like_itk(shared_data):
    folder = shared_data / "totalsegmentator_ct" / "dicom"
    paths = sorted(
        folder.iterdir(), key=lambda p: -int(p.stem.rsplit(".", 1)[1][-5:])
    )  # z falls with the number
    read = read_ct(folder)
    for k in (0, 7, 19):
        image = itk.imread(str(paths[k]))
        np.testing.assert_array_equal(itk.array_from_image(image)[0], read.array[k])
        np.testing.assert_allclose(
            np.array(image.GetOrigin()), read.geometry.to_world(np.array([k, 0, 0])), atol=1e-6
        )
    assert read.spacing_mm == pytest.approx((2.0, 0.9765625, 0.9765625))


@pytest.mark.parametrize("skip", [(), (2,)])
def test_no_word_of_a_header_comes_out(tmp_path, skip, caplog):
    """Neither a reading, nor its notes and log, nor a refusal holds what the header says about a person or a
    place.
    """
    write_series(tmp_path / "ct", body_ct(PLAIN), skip=skip)
    try:
        said = repr(read_with_notes(tmp_path / "ct"))
    except ValueError as error:
        said = str(error)
    assert not [word for word in CANARIES if word in said + caplog.text]
