"""Label maps of NIfTI files read without ITK: the same labels, grids and refusals as the general reader's."""

import gzip

import numpy as np
import pytest
from nifti_files import CODES, nifti_bytes, put

from kidseg_jax.formats.nifti import grid_of_header, read_header
from kidseg_jax.formats.nifti_labels import BLOCK_BYTES, read_nifti_labels
from kidseg_jax.formats.volumes import read_labels, read_volume, whole_labels, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume

KINDS = sorted(CODES.keys() - {"c8"})


def generally(path):
    """What the general reader makes of a file as a label map."""
    volume = read_volume(path)
    return volume.with_array(whole_labels(path.name, volume.array))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_voxel_gives_what_the_general_reader_gives(tmp_path, kind, order, ending):
    labels = np.random.default_rng(0).integers(0, 6, (5, 6, 7)).astype(kind)
    path = put(tmp_path / f"map{ending}", nifti_bytes(labels, order=order))
    found = read_nifti_labels(path)
    assert found is not None
    np.testing.assert_array_equal(found[0], labels)
    expected = generally(path)
    assert found[0].dtype == np.uint8 and found[1].geometry == expected.geometry
    np.testing.assert_array_equal(read_labels(path).array, expected.array)


@pytest.mark.parametrize("kind", ["u1", "i2", "f8"])
def test_maps_of_many_blocks_are_read_whole(tmp_path, kind):
    shape = (3, 300, 2 * BLOCK_BYTES // (300 * np.dtype(kind).itemsize) + 11)
    labels = np.zeros(shape, kind)
    labels[1, 7, 5], labels[-1, -1, -1], labels[2, 100:200, 30:60] = 255, 3, 2
    for ending in (".nii", ".nii.gz"):
        found = read_nifti_labels(put(tmp_path / f"map{ending}", nifti_bytes(labels)))
        assert found is not None
        np.testing.assert_array_equal(found[0], labels)


def test_a_stream_of_several_gzip_members_is_read_whole(tmp_path):
    labels = np.random.default_rng(0).integers(0, 6, (5, 6, 7)).astype("u1")
    content = nifti_bytes(labels)
    path = tmp_path / "map.nii.gz"
    path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    np.testing.assert_array_equal(read_labels(path).array, labels)


@pytest.mark.parametrize("value", [256.0, -1.0, 0.5, np.nan, np.inf, 1e30])
@pytest.mark.parametrize("at", [0, -1])
def test_what_is_no_label_is_left_to_the_general_reader_which_refuses(tmp_path, value, at):
    labels = np.zeros((40, 50, 60), "f4")
    labels.flat[at] = value
    path = put(tmp_path / "map.nii.gz", nifti_bytes(labels))
    assert read_nifti_labels(path) is None
    with pytest.raises(ValueError) as general:
        generally(path)
    with pytest.raises(ValueError) as ours:
        read_labels(path)
    assert str(ours.value) == str(general.value)


def test_a_broken_file_is_left_to_the_general_reader_which_refuses(tmp_path):
    rng = np.random.default_rng(0)
    whole = gzip.compress(nifti_bytes(rng.integers(0, 6, (9, 20, 30)).astype("u1")), mtime=0)
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # the checksum
    for name, content in (("cut", whole[:-100]), ("checksum", bytes(flipped)), ("empty", b"")):
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(content)
        assert read_nifti_labels(path) is None
        with pytest.raises(ValueError, match=path.name):
            read_labels(path)


def test_scaled_maps_are_scaled(tmp_path):
    labels = np.arange(24, dtype="u1").reshape(2, 3, 4)
    path = put(tmp_path / "map.nii.gz", nifti_bytes(labels, slope=2.0))
    np.testing.assert_array_equal(read_labels(path).array, 2 * labels)


def test_a_grid_turned_by_half_a_turn_comes_back_from_its_quaternion(tmp_path):
    turned = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))  # 1 - b2 - c2 - d2 is rounding here
    for signs in ((1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1), (-1, -1, -1)):
        x, y, z = (np.array(row) * signs for row in turned)
        direction = (tuple(x.tolist()), tuple(y.tolist()), tuple(z.tolist()))
        geometry = Geometry((512, 512, 121), (0.86, 0.86, 2.5), (1.0, 2.0, 3.0), direction)
        path = tmp_path / "map.nii.gz"
        write_volume(path, Volume(np.zeros(geometry.shape, np.uint8), geometry))
        for form in ("sform", "qform"):
            found = grid_of_header(path.name, read_header(path), form).geometry
            np.testing.assert_allclose(found.direction, direction, atol=1e-6)
        assert read_labels(path).array.shape == geometry.shape
