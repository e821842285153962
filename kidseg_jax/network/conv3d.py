"""A 3x3x3 convolution that is fast on CPU as well as on GPU.

XLA's CPU backend runs 3-D convolutions slowly: the package's own, compiled into `_layers`, is used there.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from kidseg_jax.network import native

Form = Literal["native", "lax"]


def best_form() -> Form:
    """The fastest form here: native on CPU, lax on every other device."""
    return "native" if jax.default_backend() == "cpu" else "lax"


def conv3d(x: jax.Array, kernel: jax.Array, form: Form | None = None) -> jax.Array:
    """Convolution, zero padding, stride 1: (b, z, y, x, c), (3, 3, 3, c, c_out) -> (b, z, y, x, c_out).

    form: "native" (compiled for CPU, computed in float32, differentiable once) or "lax" (XLA's own 3-D
    convolution); None takes `best_form`. They agree to a relative error of 1e-5 in float32, gradients
    included. Raises ValueError on other kernel sizes.
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
    if (form or best_form()) == "native":
        exact = [tuple(a.astype(jnp.float32) for a in arrays) for arrays in (inputs, kernels)]
        return native.conv3d_sum(*exact).astype(inputs[0].dtype)
    return lax.conv_general_dilated(
        jnp.concatenate(inputs, axis=-1),
        jnp.concatenate(kernels, axis=3),
        (1, 1, 1),
        "SAME",
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
