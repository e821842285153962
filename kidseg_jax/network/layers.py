"""The layers of the U-Net that are compiled as one on CPU, and the same in plain JAX for other devices."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kidseg_jax.network import native
from kidseg_jax.network.conv3d import Form, best_form, conv3d_sum


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
    dtype = inputs[0].dtype
    if _is_native(form, inputs[0]):
        return native.block(tuple(inputs), tuple(kernels), scale, bias)
    y = conv3d_sum(inputs, kernels, form).astype(jnp.float32)
    mean = y.mean((1, 2, 3), keepdims=True)
    variance = jnp.square(y - mean).mean((1, 2, 3), keepdims=True)
    y = (y - mean) * (jax.lax.rsqrt(variance + 1e-5) * scale) + bias
    return jax.nn.leaky_relu(y, 0.01).astype(dtype)


def max_pool(x: jax.Array, n: int, form: Form | None = None) -> jax.Array:
    """Largest value of each n^3 block: (b, z, y, x, c) -> (b, z/n, y/n, x/n, c).

    Where voxels tie, native gives the gradient to the first and the other forms share it.
    """
    if _is_native(form, x):
        return native.max_pool(x, n)
    for axis in (1, 2, 3):
        x = x.reshape(*x.shape[:axis], x.shape[axis] // n, n, *x.shape[axis + 1 :]).max(axis + 1)
    return x


def upsample(x: jax.Array, n: int, form: Form | None = None) -> jax.Array:
    """Each voxel repeated n times along z, y and x; its gradient is a plain block sum."""
    if _is_native(form, x):
        return native.upsample(x, n)
    b, d, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None, :, None], (b, d, n, h, n, w, n, c))
    return wide.reshape(b, d * n, h * n, w * n, c)


def linear(x: jax.Array, w: jax.Array, bias: jax.Array | None = None, form: Form | None = None) -> jax.Array:
    """A linear map of each voxel's channels: (b, z, y, x, c_in), (c_in, c), (c,) -> (b, z, y, x, c)."""
    if _is_native(form, x):
        return native.linear(x, w, bias)
    y = x @ w
    return y if bias is None else y + bias


def _is_native(form: Form | None, x: jax.Array) -> bool:
    return (form or best_form()) == "native" and x.dtype == jnp.float32 and native.available()
