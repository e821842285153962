"""Times and memory of tasks that take turns."""

import os
import threading
import time
from collections.abc import Callable
from statistics import median

Task = Callable[[], object]


def interleaved(tasks: dict[str, Task], repeats: int) -> dict[str, float]:
    """Median wall time of each task in ms; the tasks take turns so that a change of load touches all."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            result = task()
            times[name].append((time.perf_counter() - start) * 1e3)
            del result
    return {name: median(values[1:]) for name, values in times.items()}  # the first round warms up


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
