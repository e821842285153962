"""NIfTI-1 files, sound and broken, made byte by byte for the tests."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "c8": 32, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024}
RAS = np.array([[-2.0, 0, 0, 5], [0, -3.0, 0, 6], [0, 0, 4.0, 7]])  # LPS axes of 2, 3 and 4 mm


def nifti_bytes(
    array: np.ndarray,
    *,
    sform: np.ndarray | None = RAS,
    qform_code: int = 0,
    quaternion: Sequence[float] = (0.0, 0.0, 1.0),
    q_offset: Sequence[float] = (5.0, 6.0, 7.0),
    pixdim: Sequence[float] = (2.0, 3.0, 4.0),
    qfac: float = 1.0,
    slope: float = 1.0,
    intercept: float = 0.0,
    units: int = 2,
    dim: Sequence[int] | None = None,
    code: int | None = None,
    order: Literal["<", ">"] = "<",
    magic: bytes = b"n+1\0",
    offset: float = 352.0,
    tail: bytes = b"\0\0\0\0",
) -> bytes:
    """A file of `array` (z, y, x); every argument is a header field as stored, so that each can be wrong."""
    sizes = tuple(dim) if dim is not None else (array.ndim, *array.shape[::-1])
    head = bytearray(348)
    struct.pack_into(order + "i", head, 0, 348)
    struct.pack_into(order + "8h", head, 40, *(*sizes, 1, 1, 1, 1, 1, 1, 1)[:8])
    kind = CODES[array.dtype.str[1:]] if code is None else code
    struct.pack_into(order + "2h", head, 70, kind, array.dtype.itemsize * 8)
    struct.pack_into(order + "8f", head, 76, qfac, *pixdim, 1, 1, 1, 1)
    struct.pack_into(order + "3f", head, 108, offset, slope, intercept)
    head[123] = units
    struct.pack_into(order + "2h", head, 252, qform_code, int(sform is not None))
    struct.pack_into(order + "6f", head, 256, *quaternion, *q_offset)
    if sform is not None:
        struct.pack_into(order + "12f", head, 280, *np.ravel(sform))
    head[344:348] = magic
    return bytes(head) + tail + array.astype(array.dtype.newbyteorder(order)).tobytes()


def put(path: Path, content: bytes) -> Path:
    """Write bytes, packed where the name ends in .gz."""
    packed = gzip.compress(content, 6, mtime=0) if path.name.lower().endswith(".gz") else content
    path.write_bytes(packed)
    return path
