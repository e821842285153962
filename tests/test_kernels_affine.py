"""Turned and stretched grids against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_oracles import layouts
from scipy.ndimage import map_coordinates

from kidseg_jax import kernels


def oracle(volume, matrix, offset, shape, order, fill):
    """map_coordinates on clipped places, and `fill` more than half a voxel outside; float64."""
    out = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(float)
    places = np.moveaxis(out @ matrix.T + offset, -1, 0)
    size = np.array(volume.shape).reshape(3, 1, 1, 1)
    inside = ((places >= -0.5) & (places <= size - 0.5)).all(0)
    found = map_coordinates(volume.astype(float), np.clip(places, 0, size - 1), order=order)
    return np.where(inside, found, fill)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_matches_scipy(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    wanted = data.draw(st.tuples(*[st.integers(0, 9)] * 3))
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.float32]))
    volume = rng.integers(0 if dtype == np.uint8 else -1000, 256, shape).astype(dtype)
    matrix, offset = np.eye(3) + rng.normal(0, 0.4, (3, 3)), rng.uniform(-2, 6, 3)
    views = layouts(volume)
    view = views[data.draw(st.sampled_from(sorted(views)))]
    near, threads = data.draw(st.booleans()), data.draw(st.integers(1, 3))
    found = kernels.resample_affine(view, matrix, offset, wanted, nearest=near, fill=7, threads=threads)
    assert found.dtype == dtype and found.shape == wanted
    if near:  # the oracle's nearest of a spline of order 1 at rounded places
        np.testing.assert_array_equal(found, nearest_oracle(volume, matrix, offset, wanted, 7))
    else:
        np.testing.assert_allclose(
            found.astype(float),
            oracle(volume, matrix, offset, wanted, 1, 7),
            atol=1e-2 if dtype == np.float32 else 0.51,
        )


def nearest_oracle(volume, matrix, offset, shape, fill):
    out = np.full(shape, fill, volume.dtype)
    for o in np.ndindex(*shape):
        place = matrix @ np.array(o) + offset
        if (place >= -0.5).all() and (place <= np.array(volume.shape) - 0.5).all():
            out[o] = volume[tuple(np.clip(np.rint(place).astype(int), 0, np.array(volume.shape) - 1))]
    return out


def test_whole_moves_are_copies_and_a_quarter_turn_is_rot90():
    volume = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 5)).astype(np.int16)
    for nearest in (False, True):
        same = kernels.resample_affine(volume, np.eye(3), (0, 0, 0), volume.shape, nearest=nearest)
        np.testing.assert_array_equal(same, volume)
        turn = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
        turned = kernels.resample_affine(volume, turn, (0, 0, 4), volume.shape, nearest=nearest)
        np.testing.assert_array_equal(turned, np.rot90(volume, 1, (1, 2)))
    moved = kernels.resample_affine(volume, np.eye(3), (1, 0, 0), volume.shape, fill=-9)
    np.testing.assert_array_equal(moved, np.concatenate([volume[1:], np.full((1, 5, 5), -9)]))


def test_bad_input_is_refused():
    volume = np.zeros((2, 2, 2), np.int16)
    good = (np.eye(3), (0, 0, 0), (2, 2, 2))
    with pytest.raises(TypeError, match="must be uint8, int16 or float32, got float64"):
        kernels.resample_affine(volume.astype(float), *good)
    with pytest.raises(ValueError, match="matrix must be finite"):
        kernels.resample_affine(volume, np.full((3, 3), np.nan), *good[1:])
    with pytest.raises(ValueError, match="offset must be finite"):
        kernels.resample_affine(volume, np.eye(3), (0, 0), (2, 2, 2))
    with pytest.raises(ValueError, match="three sizes"):
        kernels.resample_affine(volume, np.eye(3), (0, 0, 0), (2, 2))
    with pytest.raises(ValueError, match="shape"):
        kernels.resample_affine(volume, np.eye(3), (0, 0, 0), (2, 2, -1))
    with pytest.raises(ValueError, match=r"whole number that int16 holds, got 0\.5"):
        kernels.resample_affine(volume, *good, fill=0.5)
    with pytest.raises(ValueError, match="no empty axis"):
        kernels.resample_affine(volume[:0], *good)
