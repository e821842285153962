"""The 3-D U-Net of both cascade levels: encoder and decoder with max pooling and concatenated skips."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
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
        init = jax.nn.initializers.variance_scaling(
            2.0 * c_in[0] / sum(c_in), "fan_in", "normal", in_axis=(0, 1, 2, 3)
        )
        self.kernels = nnx.List([nnx.Param(init(rngs.params(), (3, 3, 3, c, c_out))) for c in c_in])
        self.scale = nnx.Param(jnp.ones(c_out))
        self.bias = nnx.Param(jnp.zeros(c_out))
        self.dtype = dtype

    def __call__(self, *inputs: jax.Array) -> jax.Array:
        kernels = [k[...].astype(self.dtype) for k in self.kernels]
        return conv_block(inputs, kernels, self.scale[...], self.bias[...]).astype(self.dtype)


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
        self.reduce = nnx.List(
            [nnx.Linear(low, c, use_bias=False, dtype=dtype, rngs=rngs) for c, low in steps]
        )
        self.decoder = nnx.List(
            [
                nnx.List([ConvBlock((c, c), c, dtype, rngs=rngs), ConvBlock((c,), c, dtype, rngs=rngs)])
                for c, _ in steps
            ]
        )
        self.head = nnx.Linear(widths[0], n_classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        skips = []
        for level, (first, second) in enumerate(self.encoder):
            x = second(first(max_pool(x, self.pool) if level else x))
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            first, second = self.decoder[level]
            narrow = linear(x, self.reduce[level].kernel[...].astype(self.dtype))
            x = second(first(upsample(narrow, self.pool), skips[level]))
        return linear(x.astype(jnp.float32), self.head.kernel[...], self.head.bias[...])


def make_unet(config: NetConfig, n_classes: int, seed: int) -> tuple[Apply, Params]:
    """A pure function (params, images) -> logits, and initial parameters drawn from `seed`."""
    graph, params = nnx.split(UNet(config, n_classes, rngs=nnx.Rngs(seed)), nnx.Param)

    def apply(params: Params, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(images)

    return apply, params
