"""The ledger: an append-only file of JSON lines, each holding the hash of the one before it."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from kidseg_jax.labelling.events import KINDS, Event, RepairEvent, now

GENESIS = "0" * 64
E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Line:
    """One line as read: where it stands, when it was written, what it says, and its hash."""

    number: int
    written: str
    event: Event
    hash: str


@dataclass(frozen=True)
class Chain:
    """A ledger whose hashes hold; torn says what is wrong with a last line on disk that is not in `lines`."""

    path: Path
    lines: tuple[Line, ...]
    torn: str | None = None

    @property
    def head(self) -> str:
        """Hash of the last line: keep it elsewhere to prove later that nothing was cut off."""
        return self.lines[-1].hash if self.lines else GENESIS

    def events(self, kind: type[E]) -> list[E]:
        """The events of one kind, oldest first."""
        return [line.event for line in self.lines if isinstance(line.event, kind)]


def read_ledger(path: str | os.PathLike[str]) -> Chain:
    """Every line of a ledger with its hash checked; a missing file is an empty ledger.

    A last line that was torn (no newline, or not JSON) is left out and named in `torn`. Any other damage
    raises ValueError with the number of the first line that does not hold: changed, out of place, or cut
    out.
    """
    path = Path(path)
    data = b""
    if path.exists():
        with open(path, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            data = stream.read()
    lines, torn_bytes = _parsed(path, data)
    torn = None
    if torn_bytes:
        torn = f"{path}: line {len(lines) + 1} is torn ({len(torn_bytes)} bytes), the lines before it hold"
    return Chain(path, tuple(lines), torn)


def append(path: str | os.PathLike[str], events: Sequence[Event], *, once: bool = False) -> Chain:
    """Write events at the end of a ledger and sync them; returns the ledger as it then stands.

    A torn last line is replaced by a `RepairEvent` that keeps what it held. With once, events already in
    the ledger, equal in every field, are not written again, so that a stage that was killed can append its
    lines again. Writers in other threads and processes wait for each other. On a full disk the file is cut
    back to what it was and OSError is raised. Raises ValueError for a ledger that is damaged elsewhere than
    in its last line.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as stream:
        data = stream.read()
        lines, torn = _parsed(path, data)
        new: list[Event] = [RepairEvent(len(lines) + 1, torn.decode("utf-8", "replace"))] if torn else []
        known = {line.event for line in lines} if once else set()
        for event in events:
            if event not in known:
                new.append(event)
            if once:
                known.add(event)
        if not new:
            return Chain(path, tuple(lines))
        written, text = now(), b""
        for event in new:
            lines.append(_line(len(lines) + 1, written, event, lines[-1].hash if lines else GENESIS))
            text += _encoded(lines[-1], lines[-2].hash if len(lines) > 1 else GENESIS)
        _replace_tail(stream, len(data) - len(torn), text)
    return Chain(path, tuple(lines))


def _parsed(path: Path, data: bytes) -> tuple[list[Line], bytes]:
    """The lines that hold, and the bytes of a torn last line (empty when there is none)."""
    lines: list[Line] = []
    *rows, rest = data.split(b"\n")
    for number, row in enumerate(rows, 1):
        try:
            record = json.loads(row)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            if number == len(rows) and not rest:
                return lines, row + b"\n"
            raise ValueError(f"{path}: line {number} is not a ledger line, and it is not the last one")
        previous = lines[-1].hash if lines else GENESIS
        if record.get("previous") != previous or record.get("n") != number:
            raise ValueError(f"{path}: line {number} does not follow the line before it: the chain is broken")
        if record.get("hash") != _digest(record):
            raise ValueError(f"{path}: line {number} was changed: its hash does not hold")
        lines.append(Line(number, str(record.get("written")), _event(path, number, record), record["hash"]))
    return lines, rest


def _event(path: Path, number: int, record: dict[str, Any]) -> Event:
    kind = KINDS.get(str(record.get("kind")))
    if kind is None:
        raise ValueError(
            f"{path}: line {number}: need a kind of {', '.join(KINDS)}, got {record.get('kind')!r}"
        )
    body = {k: v for k, v in record.items() if k not in ("n", "written", "kind", "previous", "hash")}
    try:
        return kind(**body)
    except TypeError as error:
        raise ValueError(f"{path}: line {number}: {error}") from error


def _line(number: int, written: str, event: Event, previous: str) -> Line:
    return Line(number, written, event, _digest(_record(number, written, event, previous)))


def _record(number: int, written: str, event: Event, previous: str) -> dict[str, Any]:
    return {"n": number, "written": written, "kind": event.kind, **asdict(event), "previous": previous}


def _encoded(line: Line, previous: str) -> bytes:
    record = _record(line.number, line.written, line.event, previous) | {"hash": line.hash}
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(record: dict[str, Any]) -> str:
    body = {k: v for k, v in record.items() if k != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The open file, read from its start, held by this thread alone."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if is_new:
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        yield stream  # pyright: ignore[reportReturnType]


def _replace_tail(stream: BinaryIO, start: int, text: bytes) -> None:
    """Cut the file at `start`, write `text` there and sync; on failure nothing of `text` stays."""
    stream.truncate(start)
    stream.seek(start)
    try:
        left = memoryview(text)
        while left:
            left = left[stream.write(left) :]
        os.fsync(stream.fileno())
    except OSError:
        stream.truncate(start)
        raise
