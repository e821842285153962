"""Whether the voxels of a NIfTI file are all there and as they were written: what ITK does not look at."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

MOST_GZIP_RATIO = 1032  # deflate cannot shrink more than this
BLOCK_BYTES = 1 << 22


class Stored(Protocol):
    """What a header says about the bytes that follow it."""

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def data_offset(self) -> int: ...
    @property
    def scaled(self) -> bool: ...


def first_bytes(path: Path, n: int, packed: bool) -> bytes:
    """The first n bytes of a file, unpacked; ValueError where the gzip stream breaks before them."""
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            return stream.read(n)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
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
        unpacked = struct.unpack("<I", stream.read(4))[0]
    if unpacked != needed % 2**32:
        scan(path, header)


def check_data(path: Path, header: Stored, voxels: np.ndarray) -> None:
    """Raises ValueError unless the voxels that ITK gives are what the file holds, and are numbers.

    ITK's NIfTI reader looks at no checksum and turns nan and infinity into 0 without a word. Voxels that
    still are the
    stored bytes are summed up as they are; others, and floating point in a plain file, cost a second pass
    over the file.
    """
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(-8, 2)
        expected, unpacked = struct.unpack("<2I", stream.read(8))
    if not packed:
        if header.dtype.kind == "f":
            scan(path, header)
        return
    stored = voxels.dtype == header.dtype and header.dtype.isnative and not header.scaled
    if stored and unpacked == (header.data_offset + voxels.nbytes) % 2**32 and voxels.flags.c_contiguous:
        checksum = zlib.crc32(first_bytes(path, header.data_offset, packed))
        if zlib.crc32(voxels.data.cast("B"), checksum) == expected:
            return
    scan(path, header)


def scan(path: Path, header: Stored) -> None:
    """Read a file to its end; ValueError where it breaks, is short, or holds floats that are no numbers."""
    needed = math.prod(header.sizes) * header.dtype.itemsize
    total, bad = 0, 0
    try:
        for block in _blocks(path, header.data_offset):
            if header.dtype.kind == "f":
                values = np.frombuffer(block[: max(0, needed - total)], header.dtype)
                bad += len(values) - int(np.count_nonzero(np.isfinite(values)))
            total += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path.name}: the gzip stream is cut or broken after {total} bytes of voxels: {error}"
        ) from error
    if total < needed:
        raise ValueError(f"{path.name}: cut short: the header claims {needed} bytes of voxels, got {total}")
    if bad:
        raise ValueError(f"{path.name}: {bad} of {math.prod(header.sizes)} voxels are nan or infinite")


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    with open(path, "rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
        stream.read(offset)
        while block := stream.read(BLOCK_BYTES):
            yield block
