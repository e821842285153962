"""Resampling inside jitted functions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.kernels.checks import require_threads
from kidseg_jax.kernels.ffi.calls import Array, call, require_volume


def argmax_resample(
    scores: Array,
    cz: Array,
    cy: Array,
    cx: Array,
    *,
    channels_last: bool = False,
    threads: int = 1,
) -> jax.Array:
    """Class of the largest trilinearly interpolated score, uint8 (z, y, x)."""
    where = "argmax_resample"
    if scores.ndim != 4 or min(scores.shape) < 1 or scores.shape[-1 if channels_last else 0] > 256:
        raise ValueError(f"{where}: scores must be 4-D with at most 256 classes, got {scores.shape}")
    axes = [jnp.asarray(c, jnp.float32) for c in (cz, cy, cx)]
    result = jax.ShapeDtypeStruct(tuple(c.shape[0] for c in axes), jnp.uint8)
    attributes = {"channels_last": channels_last, "threads": np.int64(require_threads(where, threads))}
    return call(where, result, scores.astype(jnp.float32), *axes, **attributes)


def resample_linear(
    volume: Array,
    cz: Array,
    cy: Array,
    cx: Array,
    *,
    widths: Sequence[float],
    threads: int = 1,
) -> jax.Array:
    """A volume at fractional source coordinates, float32, averaged over `widths` source voxels, each >= 1."""
    where = "resample_linear"
    require_volume(where, volume)
    if min(volume.shape) < 1 or len(widths) != 3 or not all(np.isfinite(w) and w >= 1 for w in widths):
        raise ValueError(
            f"{where}: need a volume and three widths of at least 1, got {volume.shape} and {widths!r}"
        )
    axes = [jnp.asarray(c, jnp.float32) for c in (cz, cy, cx)]
    result = jax.ShapeDtypeStruct(tuple(c.shape[0] for c in axes), jnp.float32)
    attributes = {
        "widths": np.array(widths, np.float64),
        "threads": np.int64(require_threads(where, threads)),
    }
    return call(where, result, volume.astype(jnp.float32), *axes, **attributes)
