"""Kidney segmentation in abdominal CT by staged learning from corrected labels."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kidseg_jax import kernels
    from kidseg_jax.formats.volumes import read_volume, write_volume
    from kidseg_jax.imaging.volume import Geometry, Volume
    from kidseg_jax.network.cascade import predict
    from kidseg_jax.network.models import load_models
    from kidseg_jax.phantom.cohort import make_cohort

__version__ = "0.1.0"
__all__ = [
    "Geometry",
    "Volume",
    "__version__",
    "kernels",
    "load_models",
    "make_cohort",
    "predict",
    "read_volume",
    "write_volume",
]
_HOMES = {
    "Volume": "imaging.volume",
    "Geometry": "imaging.volume",
    "read_volume": "formats.volumes",
    "write_volume": "formats.volumes",
    "make_cohort": "phantom.cohort",
    "load_models": "network.models",
    "predict": "network.cascade",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for: JAX and the kernels load with what needs them."""
    if name == "kernels":
        return importlib.import_module("kidseg_jax.kernels")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
