"""The voxels of NIfTI files: all of them, as they were written, in one array and without a second copy."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol

import numpy as np

MOST_GZIP_RATIO = 1032  # deflate cannot shrink more than this
BLOCK_BYTES = 1 << 20
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


class Stored(Protocol):
    """What a header says about the bytes that follow it."""

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def data_offset(self) -> int: ...
    @property
    def slope(self) -> float: ...
    @property
    def intercept(self) -> float: ...
    @property
    def scaled(self) -> bool: ...


@contextmanager
def unpacked(path: Path) -> Iterator[BufferedIOBase]:
    """A stream of a file's bytes, through gzip where the file is packed, whatever its name says."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
        yield stream


def first_bytes(path: Path, n: int) -> bytes:
    """The first n bytes of a file, unpacked; ValueError where the gzip stream breaks before them."""
    try:
        with unpacked(path) as stream:
            return stream.read(n)
    except BROKEN as error:
        raise ValueError(f"{path.name}: the gzip stream is broken: {error}") from error


def check_length(path: Path, header: Stored, packed: bool) -> None:
    """Raises unless the file can hold every byte its header claims; looks at the gzip trailer only."""
    needed = header.data_offset + math.prod(header.sizes) * header.dtype.itemsize
    size = path.stat().st_size
    if not packed:
        if size < needed:
            raise ValueError(f"{path.name}: cut short: the header claims {needed} bytes, the file has {size}")
        return
    if needed > size * MOST_GZIP_RATIO:
        raise ValueError(
            f"{path.name}: the header claims {needed} bytes, which {size} packed bytes cannot hold"
        )
    with open(path, "rb") as stream:
        stream.seek(-4, 2)
        length = struct.unpack("<I", stream.read(4))[0]
    if length != needed % 2**32:  # cut, several members, or more behind the voxels: before memory is taken
        with _whole(path, header) as stream:
            total = 0
            while block := stream.read(BLOCK_BYTES):
                total += len(block)
        _require_all(path, header, total)


def read_voxels(path: Path, header: Stored) -> np.ndarray:
    """The voxels (z, y, x) of a file whose header was read, scaled as it says; float where they are scaled.

    The stream is read to its end, so its checksum counts. Raises ValueError where it is cut or broken.
    """
    voxels = np.empty(header.sizes[::-1], header.dtype)
    room = voxels.reshape(-1).view(np.uint8).data
    with _whole(path, header) as stream:
        total = 0
        while total < len(room) and (got := stream.readinto(room[total : total + BLOCK_BYTES])):
            total += got
        while stream.read(BLOCK_BYTES):
            pass
    _require_all(path, header, total)
    if not voxels.dtype.isnative:
        voxels = voxels.byteswap(inplace=True).view(voxels.dtype.newbyteorder("="))
    if header.scaled:
        small = voxels.dtype.itemsize <= 2 or voxels.dtype == np.float32
        voxels = voxels.astype(np.float32 if small else np.float64, copy=voxels.dtype.kind != "f")
        voxels *= header.slope
        voxels += header.intercept
    return voxels


@contextmanager
def _whole(path: Path, header: Stored) -> Iterator[BufferedIOBase]:
    """The stream behind the header; a break anywhere in it is said with what was claimed."""
    try:
        with unpacked(path) as stream:
            stream.read(header.data_offset)
            yield stream
    except BROKEN as error:
        raise ValueError(
            f"{path.name}: the gzip stream is cut or broken, need {_claimed(header)} bytes of voxels: {error}"
        ) from error


def _claimed(header: Stored) -> int:
    return math.prod(header.sizes) * header.dtype.itemsize


def _require_all(path: Path, header: Stored, total: int) -> None:
    if total < _claimed(header):
        raise ValueError(
            f"{path.name}: cut short: the header claims {_claimed(header)} bytes of voxels, got {total}"
        )
