"""The layers of the U-Net that are compiled as one on CPU, and the same in plain JAX for other devices."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kidseg_jax.network import native
from kidseg_jax.network.conv3d import Form, best_form, conv3d_sum

Arrays = tuple[jax.Array, ...]
SLOPE = 0.01


def conv_block(
    inputs: Sequence[jax.Array],
    kernels: Sequence[jax.Array],
    scale: jax.Array,
    bias: jax.Array,
    form: Form | None = None,
) -> jax.Array:
    """Convolution of the concatenated inputs, instance norm, leaky ReLU (0.01), in the type of the inputs.

    inputs: (b, z, y, x, c_i); kernels: (3, 3, 3, c_i, c); scale, bias: (c,) of the norm over z, y, x, whose
    variance is raised by 1e-5. form as for `conv3d`; the norm is computed in float32.
    """
    form = form or best_form()
    if _is_native(form, inputs[0]):
        return native.block(tuple(inputs), tuple(kernels), scale, bias)
    return _norm_relu(conv3d_sum(inputs, kernels, form), scale, bias)


@jax.custom_vjp
def _norm_relu(y: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Leaky ReLU of the instance norm of y (b, z, y, x, c): y is read twice, and twice for its gradient."""
    return _norm_relu_forward(y, scale, bias)[0]


def _norm_relu_forward(y: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    exact = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    about = exact[:, :1, :1, :1]  # sums of squares far from zero would lose the variance
    offset = (exact - about).mean((1, 2, 3), keepdims=True)
    variance = jnp.square(exact - about).mean((1, 2, 3), keepdims=True) - jnp.square(offset)
    mean, inverse = about + offset, jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5)
    z = jax.nn.leaky_relu((exact - mean) * (inverse * scale) + bias, SLOPE)
    return z.astype(y.dtype), (y, mean, inverse, scale, bias)


def _norm_relu_backward(residuals: Any, g: jax.Array) -> Arrays:
    y, mean, inverse, scale, bias = residuals
    normed = (y.astype(mean.dtype) - mean) * inverse
    g = g.astype(mean.dtype) * jnp.where(normed * scale + bias >= 0, 1.0, SLOPE)
    of_bias, of_scale = (a.mean((1, 2, 3), keepdims=True) for a in (g, g * normed))
    dy = (inverse * scale) * (g - of_bias - normed * of_scale)
    n = math.prod(y.shape[1:4])
    return dy.astype(y.dtype), *(n * m.sum((0, 1, 2, 3)).astype(scale.dtype) for m in (of_scale, of_bias))


_norm_relu.defvjp(_norm_relu_forward, _norm_relu_backward)


def max_pool(x: jax.Array, n: int, form: Form | None = None) -> jax.Array:
    """Largest value of each n^3 block: (b, z, y, x, c) -> (b, z/n, y/n, x/n, c).

    Where voxels tie, native gives the gradient to the first and the other forms share it.
    """
    return native.max_pool(x, n) if _is_native(form, x) else _max_pool(x, n)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, n: int) -> Any:
    return _blocks(x, n).max((2, 4, 6))


def _max_pool_backward(n: int, residuals: Arrays, g: jax.Array) -> Arrays:
    x, y = residuals
    is_largest = _blocks(x, n) == _each_block(y)
    share = g / is_largest.sum((2, 4, 6), dtype=g.dtype)
    return (jnp.where(is_largest, _each_block(share), 0).reshape(x.shape),)


_max_pool.defvjp(lambda x, n: (y := _max_pool(x, n), (x, y)), _max_pool_backward)


def upsample(x: jax.Array, n: int, form: Form | None = None) -> jax.Array:
    """Each voxel repeated n times along z, y and x; its gradient is a plain block sum."""
    if _is_native(form, x):
        return native.upsample(x, n)
    b, d, h, w, c = x.shape
    return jnp.broadcast_to(_each_block(x), (b, d, n, h, n, w, n, c)).reshape(b, d * n, h * n, w * n, c)


def _blocks(x: jax.Array, n: int) -> jax.Array:
    """(b, z, y, x, c) -> (b, z/n, n, y/n, n, x/n, n, c)."""
    b, d, h, w, c = x.shape
    return x.reshape(b, d // n, n, h // n, n, w // n, n, c)


def _each_block(x: jax.Array) -> jax.Array:
    """(b, z, y, x, c) -> (b, z, 1, y, 1, x, 1, c), to meet `_blocks`."""
    return x[:, :, None, :, None, :, None]


def linear(x: jax.Array, w: jax.Array, bias: jax.Array | None = None, form: Form | None = None) -> jax.Array:
    """A linear map of each voxel's channels: (b, z, y, x, c_in), (c_in, c), (c,) -> (b, z, y, x, c)."""
    if _is_native(form, x):
        return native.linear(x, w, bias)
    y = x @ w
    return y if bias is None else y + bias


def _is_native(form: Form | None, x: jax.Array) -> bool:
    return (form or best_form()) == "native" and x.dtype == jnp.float32
