"""The 3-D U-Net of both cascade levels: encoder and decoder with max pooling and concatenated skips."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kidseg_jax.config import NetConfig
from kidseg_jax.network.layers import conv_block, linear, max_pool, upsample

Params = nnx.State
Apply = Callable[[Params, jax.Array], jax.Array]


class ConvBlock(nnx.Module):
    """Convolution of concatenated inputs, instance norm, leaky ReLU: (b, z, y, x, c_i) each -> (..., c_out).

    One kernel for each input: the sum of their convolutions is the convolution of the concatenation, without
    the copy.
    """

    def __init__(self, c_in: tuple[int, ...], c_out: int, dtype: jnp.dtype, *, rngs: nnx.Rngs):
        variance = 2.0 / (27 * sum(c_in))
        self.kernels = nnx.List([_normal(rngs, (3, 3, 3, c, c_out), variance) for c in c_in])
        self.scale = nnx.Param(jnp.asarray(np.ones(c_out, np.float32)))
        self.bias = nnx.Param(jnp.asarray(np.zeros(c_out, np.float32)))
        self.dtype = dtype

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        kernels = [k[...].astype(self.dtype) for k in self.kernels]
        return conv_block(inputs, kernels, self.scale[...], self.bias[...]).astype(self.dtype)


class Pointwise(nnx.Module):
    """A linear map of each voxel's channels, in the type of its input: (b, z, y, x, c_in) -> (..., c_out)."""

    def __init__(self, c_in: int, c_out: int, has_bias: bool, *, rngs: nnx.Rngs):
        self.kernel = _truncated_normal(rngs, (c_in, c_out), 1.0 / c_in)
        self.bias = nnx.Param(jnp.asarray(np.zeros(c_out, np.float32))) if has_bias else nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        bias = None if self.bias is None else self.bias[...].astype(x.dtype)
        return linear(x, self.kernel[...].astype(x.dtype), bias)


class UNet(nnx.Module):
    """Logits for each class: (b, z, y, x, 1) -> (b, z, y, x, n_classes).

    z, y and x must be divisible by pool ** (levels - 1). Source: Kim, Lee, Ham et al. 2020, Methods; the skip
    meets an up-sampled map already reduced to the skip's width.
    """

    def __init__(self, config: NetConfig, n_classes: int, *, rngs: nnx.Rngs):
        widths, dtype = config.features, jnp.dtype(config.dtype)
        self.pool, self.dtype = config.pool, dtype
        self.encoder = nnx.List(
            [
                nnx.List([ConvBlock((c_in,), c, dtype, rngs=rngs), ConvBlock((c,), c, dtype, rngs=rngs)])
                for c_in, c in zip((1, *widths[:-1]), widths, strict=True)
            ]
        )
        steps = list(pairwise(widths))
        self.reduce = nnx.List([Pointwise(low, c, has_bias=False, rngs=rngs) for c, low in steps])
        self.decoder = nnx.List(
            [
                nnx.List([ConvBlock((c, c), c, dtype, rngs=rngs), ConvBlock((c,), c, dtype, rngs=rngs)])
                for c, _ in steps
            ]
        )
        self.head = Pointwise(widths[0], n_classes, has_bias=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        skips = []
        for level, (first, second) in enumerate(self.encoder):
            x = second(first(max_pool(x, self.pool) if level else x))
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            first, second = self.decoder[level]
            x = second(first(upsample(self.reduce[level](x), self.pool), skips[level]))
        return self.head(x.astype(jnp.float32))


def make_unet(config: NetConfig, n_classes: int, seed: int) -> tuple[Apply, Params]:
    """A pure function (params, images) -> logits, and initial parameters drawn from `seed`."""
    graph, params = nnx.split(UNet(config, n_classes, rngs=nnx.Rngs(seed)), nnx.Param)

    def apply(params: Params, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(images)

    return apply, params


def n_parameters(config: NetConfig, n_classes: int) -> int:
    """The number of weights of a `UNet`, without making one."""

    def block(c_in: int, c_out: int) -> int:
        return 27 * c_in * c_out + 2 * c_out

    widths = config.features
    encoder = sum(block(c_in, c) + block(c, c) for c_in, c in zip((1, *widths[:-1]), widths, strict=True))
    decoder = sum(low * c + block(2 * c, c) + block(c, c) for c, low in pairwise(widths))
    return encoder + decoder + (widths[0] + 1) * n_classes


@partial(jax.jit, static_argnums=1)
def _flat_normal(key: jax.Array, n: int) -> jax.Array:
    return jax.random.normal(key, (n,))


@partial(jax.jit, static_argnums=1)
def _flat_truncated(key: jax.Array, n: int) -> jax.Array:
    return jax.random.truncated_normal(key, -2.0, 2.0, (n,))


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], variance: float) -> nnx.Param:
    return _scaled(_flat_normal, rngs, shape, np.sqrt(np.float32(variance)))


def _truncated_normal(rngs: nnx.Rngs, shape: tuple[int, ...], variance: float) -> nnx.Param:
    """Normal draws cut at twice their SD, of this variance after the cut."""
    return _scaled(_flat_truncated, rngs, shape, np.sqrt(np.float32(variance)) / np.float32(0.87962566))


def _scaled(
    draw: Callable[..., jax.Array], rngs: nnx.Rngs, shape: tuple[int, ...], by: np.float32
) -> nnx.Param:
    """The first numbers of a long flat draw: one program for all shapes, as each takes a second to make."""
    size = int(np.prod(shape))
    n = 2 ** max(16, (size - 1).bit_length())
    return nnx.Param(jnp.asarray(np.asarray(draw(rngs.params(), n))[:size].reshape(shape) * by))
