"""The machine that JAX runs on: its name, and what it has compiled before."""

import os
from pathlib import Path

import jax


def keep_compiled() -> Path:
    """Keep compiled programs between runs, in KIDSEG_CACHE or the user's cache folder; returns the folder."""
    base = (
        os.environ.get("KIDSEG_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kidseg_jax"
    )
    folder = Path(base) / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def describe_device() -> str:
    """The platform, name and number of the devices that JAX computes on."""
    devices = jax.devices()
    return f"{devices[0].platform}: {len(devices)} x {devices[0].device_kind}"
