"""How the kernels are called from XLA: targets are registered once; and what arrays must be."""

import ctypes
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax import _kernels

Array = jax.Array | np.ndarray

_TARGETS = (
    "label_components",
    "component_stats",
    "keep",
    "fill_holes",
    "bounding_box",
    "crop_roi",
    "paste_roi",
    "surface_distances",
    "surface_points",
    "argmax_resample",
    "resample_linear",
)


@functools.cache
def register() -> None:
    """Tell XLA where the CPU kernels are; every function here does it on first use."""
    path = Path(_kernels.__file__).with_name("_kernels_ffi.so")
    if not path.is_file():
        raise ImportError(
            f"kernels.ffi: {path.name} was not built; it needs jaxlib's headers when kidseg_jax is built"
        )
    library = ctypes.CDLL(str(path))
    for name in _TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, f"kidseg_{name}"))
        jax.ffi.register_ffi_target(f"kidseg_{name}", capsule, platform="cpu")


def call(name: str, results: Any, *operands: Any, aliases: Any = None, **attributes: Any) -> Any:
    """What a kernel makes of the operands, of the shapes and dtypes in `results`.

    attributes: NumPy scalars, arrays or bool. aliases: operands whose memory a result may take over. Under
    vmap the calls run one after another.
    """
    register()
    kernel = jax.ffi.ffi_call(
        f"kidseg_{name}", results, vmap_method="sequential", input_output_aliases=aliases
    )
    return kernel(*operands, **attributes)


def require_labels(where: str, labels: Array) -> None:
    """TypeError unless the array holds bool or integers, ValueError unless it is 3-D."""
    if not (jnp.issubdtype(labels.dtype, jnp.integer) or labels.dtype == jnp.bool_):
        raise TypeError(f"{where}: labels must be bool or integers, got {labels.dtype}")
    require_volume(where, labels)


def require_volume(where: str, volume: Array) -> None:
    """ValueError unless the array is 3-D."""
    if volume.ndim != 3:
        raise ValueError(f"{where}: need a 3-D array, got shape {volume.shape}")
