"""The machine that JAX runs on: its name, its memory, and what it has compiled before."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from kidseg_jax.config import NetConfig

MEMORY_POLICY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
CHANNELS_LAST = {"xla_gpu_force_conv_nhwc": True}


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
    name = f"{devices[0].platform}: {len(devices)} x {devices[0].device_kind}"
    if devices[0].platform == "cpu":
        return name
    share = os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.75")
    is_taken = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true").lower() not in ("false", "0")
    return f"{name}, memory up to {share} of it, {'taken at the start' if is_taken else 'taken as needed'}"


def take_device() -> None:
    """Let JAX find its device, and take a GPU's memory as it needs it, up to nine tenths, so that others fit.

    What the environment says of memory stays. To be called before anything else makes JAX look for devices.
    Raises ValueError where there is no device such as JAX_PLATFORMS asks for.
    """
    for name, value in MEMORY_POLICY.items():
        os.environ.setdefault(name, value)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(f"JAX_PLATFORMS: need a device of this machine, got {asked!r}") from error


def compiler_options() -> dict[str, bool] | None:
    """What XLA is told beside a program: on a GPU, channels last in 3-D convolutions, as it does in 2-D.

    Options come and go with its versions: one that this version does not have is left out.
    """
    return CHANNELS_LAST if jax.default_backend() == "gpu" and _has(CHANNELS_LAST) else None


def _has(options: dict[str, bool]) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True


@contextmanager
def named_memory(what: str, net: NetConfig, batch: int) -> Iterator[None]:
    """Out of the device's memory becomes a ValueError that says for which patch, and what to lower."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
            raise
        patch = "x".join(map(str, net.patch))
        raise ValueError(
            f"{what}: out of memory on {jax.devices()[0].device_kind} with a patch of {patch} voxels, batch "
            f"{batch}, features {net.features}, {net.dtype}: lower the patch, the batch or the features"
        ) from error


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
