"""The machine that JAX runs on: its name, its memory, and what it has compiled before."""

import ctypes
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


def keep_freed_memory() -> bool:
    """Let malloc keep what is freed for what comes next; False where the C library is not glibc.

    XLA takes fresh memory for every run of a program on CPU. Handed back to the system and taken again, it
    would be cleared page by page in every training step: a fifth of the demo's step.
    """
    mmap_max, trim_threshold = -4, -1  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
        os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, OSError, TypeError, ValueError):
        return False
    return mallopt(mmap_max, 0) == 1 and mallopt(trim_threshold, 2**31 - 1) == 1
