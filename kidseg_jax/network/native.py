"""Network layers as CPU custom calls of XLA, compiled into `_conv`: float32, differentiable once, no vmap."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

Arrays = tuple[jax.Array, ...]
INSTRUCTION_SETS = ("baseline", "avx2", "avx512", "best")


@cache
def available() -> bool:
    """Whether the compiled module is there; its custom calls are registered with XLA on first use."""
    try:
        from kidseg_jax import _conv
    except ImportError:
        return False
    for name, target in _conv.targets().items():
        jax.ffi.register_ffi_target(name, target, platform="cpu")
    return True


def set_threads(threads: int) -> None:
    """Largest number of threads of a layer; 0, the default, takes all of XLA's. Results are the same bits."""
    from kidseg_jax import _conv

    if threads < 0:
        raise ValueError(f"set_threads: need 0 or more, got {threads}")
    _conv.set_threads(threads)


def set_instruction_set(name: str) -> None:
    """Best instruction set to use, of `INSTRUCTION_SETS`, if the machine has it; for tests and benchmarks."""
    from kidseg_jax import _conv

    _conv.set_instruction_set(INSTRUCTION_SETS.index(name))


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
    inputs, kernels = residuals
    of_input = partial(_call, "kidseg_conv3d_input_gradient")
    of_kernel = partial(_call, "kidseg_conv3d_kernel_gradient")
    return (
        tuple(of_input(_float32(*x.shape), g, k) for x, k in zip(inputs, kernels, strict=True)),
        tuple(of_kernel(_float32(*k.shape), x, g) for x, k in zip(inputs, kernels, strict=True)),
    )


conv3d_sum.defvjp(_conv3d_forward, _conv3d_backward)
