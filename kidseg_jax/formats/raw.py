"""Voxels behind a header, plain or packed: all of them, as they were written, in one array, within bounds.

Whatever reads a file asks here before memory is taken: `require_room` knows how many bytes of voxels a file
may become, `beside` which other file its header may name, `untrusted` narrows both for files of strangers.
"""

import bz2
import gzip
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

Packing = Literal["raw", "gzip", "zlib", "bzip2", "text"]
MOST_GZIP_RATIO = 1032  # deflate cannot shrink more than this
BLOCK_BYTES = 1 << 20
LONGEST_NUMBER = 400  # characters of a voxel in text
SPARE_BYTES = 1 << 20  # what may lie behind the voxels where a format allows it
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
GIB = 1 << 30
DEFAULT_GIB = 4.0
ROOM = "KIDSEG_MAX_GIB"  # environment: GiB of voxels that a file may become
_untrusted: ContextVar[int | None] = ContextVar("untrusted", default=None)


@contextmanager
def untrusted(most_bytes: int) -> Iterator[None]:
    """Within it a file may become `most_bytes` of voxels and no header may name another file."""
    token = _untrusted.set(most_bytes)
    try:
        yield
    finally:
        _untrusted.reset(token)


def room_bytes() -> int:
    """Bytes of voxels that one file may become: KIDSEG_MAX_GIB, 4 GiB without it, less where untrusted."""
    text = os.environ.get(ROOM, "")
    try:
        wanted = float(text or DEFAULT_GIB) * GIB
        if not 0 < wanted < math.inf:
            raise ValueError
    except ValueError:
        raise ValueError(f"{ROOM}: need a positive number of GiB, got {text!r}") from None
    narrow = _untrusted.get()
    return int(wanted if narrow is None else min(wanted, narrow))


def require_room(where: str, n_bytes: int) -> None:
    """Raises ValueError where a file would become more bytes of voxels than `room_bytes`."""
    if n_bytes > (most := room_bytes()):
        set_by = f" ({ROOM})" if _untrusted.get() is None else ""
        raise ValueError(
            f"{where}: would take {n_bytes / GIB:.3g} GiB of voxels, "
            f"at most {most / GIB:.3g} GiB are read{set_by}"
        )


def require_plain(path: Path) -> None:
    """FileNotFoundError for no file, ValueError for what is none: a pipe or device may never end."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_file():
        raise ValueError(f"{path.name}: need a plain file")


def beside(header: Path, name: str) -> Path:
    """The data file that a header names: a plain file in the header's own folder, nothing else."""
    data = header.parent / name
    if _untrusted.get() is not None:
        raise ValueError(f"{header.name}: need data in the file itself, its header names another file")
    if len(name) > 255 or Path(name).name != name or data.is_symlink() or not data.is_file():
        raise ValueError(
            f"{header.name}: its data file must lie beside it as a plain file, got {name[:80]!r}"
        )
    return data


@dataclass(frozen=True)
class Stored:
    """Where a header says that the voxels of a file lie.

    sizes: fastest axis first. start: the first byte in the file of them, or of the packed stream that holds
    them. skipped: bytes before the first voxel from there on, unpacked.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    packing: Packing = "raw"
    start: int = 0
    skipped: int = 0

    @property
    def n_bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


def packing_of(path: Path, start: int = 0) -> Packing:
    """gzip where a gzip member starts there, whatever the file's name says, else raw."""
    with open(path, "rb") as stream:
        stream.seek(start)
        return "gzip" if stream.read(2) == b"\x1f\x8b" else "raw"


class _Inflated(io.RawIOBase):
    """The bytes of one zlib stream, checksum and all; EOFError where it is cut."""

    def __init__(self, packed: BinaryIO):
        self.packed, self.inflater = packed, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self.inflater.eof:
            block = self.inflater.unconsumed_tail or self.packed.read(BLOCK_BYTES)
            if got := self.inflater.decompress(block, len(room)):
                room[: len(got)] = got
                return len(got)
            if not block and not self.inflater.eof:
                raise EOFError("the stream ends before its end-of-stream marker")
        if self.inflater.unused_data or self.packed.read(1):
            raise zlib.error("there are more bytes behind its end")
        return 0


@contextmanager
def unpacked(path: Path, packing: Packing, start: int = 0) -> Iterator[BinaryIO]:
    """A stream of a file's bytes from `start` on, unpacked, through all members of gzip."""
    with open(path, "rb") as stream:
        stream.seek(start)
        if packing == "gzip":
            with gzip.open(stream, "rb") as members:
                yield members  # pyright: ignore[reportReturnType]
        elif packing == "bzip2":
            with bz2.open(stream, "rb") as blocks:
                yield blocks  # pyright: ignore[reportReturnType]
        elif packing == "zlib":
            yield io.BufferedReader(_Inflated(stream), BLOCK_BYTES)  # pyright: ignore[reportReturnType]
        else:
            yield stream


def skip(stream: BinaryIO, n: int) -> None:
    """Read past n bytes, a block at a time."""
    while n > 0 and (block := stream.read(min(n, BLOCK_BYTES))):
        n -= len(block)


def fill(stream: Any, room: memoryview) -> int:
    """Read until the room is full or the stream ends; how many bytes were read."""
    total = 0
    while total < len(room) and (got := stream.readinto(room[total : total + BLOCK_BYTES])):
        total += got
    return total


def first_bytes(path: Path, n: int) -> bytes:
    """The first n bytes of a file, unpacked; ValueError where the gzip stream breaks before them."""
    try:
        with unpacked(path, packing_of(path)) as stream:
            return stream.read(n)
    except BROKEN as error:
        raise ValueError(f"{path.name}: the gzip stream is broken: {error}") from error


def check_length(stored: Stored) -> None:
    """Raises ValueError unless the file can hold all of its voxels and there is room for them.

    Looks at the sizes and a gzip trailer only, before memory is taken.
    """
    where, needed = stored.path.name, stored.skipped + stored.n_bytes
    size = stored.path.stat().st_size - stored.start
    if stored.packing == "raw" and size < needed:
        raise ValueError(f"{where}: cut short: the header claims {needed} bytes, the file has {size}")
    if stored.packing in ("gzip", "zlib") and needed > size * MOST_GZIP_RATIO:
        raise ValueError(f"{where}: the header claims {needed} bytes, which {size} packed bytes cannot hold")
    if stored.packing == "text" and size < (least := 2 * math.prod(stored.sizes) - 1):
        raise ValueError(f"{where}: cut short: the header claims {least} bytes of text, the file has {size}")
    require_room(where, needed)
    if stored.packing != "gzip":
        return
    with open(stored.path, "rb") as stream:
        stream.seek(-4, 2)
        length = struct.unpack("<I", stream.read(4))[0]
    if length != needed % 2**32:  # cut, several members, or more behind the voxels: before memory is taken
        with voxel_stream(stored) as stream:
            total = 0
            while total < stored.n_bytes and (block := stream.read(BLOCK_BYTES)):
                total += len(block)
        _require_all(stored, total)


def read_stored(stored: Stored, alone: bool = False) -> np.ndarray:
    """The voxels of a file whose length was checked, slowest axis first, in the machine's byte order.

    A packed stream is read to its end, so its checksum counts. Raises ValueError where it is cut or broken,
    or, with alone, where anything lies behind the voxels.
    """
    if stored.packing == "text":
        return _read_text(stored)
    voxels = np.empty(stored.sizes[::-1], stored.dtype)
    room = voxels.reshape(-1).view(np.uint8).data
    with voxel_stream(stored) as stream:
        _require_all(stored, fill(stream, room))
        if alone or stored.packing != "raw":
            require_end(stored, stream, 0 if alone else SPARE_BYTES)
    if not voxels.dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(voxels.dtype.newbyteorder("="))
    return voxels


def require_end(stored: Stored, stream: BinaryIO, spare_bytes: int) -> None:
    """Reads what lies behind the voxels; ValueError where that is more than spare_bytes."""
    behind = 0
    while block := stream.read(BLOCK_BYTES):
        behind += len(block)
        if behind > spare_bytes:
            raise ValueError(
                f"{stored.path.name}: the header claims {stored.n_bytes} bytes of voxels, there are more"
            )


def _read_text(stored: Stored) -> np.ndarray:
    """Voxels written as numbers with white space between, a block of text at a time."""
    where, n = stored.path.name, math.prod(stored.sizes)
    voxels, done, rest, block = np.empty(n, stored.dtype.newbyteorder("=")), 0, b"", b" "
    with unpacked(stored.path, "raw", stored.start) as stream, warnings.catch_warnings():
        warnings.simplefilter("error")
        while block:
            block = stream.read(BLOCK_BYTES // 8)
            text = rest + block
            end = max(text.rfind(space) for space in (b" ", b"\n", b"\t", b"\r")) + 1 if block else len(text)
            text, rest = text[:end], text[end:]
            try:
                numbers = (
                    np.fromstring(text.decode("ascii"), np.float64, sep=" ") if text.strip() else voxels[:0]
                )
                if len(rest) > LONGEST_NUMBER:
                    raise ValueError(f"one has more than {LONGEST_NUMBER} characters")
                part = numbers.astype(voxels.dtype)
            except (ValueError, DeprecationWarning, RuntimeWarning) as error:
                raise ValueError(f"{where}: its voxels must be numbers in text: {error}") from error
            if done + len(part) > n or not np.array_equal(part, numbers, equal_nan=True):
                raise ValueError(
                    f"{where}: the header claims {n} voxels in text of its type, got others or more"
                )
            voxels[done : done + len(part)] = part
            done += len(part)
    if done < n:
        raise ValueError(f"{where}: the header claims {n} voxels in text of its type, got {done}")
    return voxels.reshape(stored.sizes[::-1])


@contextmanager
def voxel_stream(stored: Stored) -> Iterator[BinaryIO]:
    """The stream from the first voxel on; an error in it names what the header claims."""
    try:
        with unpacked(stored.path, stored.packing, stored.start) as stream:
            skip(stream, stored.skipped)
            yield stream
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            f"{stored.path.name}: the {stored.packing} stream is cut or broken, "
            f"need {stored.n_bytes} bytes of voxels: {error}"
        ) from error


def _require_all(stored: Stored, total: int) -> None:
    if total < stored.n_bytes:
        raise ValueError(
            f"{stored.path.name}: cut short: the header claims {stored.n_bytes} bytes of voxels, got {total}"
        )
