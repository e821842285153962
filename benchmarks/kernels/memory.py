"""How much memory a task takes beyond what it returns; Linux with glibc."""

import ctypes
import dataclasses
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.kernels.timing import Task

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None, use_errno=True)
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt
_SET_THP_DISABLE = 41  # of prctl


def never_give_back() -> None:
    """From now on freed memory stays with the process, so that what is resident after a task was its peak.

    Pages are small from now on, too. It changes times: call it when all are taken.
    """
    if _LIBC.prctl(_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "never_give_back: huge pages cannot be turned off")
    for option, value in ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
        if _LIBC.mallopt(option, value) != 1:
            raise OSError(f"never_give_back: mallopt({option}, {value}) was refused")


def peak_extra_bytes(task: Task) -> int:
    """Resident memory at a task's peak beyond that of the arrays it returns; after `never_give_back`."""
    task()  # what is made once is not the task's
    gc.collect()
    _LIBC.malloc_trim(0)
    before = resident_bytes()
    result = task()
    return max(0, resident_bytes() - before - sum(resident_bytes_of(array) for array in arrays_in(result)))


def resident_bytes() -> int:
    """Exactly, from the page tables; the counters of /proc/self/statm lag behind."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise OSError("resident_bytes: /proc/self/smaps_rollup has no Rss")


def resident_bytes_of(array: np.ndarray) -> int:
    """Bytes of an array whose pages are there: zeros that were never written take none."""
    low, high = np.lib.array_utils.byte_bounds(array)
    first, last = low // _PAGE, -(-high // _PAGE)
    if last == first:
        return 0
    pages = (ctypes.c_ubyte * (last - first))()
    if _LIBC.mincore(ctypes.c_void_p(first * _PAGE), ctypes.c_size_t((last - first) * _PAGE), pages) != 0:
        raise OSError(ctypes.get_errno(), "resident_bytes_of: mincore failed")
    return min(sum(page & 1 for page in pages) * _PAGE, high - low)


def arrays_in(result: object) -> Iterator[np.ndarray]:
    """Every array that is held in tuples, lists and dataclasses; each once."""
    if isinstance(result, np.ndarray):
        yield result
    elif isinstance(result, (tuple, list)):
        for part in result:
            yield from arrays_in(part)
    elif dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            yield from arrays_in(getattr(result, field.name))
