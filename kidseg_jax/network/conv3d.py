"""A 3x3x3 convolution that is fast on CPU as well as on GPU.

XLA's CPU backend runs 3-D convolutions slowly. The package's own, compiled into `_conv`, is used there. Where
that is not built, depth is folded into the batch: one 3-D convolution C -> C_out becomes one 2-D convolution
C -> 3 C_out and three depth-shifted adds, the same sums in another order.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from kidseg_jax.network import native

Form = Literal["native", "fold", "lax"]
LONGEST_SUM = 2**16  # voxels


def best_form() -> Form:
    """The fastest form here: native on CPU, fold where it is not built, lax on every other device."""
    if jax.default_backend() != "cpu":
        return "lax"
    return "native" if native.available() else "fold"


def conv3d(x: jax.Array, kernel: jax.Array, form: Form | None = None) -> jax.Array:
    """Convolution, zero padding, stride 1: (b, z, y, x, c), (3, 3, 3, c, c_out) -> (b, z, y, x, c_out).

    form: "native" (compiled for CPU, computed in float32, differentiable once), "fold" (depth in the batch)
    or "lax" (XLA's own 3-D convolution); None takes `best_form`. All agree to a relative error of 1e-5 in
    float32, gradients included. Raises ValueError on other kernel sizes.
    """
    return conv3d_sum((x,), (kernel,), form)


def conv3d_sum(
    inputs: Sequence[jax.Array], kernels: Sequence[jax.Array], form: Form | None = None
) -> jax.Array:
    """Sum of `conv3d` of each input with its kernel: the convolution of their concatenation.

    Only lax concatenates: on a GPU the copy moves less memory than two convolutions and their sum.
    """
    for x, kernel in zip(inputs, kernels, strict=True):
        if kernel.shape[:3] != (3, 3, 3) or x.ndim != 5 or x.shape[-1] != kernel.shape[3]:
            raise ValueError(
                f"conv3d: need x (b, z, y, x, c), kernel (3, 3, 3, c, c_out), got {x.shape}, {kernel.shape}"
            )
    chosen = form or best_form()
    if chosen == "native":
        if not native.available():
            raise ValueError("conv3d: need the compiled module kidseg_jax._conv for form native, got none")
        exact = [tuple(a.astype(jnp.float32) for a in arrays) for arrays in (inputs, kernels)]
        return native.conv3d_sum(*exact).astype(inputs[0].dtype)
    if chosen == "lax":
        return _lax(jnp.concatenate(inputs, axis=-1), jnp.concatenate(kernels, axis=3))
    first, *others = [_folded(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)]
    return sum(others, start=first)


def _lax(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


@jax.custom_vjp
def _folded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    b, d, h, w, c = x.shape
    c_out = kernel.shape[-1]
    flat = kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, c, 3 * c_out)
    planes = lax.conv_general_dilated(
        x.reshape(b * d, h, w, c), flat, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(b, d, h, w, 3, c_out)
    zero = jnp.zeros((b, 1, h, w, c_out), planes.dtype)
    below = jnp.concatenate([zero, planes[:, :-1, :, :, 0]], axis=1)
    above = jnp.concatenate([planes[:, 1:, :, :, 2], zero], axis=1)
    return planes[:, :, :, :, 1] + below + above


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _folded(x, kernel), (x, kernel)


def _backward(residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    dx = _folded(g, jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4))
    return dx, _kernel_gradient(x, g)


def _kernel_gradient(x: jax.Array, g: jax.Array) -> jax.Array:
    """Three 2-D kernel gradients, one for each depth offset: channels as the batch, the batch as channels.

    Each is a sum over all voxels, taken in pieces: one long float32 sum loses more than 1e-5 at 96^3.
    """
    b, d, h, w, c = x.shape
    planes = x.reshape(b * d, h, w, c)
    padded = jnp.pad(g, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    step = max(1, LONGEST_SUM // (h * w))
    pieces = [slice(i, i + step) for i in range(0, b * d, step)]
    offsets = []
    for i in range(3):
        shifted = lax.slice_in_dim(padded, 2 - i, 2 - i + d, axis=1).reshape(b * d, h, w, -1)
        offsets.append(sum(_plane_gradient(planes[p], shifted[p]) for p in pieces))
    return jnp.stack(offsets)


def _plane_gradient(planes: jax.Array, g: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        planes, g, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


_folded.defvjp(_forward, _backward)
