"""Kidney segmentation in abdominal CT by staged learning from corrected labels."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Volume": "imaging.volume",
    "Geometry": "imaging.volume",
    "read_volume": "imaging.io",
    "write_volume": "imaging.io",
    "make_cohort": "imaging.phantom",
    "load_models": "network.models",
    "predict": "network.cascade",
    "kernels": "",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _PUBLIC[name]
    if not home:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
