"""Times and memory of tasks that take turns."""

import os
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

Task = Callable[[], object]


class Times(NamedTuple):
    """Medians in ms: on the clock, and of processor time over all threads, which others disturb less."""

    wall_ms: float
    cpu_ms: float


def interleaved(tasks: dict[str, Task], repeats: int) -> dict[str, Times]:
    """Median times of each task; the tasks take turns so that a change of load touches all."""
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
    return {name: Times(median(walls[name][1:]), median(cpus[name][1:])) for name in tasks}


def peak_extra_bytes(task: Task) -> int:
    """How far resident memory rises above what it was before, sampled every 0.2 ms; the result counts."""
    page, done, peak = os.sysconf("SC_PAGE_SIZE"), threading.Event(), 0

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * page

    before = resident()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident() - before)
            time.sleep(2e-4)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = task()
    done.set()
    watcher.join()
    peak = max(peak, resident() - before)
    del result
    return peak
