"""The compiled 3-D convolution against XLA's own: values, gradients, bits and training."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kidseg_jax.config import NetConfig, TrainConfig
from kidseg_jax.network import conv3d as conv3d_module
from kidseg_jax.network import layers, losses, native
from kidseg_jax.network.conv3d import Form, conv3d, conv3d_sum
from kidseg_jax.network.training import start


@pytest.fixture
def settings():
    yield
    native.set_threads(0)
    native.set_instruction_set("best")


def draw(seed: int, n_inputs: int = 1, large: bool = False, whole: bool = False):
    """whole: channels that fill vectors, as those of the networks do."""
    rng = np.random.default_rng(seed)
    b, d, h, w = rng.integers(1, 4), *rng.integers(1, (12, 14, 60) if large else (6, 7, 12))
    c_out, *c_in = 8 * rng.integers(1, 9, n_inputs + 1) if whole else rng.integers(1, 34, n_inputs + 1)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    inputs = tuple(normal(b, d, h, w, c) for c in c_in)
    kernels = tuple(normal(3, 3, 3, c, c_out) for c in c_in)
    return inputs, kernels, normal(b, d, h, w, c_out)


def value_and_gradients(inputs, kernels, g, form: Form):
    y, back = jax.vjp(lambda x, k: conv3d_sum(x, k, form), inputs, kernels)
    return [np.asarray(a, np.float64) for a in jax.tree.leaves((y, back(g)))]


def assert_close(ours: list[np.ndarray], expected: list[np.ndarray]):
    for a, b in zip(ours, expected, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("seed", range(14))
def test_native_agrees_with_lax(seed: int):
    drawn = draw(seed, n_inputs=1 + seed % 3, large=seed % 4 == 0, whole=seed % 2 == 0)
    assert_close(value_and_gradients(*drawn, "native"), value_and_gradients(*drawn, "lax"))


@pytest.mark.parametrize("isa", native.INSTRUCTION_SETS)
@pytest.mark.parametrize("seed", range(100, 104))
def test_every_instruction_set_agrees_with_lax(isa: str, seed: int, settings):
    drawn = draw(seed, large=True, whole=seed % 2 == 0)
    native.set_instruction_set(isa)
    assert_close(value_and_gradients(*drawn, "native"), value_and_gradients(*drawn, "lax"))


@pytest.mark.parametrize("seed", range(200, 206))
def test_threads_do_not_change_bits(seed: int, settings):
    drawn = draw(seed, n_inputs=2, large=True, whole=seed % 2 == 0)
    runs = []
    for threads in (1, 2, 3, 16, 0, 0):
        native.set_threads(threads)
        runs.append(value_and_gradients(*drawn, "native"))
    for run in runs[1:]:
        for ours, expected in zip(run, runs[0], strict=True):
            assert np.array_equal(ours, expected)


@pytest.mark.parametrize("form", get_args(Form))
def test_the_kernel_gradient_of_a_large_patch_loses_nothing(form: Form):
    """Against sums in float64: each has as many terms as voxels, and one long float32 sum loses them."""
    rng, (d, h, w), channels = np.random.default_rng(0), (96, 96, 96), 8
    x, g = rng.normal(size=(2, d, h, w, channels)).astype(np.float32)
    kernel = jnp.zeros((3, 3, 3, channels, channels), jnp.float32)
    (ours,) = jax.vjp(lambda k: conv3d(jnp.asarray(x[None]), k, form), kernel)[1](jnp.asarray(g[None]))
    padded, flat = np.pad(x, ((1, 1), (1, 1), (1, 1), (0, 0))).astype(np.float64), g.reshape(-1, channels)
    for z, y, i in np.ndindex(3, 3, 3):
        expected = padded[z : z + d, y : y + h, i : i + w].reshape(-1, channels).T @ flat
        assert np.linalg.norm(ours[z, y, i] - expected) <= 2e-6 * np.linalg.norm(expected)


def test_one_pixel_meets_the_flipped_kernel():
    kernel = jnp.arange(27.0, dtype=jnp.float32).reshape(3, 3, 3, 1, 1) + 1
    x = jnp.zeros((1, 5, 5, 5, 1)).at[0, 2, 2, 2, 0].set(1.0)
    y = conv3d(x, kernel, "native")[0, 1:4, 1:4, 1:4, 0]
    assert np.array_equal(y, np.flip(np.asarray(kernel)[..., 0, 0]))


@pytest.mark.parametrize("form", get_args(Form))
def test_shapes_that_do_not_fit_are_refused(form: Form):
    with pytest.raises(ValueError, match="conv3d: need x"):
        conv3d(jnp.zeros((1, 4, 4, 4, 2)), jnp.zeros((3, 3, 3, 3, 8)), form)
    with pytest.raises(ValueError, match="conv3d: need x"):
        conv3d(jnp.zeros((1, 4, 4, 4, 2)), jnp.zeros((1, 3, 3, 2, 8)), form)


def test_training_losses_agree_between_forms(monkeypatch: pytest.MonkeyPatch):
    """Absolute difference over 20 steps. Adam makes steps of one size from gradients of any size, so that
    roundings grow from step to step.
    """
    net = NetConfig(features=(8, 16), patch=(16, 16, 24))
    rng = np.random.default_rng(0)
    labels = np.zeros((20, 20, 28), np.uint8)
    labels[5:15, 4:14, 6:20] = 1
    ct = (100 * labels + rng.normal(0, 20, labels.shape)).astype(np.int16)
    runs = {}
    for each in get_args(Form):
        for module in (conv3d_module, layers, losses):
            monkeypatch.setattr(module, "best_form", lambda each=each: each)
        state, step = start(net, TrainConfig(rate=3e-4), 2, 20, 0)
        values = []
        given = (jnp.asarray(ct),), (jnp.asarray(labels),), jnp.array([ct.shape])
        for _ in range(20):
            state, loss = step(state, *given, jax.random.key(0))
            values.append(float(loss))
        runs[each] = np.array(values)
    assert runs["lax"][-1] < runs["lax"][0]
    assert 0 < np.abs(runs["native"] - runs["lax"]).max() <= 1e-4  # 0: one form ran twice
