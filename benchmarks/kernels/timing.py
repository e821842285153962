"""Times of tasks that take turns."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Task = Callable[[], object]


class Times(NamedTuple):
    """ms: median and quartiles on the clock; median processor time of all threads, less disturbed by load."""

    wall_ms: float
    low_ms: float
    high_ms: float
    cpu_ms: float


def interleaved(tasks: dict[str, Task], repeats: int) -> dict[str, Times]:
    """Times of each task; the tasks take turns so that a change of load touches all."""
    walls: dict[str, list[float]] = {name: [] for name in tasks}
    cpus: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            result = task()
            cpus[name].append((time.process_time() - cpu) * 1e3)
            walls[name].append((time.perf_counter() - wall) * 1e3)
            del result
    # The first round warms up.
    return {name: Times(*quartiles(walls[name][1:]), float(np.median(cpus[name][1:]))) for name in tasks}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(middle), float(low), float(high)


def seconds_of_others() -> float:
    """Processor time of all other processes since the machine started; Linux."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split()[1:8]
    )
    busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()
