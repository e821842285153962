"""Voxels behind a header, plain or in gzip: all of them, as they were written, in one array."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np

MOST_GZIP_RATIO = 1032  # deflate cannot shrink more than this
BLOCK_BYTES = 1 << 20
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Stored:
    """Where a header says that the voxels of a file lie.

    sizes: fastest axis first. start: the first byte in the file of them, or of the gzip members that hold
    them. skipped: bytes before the first voxel from there on, unpacked.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    packed: bool
    start: int = 0
    skipped: int = 0

    @property
    def n_bytes(self) -> int:
        return math.prod(self.sizes) * self.dtype.itemsize


def is_packed(path: Path, start: int = 0) -> bool:
    """Whether a gzip member starts there, whatever the file's name says."""
    with open(path, "rb") as stream:
        stream.seek(start)
        return stream.read(2) == b"\x1f\x8b"


@contextmanager
def unpacked(path: Path, packed: bool, start: int = 0) -> Iterator[BufferedIOBase]:
    """A stream of a file's bytes from `start` on, through all members of gzip where it is packed."""
    with open(path, "rb") as stream:
        stream.seek(start)
        if packed:
            with gzip.open(stream, "rb") as members:
                yield members
        else:
            yield stream


def first_bytes(path: Path, n: int) -> bytes:
    """The first n bytes of a file, unpacked; ValueError where the gzip stream breaks before them."""
    try:
        with unpacked(path, is_packed(path)) as stream:
            return stream.read(n)
    except BROKEN as error:
        raise ValueError(f"{path.name}: the gzip stream is broken: {error}") from error


def check_length(stored: Stored) -> None:
    """Raises ValueError unless the file can hold all of its voxels; looks at the gzip trailer only."""
    where, needed = stored.path.name, stored.skipped + stored.n_bytes
    size = stored.path.stat().st_size - stored.start
    if not stored.packed:
        if size < needed:
            raise ValueError(f"{where}: cut short: the header claims {needed} bytes, the file has {size}")
        return
    if needed > size * MOST_GZIP_RATIO:
        raise ValueError(f"{where}: the header claims {needed} bytes, which {size} packed bytes cannot hold")
    with open(stored.path, "rb") as stream:
        stream.seek(-4, 2)
        length = struct.unpack("<I", stream.read(4))[0]
    if length != needed % 2**32:  # cut, several members, or more behind the voxels: before memory is taken
        with _voxel_stream(stored) as stream:
            total = 0
            while total < stored.n_bytes and (block := stream.read(BLOCK_BYTES)):
                total += len(block)
        _require_all(stored, total)


def read_stored(stored: Stored, alone: bool = False) -> np.ndarray:
    """The voxels of a file whose length was checked, slowest axis first, in the machine's byte order.

    The stream is read to its end, so its checksum counts. Raises ValueError where it is cut or broken, or,
    with alone, where anything lies behind the voxels.
    """
    voxels = np.empty(stored.sizes[::-1], stored.dtype)
    room = voxels.reshape(-1).view(np.uint8).data
    with _voxel_stream(stored) as stream:
        total = 0
        while total < len(room) and (got := stream.readinto(room[total : total + BLOCK_BYTES])):
            total += got
        _require_all(stored, total)
        while stream.read(BLOCK_BYTES):
            if alone:
                raise ValueError(
                    f"{stored.path.name}: the header claims {stored.n_bytes} bytes of voxels, there are more"
                )
    if not voxels.dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(voxels.dtype.newbyteorder("="))
    return voxels


@contextmanager
def _voxel_stream(stored: Stored) -> Iterator[BufferedIOBase]:
    """The stream from the first voxel on; a break anywhere in it is said with what was claimed."""
    try:
        with unpacked(stored.path, stored.packed, stored.start) as stream:
            stream.read(stored.skipped)
            yield stream
    except BROKEN as error:
        raise ValueError(
            f"{stored.path.name}: the gzip stream is cut or broken, "
            f"need {stored.n_bytes} bytes of voxels: {error}"
        ) from error


def _require_all(stored: Stored, total: int) -> None:
    if total < stored.n_bytes:
        raise ValueError(
            f"{stored.path.name}: cut short: the header claims {stored.n_bytes} bytes of voxels, got {total}"
        )
