"""What a verb prints: no name moves the cursor, whatever the terminal's encoding, or without one."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown_name(name: str) -> str:
    """A name within a line: it cannot end the line, nor look like a column; `Printable` does the rest."""
    return name.replace("\n", "\\n").replace("\t", "\\t")


class Printable:
    """A text stream on which control characters, and what its encoding lacks, appear as escapes."""

    def __init__(self, stream: TextIO):
        self.bare = stream

    def write(self, text: str) -> int:
        shown = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
        encoding = self.bare.encoding or "utf-8"
        self.bare.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


@contextmanager
def printable_output() -> Iterator[None]:
    """Within it standard output and error are `Printable`; what was closed swallows what is written."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = (Printable(stream or nowhere) for stream in before)  # pyright: ignore
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def mend_streams() -> None:
    """Give a process an empty stream for each of stdin, stdout and stderr that is closed, so that no file it
    opens takes the number; what an encoding lacks becomes an escape.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
        elif number and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
