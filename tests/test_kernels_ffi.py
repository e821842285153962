"""The XLA face gives what the NumPy face gives, jitted and mapped; the NumPy face loads no JAX."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_oracles import random_labels

from kidseg_jax import kernels
from kidseg_jax.kernels import ffi


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return random_labels(np.random.default_rng(0), (9, 20, 70), density=0.3)


def test_importing_the_numpy_face_loads_no_jax_itk_or_open3d():
    heavy = "('jax', 'itk', 'open3d', 'scipy')"
    code = f"import sys, kidseg_jax.kernels; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i2", "u4", "i4"])
def test_components_inside_jit(labels, dtype):
    typed = labels.astype(dtype)
    found, n = jax.jit(ffi.label_components)(typed)
    expected, count = kernels.label_components(typed)
    assert int(n) == count
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(jax.jit(ffi.keep_largest)(typed), kernels.keep_largest(typed))
    np.testing.assert_array_equal(ffi.remove_small(typed, 3), kernels.remove_small(typed, 3))
    np.testing.assert_array_equal(jax.jit(ffi.fill_holes)(typed), kernels.fill_holes(typed))


@pytest.mark.parametrize("capacity", [10, 5000])
def test_stats_are_padded_or_cut(labels, capacity):
    found = jax.jit(lambda v: ffi.component_stats(v, capacity))(labels)
    expected = kernels.component_stats(labels)
    assert int(found.n) == len(expected.label)
    m = min(capacity, int(found.n))
    for name in ("label", "voxels", "lo", "hi"):
        np.testing.assert_array_equal(getattr(found, name)[:m], getattr(expected, name)[:m])
    np.testing.assert_allclose(found.centroid[:m], expected.centroid[:m], rtol=1e-6)
    assert not np.asarray(found.voxels[m:]).any()


def test_boxes_crops_and_pastes(labels):
    lo, hi = jax.jit(ffi.bounding_box)(labels)
    assert (tuple(lo.tolist()), tuple(hi.tolist())) == kernels.bounding_box(labels)
    volume = np.random.default_rng(1).normal(size=(5, 6, 7)).astype(np.float32)
    box = kernels.Box((-1, 2, 3), (4, 5, 9))
    roi = jax.jit(lambda v, corner: ffi.crop_roi(v, corner, box.shape, -1))(volume, np.array(box.lo))
    np.testing.assert_array_equal(roi, kernels.crop_roi(volume, box, -1))
    blank = np.zeros_like(volume)
    pasted = jax.jit(ffi.paste_roi)(blank, roi, np.array(box.lo))
    assert not blank.any()
    kernels.paste_roi(blank, np.asarray(roi), box)
    np.testing.assert_array_equal(pasted, blank)


@pytest.mark.parametrize("definition", ["border", "surfel", "triangle"])
def test_surface_distances_are_padded(labels, definition: kernels.Definition):
    a, b, spacing = labels > 1, np.roll(labels > 1, 1, 1), (1.0, 2.0, 0.5)
    expected = kernels.surface_distances(a, b, spacing, definition)
    found = jax.jit(lambda a, b: ffi.surface_distances(a, b, spacing, 50_000, definition))(a, b)
    n, m = found.n.tolist()
    assert (n, m) == (len(expected.a_to_b_mm), len(expected.b_to_a_mm))
    np.testing.assert_allclose(found.distances_mm[0, :n], expected.a_to_b_mm, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.weights[1, :m], expected.b_weights, rtol=1e-6)
    assert not np.asarray(found.weights[0, n:]).any()
    rms = ffi.surface_rms(a, b, spacing, 50_000, definition)
    assert float(rms) == pytest.approx(expected.rms_mm(), rel=1e-5)
    assert np.isnan(ffi.surface_rms(a, b, spacing, 10, definition))


def test_points_and_resampling(labels):
    points = jax.jit(lambda m: ffi.surface_points(m, 100, 3, (1, 2, 3)))(labels)
    np.testing.assert_allclose(points, kernels.surface_points(labels, 100, 3, (1, 2, 3)), atol=1e-4)
    scores = np.random.default_rng(2).normal(size=(3, 4, 5, 6)).astype(np.float32)
    axes = [np.linspace(0, n - 1, 9, dtype=np.float32) for n in (4, 5, 6)]
    expected = kernels.argmax_resample(scores, *axes)
    np.testing.assert_array_equal(jax.jit(ffi.argmax_resample)(scores, *axes), expected)
    last = jax.jit(lambda s: ffi.argmax_resample(s, *axes, channels_last=True))(jnp.moveaxis(scores, 0, -1))
    np.testing.assert_array_equal(last, expected)
    widths = (1.5, 1.0, 2.0)
    found = jax.jit(lambda v: ffi.resample_linear(v, *axes, widths=widths))(scores[0])
    np.testing.assert_allclose(found, kernels.resample_linear(scores[0], *axes, widths=widths), atol=1e-6)


def test_vmap_runs_one_after_another(labels):
    batch = np.stack([labels, labels[::-1]])
    expected = np.stack([kernels.keep_largest(v) for v in batch])
    np.testing.assert_array_equal(jax.vmap(ffi.keep_largest)(batch), expected)


def test_bad_input_is_refused_while_tracing(labels):
    with pytest.raises(TypeError, match="float32"):
        ffi.keep_largest(jnp.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="3-D"):
        ffi.label_components(jnp.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="got 4"):
        ffi.label_components(jnp.zeros((2, 2, 2), bool), 4)
    with pytest.raises(ValueError, match="spacing_mm"):
        ffi.surface_distances(labels, labels, (1, 0, 1), 10)
