"""What a training patch goes through before the network sees it, on the device."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates

from kidseg_jax.config import NetConfig, TrainConfig


def to_window(hu: jax.Array, window_hu: tuple[float, float]) -> jax.Array:
    """HU as float32 with the window at -1..1, clipped at -1.5 and 1.5."""
    low, high = window_hu
    return jnp.clip((hu.astype(jnp.float32) - low) * (2.0 / (high - low)) - 1.0, -1.5, 1.5)


def random_patch(
    key: jax.Array, ct: jax.Array, labels: jax.Array, size: jax.Array, net: NetConfig, train: TrainConfig
) -> tuple[jax.Array, jax.Array]:
    """A shifted, rescaled, noisy patch of one ROI, float32, and its labels, int32: both of shape net.patch.

    ct: int16 HU, labels: uint8, both (z, y, x); the ROI is their first `size` voxels, larger than the patch
    by the largest shift on both sides, and what lies behind it repeats its edge: so all ROIs of a training
    have one shape and one compiled program. Gaussian noise is always added.
    Source: Kim et al. 2020, Methods (the noise); shift, turn, zoom, gain and offset are ours.
    """
    shift_key, pose_key, gain_key, offset_key, noise_key = jax.random.split(key, 5)
    room = size - jnp.array(net.patch)
    start = jax.random.randint(shift_key, (3,), jnp.zeros(3, jnp.int32), room + 1)
    if train.turn_deg or train.zoom:
        places = _turned(pose_key, start, net, train)
        hu = map_coordinates(ct.astype(jnp.float32), places, order=1, mode="nearest")
        targets = map_coordinates(labels.astype(jnp.int32), places, order=0, mode="nearest")
    else:
        hu = lax.dynamic_slice(ct, start, net.patch)
        targets = lax.dynamic_slice(labels, start, net.patch).astype(jnp.int32)
    image = to_window(hu, net.window_hu)
    gain = 1.0 + train.gain_sd * jax.random.normal(gain_key)
    offset = train.offset_sd * jax.random.normal(offset_key)
    noise = train.noise_sd * jax.random.normal(noise_key, (math.prod(net.patch),)).reshape(net.patch)
    return image * gain + offset + noise, targets


def _turned(key: jax.Array, start: jax.Array, net: NetConfig, train: TrainConfig) -> list[jax.Array]:
    """ROI indices (z, y, x) of every patch voxel, the patch turned about z and zoomed about its centre."""
    turn, zoom = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
    angle, scale = turn * jnp.deg2rad(train.turn_deg), 1.0 + zoom * train.zoom
    middle = [(n - 1) / 2 for n in net.patch]
    z, y, x = jnp.meshgrid(
        *[(jnp.arange(n) - m) * scale for n, m in zip(net.patch, middle, strict=True)], indexing="ij"
    )
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    turned = (z, cosine * y - sine * x, sine * y + cosine * x)
    return [t + m + s for t, m, s in zip(turned, middle, start.astype(jnp.float32), strict=True)]
