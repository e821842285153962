"""What workers of a cluster are given to do in tests: a module that they can import."""

import os
import signal
from pathlib import Path


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"need 0 or more,\n got {number}")
    return number**2


def once_killed(given: tuple[Path, int]) -> int:
    """Kills its process the first time that it is asked for a number, as lack of memory does."""
    folder, number = given
    mark = folder / str(number)
    if number % 3 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_killed(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
