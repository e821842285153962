"""One question asked of several programs about one volume."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.kernels.timing import Task


class Question(NamedTuple):
    """Tasks that answer the question; `prepare` is called before they are timed."""

    name: str
    volume: str
    voxels: int
    input_bytes: int
    tasks: dict[str, Task]
    prepare: Callable[[], None] = lambda: None
