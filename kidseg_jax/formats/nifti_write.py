"""NIfTI files, written whole with exactly the volume's grid."""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.formats import nrrd
from kidseg_jax.imaging.volume import Geometry, Volume

TYPES = {"uint8": (2, 8), "int16": (4, 16), "float32": (16, 32), "uint16": (512, 16)}
CARET_CODE = 30  # registered: caret XML


class Extension(NamedTuple):
    """A NIfTI header extension: its registered code and its bytes."""

    code: int
    content: bytes


def write_nifti(path: Path, volume: Volume, extension: Extension | None = None) -> None:
    """Write .nii or .nii.gz with the grid in both sform and qform (code 1, mm); a left-handed grid has qfac
    -1.

    uint8, int16, uint16 and float32 voxels; others raise TypeError. Geometry is stored in float32, as NIfTI-1
    has it.
    """
    array = volume.array
    if array.dtype.name not in TYPES:
        raise TypeError(f"{path.name}: voxels must be one of {', '.join(TYPES)}, got {array.dtype}")
    if max(array.shape) > 32767:
        raise ValueError(f"{path.name}: NIfTI-1 holds at most 32767 voxels along an axis, got {array.shape}")
    tail = b"\0\0\0\0"
    if extension:
        size = -(-(len(extension.content) + 8) // 16) * 16
        tail = (
            b"\1\0\0\0" + struct.pack("<2i", size, extension.code) + extension.content.ljust(size - 8, b"\0")
        )
    head = _nifti_header(volume.geometry, *TYPES[array.dtype.name], offset=348 + len(tail)) + tail
    with written_whole(path) as temporary, open(temporary, "wb") as stream:
        if path.name.lower().endswith(".gz"):
            packer = zlib.compressobj(1, wbits=31)
            stream.write(packer.compress(head))
            for plane in nrrd.little_planes(array):
                stream.write(packer.compress(plane))
            stream.write(packer.flush())
        else:
            stream.write(head)
            for plane in nrrd.little_planes(array):
                stream.write(plane)


def _nifti_header(grid: Geometry, code: int, bits: int, offset: int) -> bytes:
    axes = np.asarray(grid.direction) * np.array([[-1.0], [-1.0], [1.0]])  # LPS to RAS
    spacing = np.asarray(grid.spacing_mm)[::-1]
    origin = np.asarray(grid.origin_mm) * (-1.0, -1.0, 1.0)
    handed = 1.0 if np.linalg.det(axes) > 0 else -1.0
    quaternion = _quaternion(axes * (1.0, 1.0, handed))
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *grid.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, code, bits)
    struct.pack_into("<8f", head, 76, handed, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, offset, 1.0, 0.0)
    head[123] = 2  # mm
    struct.pack_into("<2h", head, 252, 1, 1)
    struct.pack_into("<6f", head, 256, *quaternion, *origin)
    struct.pack_into("<12f", head, 280, *np.column_stack([axes * spacing, origin]).ravel())
    head[344:348] = b"n+1\0"
    return bytes(head)


def _quaternion(turn: np.ndarray) -> tuple[float, float, float]:
    """(b, c, d) of the unit quaternion with a >= 0 of a rotation, from its largest component."""
    trace = np.array([np.trace(turn), *np.diag(turn)])
    largest = int(np.argmax(trace))
    q = np.empty(4)
    if largest == 0:
        q[:] = (1 + trace[0], turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1])
    else:
        i = largest - 1
        j, k = (i + 1) % 3, (i + 2) % 3
        q[0] = turn[k, j] - turn[j, k]
        q[1 + i] = 1 + turn[i, i] - turn[j, j] - turn[k, k]
        q[1 + j] = turn[j, i] + turn[i, j]
        q[1 + k] = turn[k, i] + turn[i, k]
    q /= np.linalg.norm(q) * (1 if q[0] >= 0 else -1)
    return float(q[1]), float(q[2]), float(q[3])
