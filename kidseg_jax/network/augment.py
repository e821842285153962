"""What a training patch goes through before the network sees it, on the device."""

import jax
import jax.numpy as jnp
from jax import lax

from kidseg_jax.config import NetConfig, TrainConfig


def to_window(hu: jax.Array, window_hu: tuple[float, float]) -> jax.Array:
    """HU as float32 with the window at -1..1, clipped at -1.5 and 1.5."""
    low, high = window_hu
    return jnp.clip((hu.astype(jnp.float32) - low) * (2.0 / (high - low)) - 1.0, -1.5, 1.5)


def random_patch(
    key: jax.Array, ct: jax.Array, labels: jax.Array, net: NetConfig, train: TrainConfig
) -> tuple[jax.Array, jax.Array]:
    """A shifted, rescaled, noisy patch of one ROI: int16 HU and uint8 labels (z, y, x) -> float32 and int32 of net.patch.

    The ROI is larger than the patch by the largest shift on both sides; Gaussian noise is always added.
    Source: Kim et al. 2020, Methods (the noise); shift, gain and offset are ours.
    """
    shift_key, gain_key, offset_key, noise_key = jax.random.split(key, 4)
    room = jnp.array([have - need for have, need in zip(ct.shape, net.patch, strict=True)])
    start = jax.random.randint(shift_key, (3,), jnp.zeros(3, jnp.int32), room + 1)
    image = to_window(lax.dynamic_slice(ct, start, net.patch), net.window_hu)
    gain = 1.0 + train.gain_sd * jax.random.normal(gain_key)
    offset = train.offset_sd * jax.random.normal(offset_key)
    noise = train.noise_sd * jax.random.normal(noise_key, net.patch)
    return image * gain + offset + noise, lax.dynamic_slice(labels, start, net.patch).astype(jnp.int32)
