"""SIGTERM, which schedulers send before they kill: a verb ends in order, training after the step it is at."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TERMINATED = 143  # what a shell gives for a process that SIGTERM ended
GO_ON = 75  # EX_TEMPFAIL of sysexits.h: stopped half-way, the same command goes on


class Terminated(BaseException):
    """SIGTERM came; the message says what was kept. No `except Exception` takes it for an error."""


_waits = False  # whether whoever is at work looks for itself, with `stop_if_asked`
_asked = False


@contextmanager
def obeyed() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the block. In another thread than the main one nothing changes."""
    global _asked
    _asked = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _received)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def at_a_step() -> Iterator[None]:
    """In the block SIGTERM waits for the next step; after a block that takes no more steps it is raised."""
    global _waits
    _waits = True
    try:
        yield
    finally:
        _waits = False
    if _asked:
        raise Terminated


def is_asked() -> bool:
    """Whether SIGTERM came and waits for the end of this step."""
    return _asked


def _received(number: int, frame: Any) -> None:
    global _asked
    _asked = True
    if not _waits:
        raise Terminated
