"""Kernels let other threads run, so that a worker of a cluster answers while it works."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from kidseg_jax import kernels

RNG = np.random.default_rng(0)
NOISE = RNG.random((256, 256, 256)) < 0.5
HU = RNG.integers(-1000, 1000, (64, 64, 64)).astype(np.int16)
SCORES = RNG.normal(size=(48, 48, 48, 6)).astype(np.float32)
FINE = [np.linspace(0, 63, 400)] * 3
FINER = [np.linspace(0, 47, 300)] * 3

CALLS: dict[str, Callable[[], object]] = {
    "label_components": lambda: kernels.label_components(NOISE),
    "component_stats": lambda: kernels.component_stats(NOISE),
    "keep_largest": lambda: kernels.keep_largest(NOISE),
    "resample_linear": lambda: kernels.resample_linear(HU, *FINE),
    "argmax_resample": lambda: kernels.argmax_resample(SCORES, *FINER, channels_last=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_other_threads_run_while_a_kernel_works(name):
    """Were the lock held, this thread could not take a step between the kernel's begin and its end."""
    steps, began, ended = [], threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        for _ in range(3):
            CALLS[name]()
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    began.wait()
    while not ended.is_set():
        steps.append(time.monotonic())
        time.sleep(0.002)
    thread.join()
    assert len(steps) > 12, "at most a step before, between and after three calls where the lock is held"
