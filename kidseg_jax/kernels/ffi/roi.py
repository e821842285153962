"""Boxes inside jitted functions: find the foreground's, cut one out, put one back."""

import jax
import jax.numpy as jnp

from kidseg_jax.kernels.ffi.calls import Array, call, require_labels, require_volume


def bounding_box(mask: Array) -> tuple[jax.Array, jax.Array]:
    """Tight half-open box of the voxels that are not zero: lo and hi, (3,) int32, zeros if there are none."""
    require_labels("bounding_box", mask)
    return call("bounding_box", (jax.ShapeDtypeStruct((3,), jnp.int32),) * 2, mask)


def crop_roi(volume: Array, lo: Array, shape: tuple[int, int, int], fill: float = 0) -> jax.Array:
    """The voxels of a volume from corner lo, (3,) integers, on; `fill` outside."""
    require_volume("crop_roi", volume)
    value = jnp.asarray(fill, volume.dtype)
    return call(
        "crop_roi",
        jax.ShapeDtypeStruct(shape, volume.dtype),
        volume,
        jnp.asarray(lo, jnp.int32).reshape(3),
        value,
    )


def paste_roi(volume: Array, roi: Array, lo: Array) -> jax.Array:
    """A volume with an ROI written in from corner lo on, in place where XLA can."""
    require_volume("paste_roi", volume)
    require_volume("paste_roi", roi)
    if volume.dtype != roi.dtype:
        raise TypeError(f"paste_roi: roi must be {volume.dtype} like the volume, got {roi.dtype}")
    corner = jnp.asarray(lo, jnp.int32).reshape(3)
    return call(
        "paste_roi", jax.ShapeDtypeStruct(volume.shape, volume.dtype), volume, roi, corner, aliases={0: 0}
    )
