"""Layers as CPU custom calls of XLA, compiled into `_layers`: float32, differentiable once, no vmap."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kidseg_jax import _layers

Arrays = tuple[jax.Array, ...]
INSTRUCTION_SETS = tuple(_layers.InstructionSet.__members__)  # worst first; best takes what the machine has


for _name, _target in _layers.targets().items():
    jax.ffi.register_ffi_target(_name, _target, platform="cpu")


def set_threads(threads: int) -> None:
    """Largest number of threads of a layer; 0, the default, takes all of XLA's. Results are the same bits."""
    if threads < 0:
        raise ValueError(f"set_threads: need 0 or more, got {threads}")
    _layers.set_threads(threads)


def set_instruction_set(name: str) -> None:
    """Best instruction set to use, of `INSTRUCTION_SETS`, if the machine has it; for tests and benchmarks."""
    _layers.set_instruction_set(_layers.InstructionSet[name])


def _call(name: str, shape: Any, *inputs: jax.Array) -> Any:
    return jax.ffi.ffi_call(name, shape)(*inputs)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@jax.custom_vjp
def conv3d_sum(inputs: Arrays, kernels: Arrays) -> jax.Array:
    """Sum of convolutions with zero padding: (b, z, y, x, c_i), (3, 3, 3, c_i, c) -> (b, z, y, x, c)."""
    pairs = [a for pair in zip(inputs, kernels, strict=True) for a in pair]
    return _call("kidseg_conv3d", _float32(*inputs[0].shape[:4], kernels[0].shape[-1]), *pairs)


def _conv3d_forward(inputs: Arrays, kernels: Arrays) -> tuple[jax.Array, tuple[Arrays, Arrays]]:
    return conv3d_sum(inputs, kernels), (inputs, kernels)


def _conv3d_backward(residuals: tuple[Arrays, Arrays], g: jax.Array) -> tuple[Arrays, Arrays]:
    return _conv3d_gradients(*residuals, g)


def _conv3d_gradients(inputs: Arrays, kernels: Arrays, g: jax.Array) -> tuple[Arrays, Arrays]:
    of_input = partial(_call, "kidseg_conv3d_input_gradient")
    of_kernel = partial(_call, "kidseg_conv3d_kernel_gradient")
    return (
        tuple(of_input(_float32(*x.shape), g, k) for x, k in zip(inputs, kernels, strict=True)),
        tuple(of_kernel(_float32(*k.shape), x, g) for x, k in zip(inputs, kernels, strict=True)),
    )


conv3d_sum.defvjp(_conv3d_forward, _conv3d_backward)


@jax.custom_vjp
def block(inputs: Arrays, kernels: Arrays, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Leaky ReLU (0.01) of the instance norm of `conv3d_sum`, times scale (c,) plus bias (c,)."""
    return _block_forward(inputs, kernels, scale, bias)[0]


def _block_forward(
    inputs: Arrays, kernels: Arrays, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, Any]:
    pairs = [a for pair in zip(inputs, kernels, strict=True) for a in pair]
    b, c = inputs[0].shape[0], kernels[0].shape[-1]
    whole, moment = _float32(*inputs[0].shape[:4], c), _float32(b, c)
    z, y, mean, inverse = _call("kidseg_block", (whole, whole, moment, moment), *pairs, scale, bias)
    return z, (inputs, kernels, y, mean, inverse, scale, bias)


def _block_backward(residuals: Any, g: jax.Array) -> tuple[Arrays, Arrays, jax.Array, jax.Array]:
    inputs, kernels, *norm = residuals
    shapes = (_float32(*g.shape), _float32(g.shape[-1]), _float32(g.shape[-1]))
    dy, dscale, dbias = _call("kidseg_norm_gradient", shapes, *norm, g)
    return *_conv3d_gradients(inputs, kernels, dy), dscale, dbias


block.defvjp(_block_forward, _block_backward)


def max_pool(x: jax.Array, n: int) -> jax.Array:
    """Largest value of each n^3 block; its gradient goes to the first voxel that holds it."""
    return _max_pool(x, n)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, n: int) -> Any:
    return _max_pool_forward(x, n)[0]


def _max_pool_forward(x: jax.Array, n: int) -> tuple[jax.Array, Arrays]:
    b, d, h, w, c = x.shape
    y = _call("kidseg_max_pool", _float32(b, d // n, h // n, w // n, c), x)
    return y, (x, y)


def _max_pool_backward(n: int, residuals: Arrays, g: jax.Array) -> Arrays:
    return (_call("kidseg_max_pool_gradient", _float32(*residuals[0].shape), *residuals, g),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def region_sums(logits: jax.Array, labels: jax.Array, power: int) -> jax.Array:
    """Sums over voxels: logits (b, z, y, x, c), labels int32 (b, z, y, x) -> (c, 4), power 1 or 2.

    Of each class: its probability on its voxels, its probability to `power` everywhere, its number of voxels,
    and -log of its probability on them.
    """
    return _region_sums(logits, labels, power)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _region_sums(logits: jax.Array, labels: jax.Array, power: int) -> Any:
    return _call(f"kidseg_region_sums_{power}", _float32(logits.shape[-1], 4), logits, labels)


def _region_sums_forward(logits: jax.Array, labels: jax.Array, power: int) -> tuple[Any, Arrays]:
    return _region_sums(logits, labels, power), (logits, labels)


def _region_sums_backward(power: int, residuals: Arrays, g: jax.Array) -> tuple[jax.Array, None]:
    return _call(f"kidseg_region_gradient_{power}", _float32(*residuals[0].shape), *residuals, g), None


_region_sums.defvjp(_region_sums_forward, _region_sums_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _upsample(x: jax.Array, n: int) -> Any:
    b, d, h, w, c = x.shape
    return _call("kidseg_upsample", _float32(b, d * n, h * n, w * n, c), x)


def _upsample_backward(n: int, shape: tuple[int, ...], g: jax.Array) -> Arrays:
    return (_call("kidseg_upsample_gradient", _float32(*shape), g),)


_upsample.defvjp(lambda x, n: (_upsample(x, n), x.shape), _upsample_backward)


def upsample(x: jax.Array, n: int) -> jax.Array:
    """Each voxel repeated n times along z, y and x."""
    return _upsample(x, n)


@jax.custom_vjp
def linear(x: jax.Array, w: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Each voxel's channels (c_in,) times w (c_in, c), plus bias (c,) if there is one."""
    inputs = (x, w) if bias is None else (x, w, bias)
    return _call("kidseg_linear", _float32(*x.shape[:4], w.shape[1]), *inputs)


def _linear_forward(x: jax.Array, w: jax.Array, bias: jax.Array | None) -> tuple[jax.Array, Any]:
    return linear(x, w, bias), (x, w, bias)


def _linear_backward(residuals: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    x, w, bias = residuals
    dw, db = _call("kidseg_linear_gradient", (_float32(*w.shape), _float32(w.shape[1])), x, g)
    return _call("kidseg_linear", _float32(*x.shape), g, w.T), dw, None if bias is None else db


linear.defvjp(_linear_forward, _linear_backward)
