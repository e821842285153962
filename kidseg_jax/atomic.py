"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UMASK = os.umask(0o077)
os.umask(UMASK)


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, with its endings; on success it is synced and renamed to `path`.

    On any error the temporary file is removed and `path` stays as it was; that of a full disk names it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fchmod(stream.fileno(), 0o666 & ~UMASK)  # libraries write some for their user alone
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        error.filename = error.filename or str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep_leftovers(folder: Path) -> tuple[Path, ...]:
    """Remove the temporary files below a folder whose writers were killed; returns what was removed.

    Files of processes that live are left alone, and so are those whose number another process has now.
    """
    named = [path for path in folder.rglob(".*") if path.name.split(".")[1].isdigit() and not path.is_dir()]
    dead = tuple(path for path in named if not _is_alive(int(path.name.split(".")[1])))
    for path in dead:
        path.unlink(missing_ok=True)
    return dead


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole, in UTF-8."""
    with written_whole(path) as temporary:
        temporary.write_text(as_utf8(text), encoding="utf-8")


def as_utf8(text: str) -> str:
    """The text as UTF-8 can hold it, whatever the locale is that a file's name in it was read in.

    Bytes of a name that an ASCII locale could not tell become the letters that they are; what is no letter
    even so becomes an escape.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in this folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
