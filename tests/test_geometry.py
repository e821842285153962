"""The whole way of a label through a prediction, on random grids: each landmark stays within half a voxel."""

import itertools

import itk
import numpy as np
import pytest
from grids import on_grid, random_geometry

from kidseg_jax import kernels
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume, canonical, on_grid_of

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".seg.nrrd")
LANDMARKS = 3
LARGEST_GRID = 1_000_000  # finer grids take too long


def with_landmarks(geometry: Geometry, rng: np.random.Generator) -> Volume:
    """Solid blocks of 3x3x3 voxels of labels 1, 2, 3 at random places, apart from each other."""
    array = np.zeros(geometry.shape, np.uint8)
    for label in range(1, LANDMARKS + 1):
        for _ in range(50):
            at = [int(rng.integers(1, n - 1)) for n in geometry.shape]
            block = tuple(slice(a - 1, a + 2) for a in at)
            if not array[block].any():
                array[block] = label
                break
    return Volume(array, geometry)


def centres_mm(array: np.ndarray, to_world) -> dict[int, np.ndarray]:
    return {
        int(label): to_world(np.argwhere(array == label).mean(0)) for label in np.unique(array[array > 0])
    }


def through_a_prediction(volume: Volume) -> Volume:
    """Canonical order, crop, an isotropic grid and back, paste, the input's grid: what predict does but the
    network.
    """
    turned = canonical(volume)
    box = kernels.bounding_box(turned.array > 0, 2.0, turned.spacing_mm)
    assert box is not None
    roi = kernels.crop_roi(turned.array, box)
    here = turned.geometry.part(box.lo, box.hi)
    step = 0.8 * min(volume.spacing_mm)  # fine enough that nearest and back is exact
    shape = tuple(int(np.ceil(n * s / step)) + 1 for n, s in zip(roi.shape, here.spacing_mm, strict=True))
    fine = Geometry((shape[0], shape[1], shape[2]), (step, step, step), here.origin_mm, here.direction)
    if int(np.prod(shape)) < LARGEST_GRID:
        roi = on_grid(on_grid(Volume(roi, here), fine, nearest=True), here, nearest=True).array
    whole = np.zeros(turned.array.shape, np.uint8)
    kernels.paste_roi(whole, roi, box)
    return on_grid_of(whole, volume)


def itk_geometry(path):
    image = itk.imread(str(path))
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    direction = itk.array_from_matrix(image.GetDirection())

    def to_world(index_zyx):
        return direction @ (np.asarray(index_zyx)[::-1] * spacing) + origin

    header = np.concatenate([spacing, origin, direction.ravel()])
    return itk.array_from_image(image), to_world, header


@pytest.mark.parametrize("seed", range(500))
def test_a_landmark_stays_within_half_a_voxel(seed, tmp_path):
    rng = np.random.default_rng(seed)
    ending = ENDINGS[seed % len(ENDINGS)]
    original = with_landmarks(random_geometry(rng), rng)
    before = centres_mm(original.array, original.geometry.to_world)
    write_volume(tmp_path / f"in{ending}", original)
    read = read_labels(tmp_path / f"in{ending}")
    write_volume(tmp_path / f"out{ending}", through_a_prediction(read))
    array, to_world, header_out = itk_geometry(tmp_path / f"out{ending}")
    after = centres_mm(array, to_world)
    assert after.keys() == before.keys()
    half_voxel_mm = min(original.spacing_mm) / 2
    for label, place in before.items():
        assert np.linalg.norm(after[label] - place) <= half_voxel_mm
    _, _, header_in = itk_geometry(tmp_path / f"in{ending}")
    np.testing.assert_allclose(header_out, header_in, rtol=1e-6, atol=1e-6)
    g = original.geometry
    expected = np.concatenate([g.spacing_mm[::-1], g.origin_mm, np.ravel(g.direction)])
    np.testing.assert_allclose(header_out, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("code", ["".join(p) for p in itertools.product("LR", "PA", "SI")])
def test_canonical_is_undone_voxel_for_voxel(code):
    rng = np.random.default_rng(1)
    for order in itertools.permutations(range(3)):
        axes = np.eye(3)[:, list(order)] * [1.0 if letter in "LPS" else -1.0 for letter in code]
        grid = Geometry((3, 4, 5), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), tuple(map(tuple, axes.tolist())))
        volume = Volume(rng.integers(0, 9, (3, 4, 5)).astype(np.uint8), grid)
        turned = canonical(volume)
        np.testing.assert_array_equal(on_grid_of(turned.array, volume).array, volume.array)
        index = np.argwhere(turned.array >= 0)
        back = np.rint(volume.geometry.to_index(turned.geometry.to_world(index))).astype(int)
        np.testing.assert_array_equal(volume.array[tuple(back.T)], turned.array.ravel())
        np.testing.assert_allclose(turned.geometry.direction, np.eye(3))
