"""The layers' forms against plain arithmetic in float64 that JAX differentiates: values, gradients, bits."""

from functools import cache
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kidseg_jax.network import native
from kidseg_jax.network.conv3d import Form
from kidseg_jax.network.layers import conv_block, linear, max_pool, upsample
from kidseg_jax.network.losses import segmentation_loss

BLOCKS = [
    ((8, 8), 8, (2, 5, 6, 10)),
    ((3,), 5, (1, 7, 5, 9)),
    ((1,), 70, (1, 4, 4, 4)),
    ((6,), 24, (3, 1, 1, 13)),
]


@pytest.fixture
def settings():
    yield
    native.set_threads(0)
    native.set_instruction_set("best")


def normal(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def assert_close(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert float(jnp.linalg.norm((a - b).ravel())) <= 1e-5 * float(jnp.linalg.norm(b.ravel()))


def plain_block(inputs, kernels, scale, bias):
    """The oracle: a convolution of the concatenation, the norm as its definition says."""
    y = jax.lax.conv_general_dilated(
        jnp.concatenate(inputs, -1),
        jnp.concatenate(kernels, 3),
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    mean, variance = y.mean((1, 2, 3), keepdims=True), y.var((1, 2, 3), keepdims=True)
    y = (y - mean) / jnp.sqrt(variance + 1e-5) * scale + bias
    return jnp.where(y >= 0, y, 0.01 * y)


def draw_block(widths, c, shape):
    scale, bias, g, *arrays = normal(
        c, (c,), (c,), (*shape, c), *[(*shape, k) for k in widths], *[(3, 3, 3, k, c) for k in widths]
    )
    return (arrays[: len(widths)], arrays[len(widths) :], scale, bias), g


def block_and_gradients(widths, c, shape, form: Form):
    drawn, g = draw_block(widths, c, shape)
    y, back = jax.vjp(lambda x, k, s, b: conv_block(x, k, s, b, form), *drawn)
    return y, back(g)


def block_by_definition(drawn, g):
    with jax.enable_x64(True):
        drawn, g = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), (drawn, g))
        y, back = jax.vjp(plain_block, *drawn)
        return jax.tree.map(np.asarray, (y, back(g)))


@cache
def expected_block(widths, c, shape):
    return block_by_definition(*draw_block(widths, c, shape))


@pytest.mark.parametrize("isa", native.INSTRUCTION_SETS)
@pytest.mark.parametrize(("widths", "c", "shape"), BLOCKS)
def test_compiled_block_agrees_with_its_definition(isa, widths, c, shape, settings):
    native.set_instruction_set(isa)
    assert_close(block_and_gradients(widths, c, shape, "native"), expected_block(widths, c, shape))


@pytest.mark.parametrize(("widths", "c", "shape"), BLOCKS)
def test_plain_block_agrees_with_its_definition(widths, c, shape):
    assert_close(block_and_gradients(widths, c, shape, "lax"), expected_block(widths, c, shape))


@pytest.mark.parametrize(("widths", "c", "shape"), BLOCKS)
def test_block_in_bfloat16_keeps_its_types(widths, c, shape):
    """As on a GPU: activations in bfloat16, the norm and its parameters in float32.

    All activations are above zero: one that rounds across it would change its slope from 1 to 0.01.
    """
    (inputs, kernels, scale, _), g = draw_block(widths, c, shape)
    inputs, kernels, g = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (inputs, kernels, g))
    drawn = inputs, kernels, scale, jnp.full(c, 20.0)
    y, back = jax.vjp(lambda x, k, s, b: conv_block(x, k, s, b, "lax"), *drawn)
    narrow = [jnp.bfloat16] * (1 + 2 * len(widths)) + [jnp.float32] * 2
    expected = jax.tree.leaves(block_by_definition(drawn, g))
    for ours, exact, dtype in zip(jax.tree.leaves((y, back(g))), expected, narrow, strict=True):
        assert ours.dtype == dtype
        assert np.linalg.norm(ours.astype(jnp.float32) - exact) <= 1e-2 * np.linalg.norm(exact)


@pytest.mark.parametrize("form", get_args(Form))
def test_block_of_a_constant_is_its_bias(form: Form):
    scale, bias = normal(0, (8,), (8,))
    y = conv_block([jnp.zeros((1, 4, 4, 4, 2))], [jnp.ones((3, 3, 3, 2, 8))], scale, bias, form)
    assert_close(y, jnp.broadcast_to(jax.nn.leaky_relu(bias, 0.01), y.shape))


@pytest.mark.parametrize("form", get_args(Form))
def test_block_far_from_zero_keeps_its_variance(form: Form):
    """A mean 1000 times the spread: sums of squares in float32 would lose the variance."""
    x = 1000.0 + normal(1, (1, 16, 16, 16, 1))[0]
    kernel = jnp.zeros((3, 3, 3, 1, 1)).at[1, 1, 1].set(1.0)
    y = conv_block([x], [kernel], jnp.ones(1), jnp.full(1, 9.0), form) - 9.0
    assert float(jnp.abs(y.std() - 1.0)) < 1e-3
    assert float(jnp.abs(y.mean())) < 1e-3


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize(("n", "c"), [(2, 8), (3, 5), (2, 1)])
def test_max_pool_sends_the_gradient_to_the_largest(form: Form, n, c):
    x, g = normal(n, (2, 2 * n, n, 3 * n, c), (2, 2, 1, 3, c))
    pooled = np.asarray(x).reshape(2, 2, n, 1, n, 3, n, c).max((2, 4, 6))
    largest, of_block = np.repeat(np.repeat(np.repeat(np.stack([pooled, g]), n, 2), n, 3), n, 4)
    y, back = jax.vjp(lambda x: max_pool(x, n, form), x)
    assert np.array_equal(y, pooled)
    assert np.array_equal(back(g)[0], np.where(x == largest, of_block, 0))


def test_compiled_max_pool_gives_the_gradient_to_the_first_of_equals():
    dx = jax.grad(lambda x: max_pool(x, 2, "native").sum())(jnp.ones((1, 2, 2, 2, 3)))
    assert np.array_equal(dx.reshape(8, 3).sum(1), [3, 0, 0, 0, 0, 0, 0, 0])


def test_plain_max_pool_shares_the_gradient_among_equals():
    x = jnp.zeros((1, 2, 2, 4, 1)).at[0, 0, 0, 0].set(1.0).at[0, 1, 1, 1].set(1.0)
    dx = jax.grad(lambda x: (max_pool(x, 2, "lax") * jnp.array([4.0, 8.0])[:, None]).sum())(x)
    assert np.array_equal(dx[0, ..., 0], [[[2, 0, 1, 1], [0, 0, 1, 1]], [[0, 0, 1, 1], [0, 2, 1, 1]]])


@pytest.mark.parametrize("isa", native.INSTRUCTION_SETS)
@pytest.mark.parametrize(("n", "shape"), [(2, (2, 3, 2, 5, 8)), (3, (1, 1, 4, 3, 5)), (2, (1, 2, 1, 1, 1))])
def test_upsample_agrees_with_plain_jax(n, shape, isa, settings):
    native.set_instruction_set(isa)
    b, d, h, w, c = shape
    x, g = normal(n, shape, (b, d * n, h * n, w * n, c))
    y, back = jax.vjp(lambda x: upsample(x, n, "native"), x)
    repeated = np.asarray(x).repeat(n, 1).repeat(n, 2).repeat(n, 3)
    assert np.array_equal(y, repeated) and np.array_equal(upsample(x, n, "lax"), repeated)
    assert_close(back(g)[0], np.asarray(g).reshape(b, d, n, h, n, w, n, c).sum((2, 4, 6)))


LINEARS = [
    ((2, 3, 5, 7), 8, 6),
    ((1, 1, 1, 1), 3, 1),
    ((1, 1, 1, 3), 1, 7),
    ((1, 13, 17, 11), 24, 8),
    ((1, 2, 3, 5), 5, 41),
]


@pytest.mark.parametrize("isa", native.INSTRUCTION_SETS)
@pytest.mark.parametrize(("shape", "c_in", "c_out"), LINEARS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_agrees_with_plain_jax(shape, c_in, c_out, has_bias, isa, settings):
    native.set_instruction_set(isa)
    x, w, bias, g = normal(c_in, (*shape, c_in), (c_in, c_out), (c_out,), (*shape, c_out))

    def value_and_gradients(form: Form):
        y, back = jax.vjp(lambda x, w, b: linear(x, w, b, form), x, w, bias if has_bias else None)
        return y, back(g)

    assert_close(value_and_gradients("native"), value_and_gradients("lax"))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("weights", [(), (1.0, 10.0, 7.0)])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_loss_agrees_with_plain_jax(power, weights, spread):
    logits = spread * normal(power, (2, 3, 5, 13, 3))[0]
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 3, 5, 13)), jnp.int32)
    ours, expected = (
        jax.value_and_grad(segmentation_loss)(logits, labels, weights, power, form)
        for form in ("native", "lax")
    )
    assert_close(ours, expected)


def test_threads_do_not_change_bits(settings):
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 8, (2, 5, 6, 10)), jnp.int32)
    runs = []
    for threads in (1, 2, 7, 0):
        native.set_threads(threads)
        block = block_and_gradients((8, 8), 8, (2, 5, 6, 10), "native")
        loss = jax.value_and_grad(segmentation_loss)(block[0], labels, (1.0,) * 8, 2, "native")
        up = jax.vjp(lambda x: upsample(x, 3, "native"), block[0])
        long = block[0].reshape(1, 1, 1, -1, 2)
        mapped = jax.vjp(lambda x, w, b: linear(x, w, b, "native"), long, jnp.ones((2, 5)), jnp.ones(5))
        gradients = up[1](up[0]), mapped[1](mapped[0])
        runs.append(jax.tree.leaves((block, loss, up[0], mapped[0], gradients)))
    for run in runs[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(run, runs[0], strict=True))
