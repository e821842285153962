"""Resampling against separable NumPy matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracles import examples, layouts, taps_oracle

from kidseg_jax import kernels


def separable(volume: np.ndarray, coordinates, widths) -> np.ndarray:
    mz, my, mx = (taps_oracle(c, n, w) for c, n, w in zip(coordinates, volume.shape, widths, strict=True))
    return np.einsum("ai,bj,ck,ijk->abc", mz, my, mx, volume.astype(float))


def draw_grid(data, rng):
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    kind = data.draw(st.sampled_from(["anywhere", "steps", "whole"]))
    coordinates = []
    for n in shape:
        m = data.draw(st.integers(0, 12))
        if kind == "anywhere":
            coordinates.append(rng.uniform(-3, n + 3, m))
        elif kind == "steps":
            coordinates.append(rng.uniform(-1, 1) + np.arange(m) * rng.uniform(0.2, 3))
        else:
            coordinates.append(np.arange(m) % n * 1.0)
    return shape, coordinates


@examples(150)
@given(data=st.data())
def test_resample_linear_matches_numpy(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape, coordinates = draw_grid(data, rng)
    volume = rng.integers(-1000, 3000, shape).astype(data.draw(st.sampled_from([np.int16, np.float32])))
    widths = data.draw(st.sampled_from([None, (1.0, 1.0, 1.0), tuple(rng.uniform(1, 4, 3))]))
    used = widths or [max(1.0, abs(c[-1] - c[0]) / (len(c) - 1)) if len(c) > 1 else 1.0 for c in coordinates]
    views = layouts(volume)
    view = views[data.draw(st.sampled_from(sorted(views)))]
    found = kernels.resample_linear(view, *coordinates, widths=widths, threads=data.draw(st.integers(1, 3)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, separable(volume, coordinates, used), atol=0.02)


def test_averages_are_means_of_blocks_and_whole_steps_are_copies():
    rng = np.random.default_rng(0)
    volume = rng.integers(-1000, 1000, (6, 8, 10)).astype(np.int16)
    np.testing.assert_array_equal(
        kernels.resample_linear(volume, *(np.arange(n) for n in volume.shape)), volume
    )
    halves = kernels.resample_linear(volume, *(np.arange(n // 2) * 2 + 0.5 for n in volume.shape))
    blocks = volume.reshape(3, 2, 4, 2, 5, 2).mean((1, 3, 5))
    np.testing.assert_allclose(halves, blocks, atol=1e-3)


@examples(150)
@given(data=st.data())
def test_argmax_resample_matches_numpy(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape, coordinates = draw_grid(data, rng)
    classes = data.draw(st.integers(1, 7))
    scores = rng.normal(size=(classes, *shape)).astype(np.float32)
    if data.draw(st.booleans()):  # wide plateaus, as networks make them
        scores += 8 * (rng.integers(0, classes, shape) == np.arange(classes)[:, None, None, None])
    expected = np.stack([separable(s, coordinates, (1, 1, 1)) for s in scores])
    threads = data.draw(st.integers(1, 3))
    found = kernels.argmax_resample(scores, *coordinates, threads=threads)
    assert found.dtype == np.uint8
    score = np.take_along_axis(expected, found[None].astype(int), 0)[0]
    assert (score >= expected.max(0, initial=-np.inf) - 1e-5).all()
    last = np.moveaxis(scores, 0, -1)
    for layout in (last, np.ascontiguousarray(last), np.asfortranarray(last)):
        np.testing.assert_array_equal(
            kernels.argmax_resample(layout, *coordinates, channels_last=True), found
        )


def test_equal_scores_give_the_smallest_class():
    scores = np.zeros((4, 2, 2, 2), np.float32)
    assert (kernels.argmax_resample(scores, [0.5], [0.2, 9], [-3]) == 0).all()


@pytest.mark.parametrize("kind", [np.float64, np.uint8])
def test_other_dtypes_are_refused(kind):
    axes = ([0.0],) * 3
    with pytest.raises(TypeError, match=np.dtype(kind).name):
        kernels.resample_linear(np.zeros((2, 2, 2), kind), *axes)
    with pytest.raises(TypeError, match=np.dtype(kind).name):
        kernels.argmax_resample(np.zeros((2, 2, 2, 2), kind), *axes)  # pyright: ignore[reportArgumentType]


def test_bad_grids_are_refused():
    volume, scores = np.zeros((2, 2, 2), np.float32), np.zeros((2, 2, 2, 2), np.float32)
    with pytest.raises(ValueError, match="cy must be 1-D and finite"):
        kernels.resample_linear(volume, [0], [float("nan")], [0])
    with pytest.raises(ValueError, match="cz must be 1-D and finite"):
        kernels.argmax_resample(scores, [[0]], [0], [0])
    with pytest.raises(ValueError, match="widths must be three finite numbers of at least 1"):
        kernels.resample_linear(volume, [0], [0], [0], widths=(1, 0.5, 1))
    with pytest.raises(ValueError, match=r"no empty axis, got shape \(0, 2, 2\)"):
        kernels.resample_linear(volume[:0], [0], [0], [0])
    with pytest.raises(ValueError, match="scores must be 4-D"):
        kernels.argmax_resample(volume, [0], [0], [0])
    with pytest.raises(ValueError, match="at most 256 classes fit uint8, got 257"):
        kernels.argmax_resample(np.zeros((257, 1, 1, 1), np.float32), [0], [0], [0])
