"""`python -m kidseg_jax VERB`: one verb, one file in this folder."""

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from kidseg_jax.cli.output import mend_streams, printable_output
from kidseg_jax.stops import TERMINATED, Terminated, obeyed

A = TypeVar("A")
INTERRUPTED, CLOSED = 130, 141  # what a shell gives after Ctrl-C, and for a writer whose pipe was closed
BOX = re.compile(r"\x1b\[[0-9;]*m|[\u2500-\u257f]+")  # colours and lines of a box

VERBS = {
    "stage": "train a cascade in stages, each on more corrected labels",
    "predict": "label maps for CTs, on their own grids",
    "compare": "surface distances between two label maps or meshes",
    "evaluate": "metrics of a folder of predictions against a folder of truths",
    "audit": "which label maps to look at first: odd labels, ranked, with a picture each",
    "export": "a label map in another tool's format",
    "measure": "what a surgeon asks of a label map: sizes, distances, scores, arteries",
    "phantom": "the phantom cohort as CTs and label maps on disk",
    "serve": "a run over the MONAI Label protocol",
    "info": "what a folder of cases holds, and what is wrong with it",
    "ledger": "who labelled what, in how many minutes, and whether the chain is whole",
    "label": "start or stop the clock of a person who labels",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit code (0 done, 1 done with failures, 2 refused)."""
    mend_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        with printable_output():
            print("usage: python -m kidseg_jax VERB [options]\n")
            print("\n".join(f"  {verb:10}{meaning}" for verb, meaning in VERBS.items()))
            print("\npython -m kidseg_jax VERB --help says more.")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        return refused(ValueError(f"unknown verb {verb!r}, need one of {', '.join(VERBS)}"))
    module = importlib.import_module(f"kidseg_jax.cli.{verb}")
    if hasattr(module, "main"):  # its defaults depend on the preset or the cohort that is asked for
        return module.main(rest)
    return run_verb(module.Arguments, module.run, rest, prog=f"python -m kidseg_jax {verb}")


def run_verb(
    arguments: type[A],
    run: Callable[[A], int],
    argv: Sequence[str],
    prog: str,
    default: A | None = None,
    stopped: int = TERMINATED,
) -> int:
    """Parse `argv` into the dataclass `arguments` and run it; bad input becomes one line and exit code 2.

    A reader of the output that has seen enough, such as `head`, ends it without a word and with CLOSED;
    Ctrl-C ends it with one line and INTERRUPTED, SIGTERM with one line and the code `stopped`.
    """
    try:
        given = parse(arguments, argv, prog, default)
    except ValueError as error:
        return refused(error)
    with printable_output():
        return _ended(run, given, stopped)


def _ended(run: Callable[[A], int], given: A, stopped: int) -> int:
    """The exit code of a verb, however it ends."""
    try:
        with obeyed():
            code = run(given)
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return CLOSED
    except KeyboardInterrupt:
        print("kidseg_jax: interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except Terminated as stop:
        kept = str(stop) or "what was finished is kept"
        print(f"kidseg_jax: stopped by SIGTERM; {kept}", file=sys.stderr)
        return stopped
    except (ValueError, OSError, MemoryError) as error:
        code = refused(error)
        try:
            sys.stdout.flush()
        except OSError:  # the error was that of the output: said above, and not again when Python ends
            _drop_output()
        return code


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refused(error: Exception) -> int:
    """The exit code of what cannot be done, once it is said in one line."""
    with printable_output():
        print(f"kidseg_jax: {' '.join(str(error).split()) or 'out of memory'}", file=sys.stderr)
    return 2


def parse(arguments: type[A], argv: Sequence[str], prog: str, default: A | None = None) -> A:
    """The dataclass that `argv` describes; what the parser says in a box is raised as ValueError in one line.

    `--help` prints and ends the process as usual.
    """
    import tyro

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(arguments, args=argv, prog=prog, default=default)  # pyright: ignore[reportReturnType]
    except SystemExit as end:
        if not end.code:
            raise
    lines = [" ".join(line.split()) for line in BOX.sub(" ", printed.getvalue()).splitlines()]
    title, *more = [line for line in lines if line]
    text = " ".join(more)
    raise ValueError(text if text.startswith(title) else f"{title}: {text}")


def value_of(flag: str, given: Sequence[str]) -> str | None:
    """What follows a flag on the command line."""
    for i, word in enumerate(given):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag and i + 1 < len(given):
            return given[i + 1]
    return None
