"""NRRD headers and plain .nrrd files: the fields as text, and a writer that needs no ITK."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kidseg_jax.imaging.files import written_whole
from kidseg_jax.imaging.volume import Geometry, Volume

NAMES = {"uint8": "unsigned char", "int16": "short", "float32": "float", "uint16": "unsigned short"}
LONGEST_HEADER = 1 << 20


def read_fields(path: Path) -> dict[str, str]:
    """The fields (`name: value`) and keys (`name:=value`) of a NRRD header; field names in lower case.

    Raises ValueError for a file that does not start with NRRD or whose header has no end within 1 MiB.
    """
    return split_header(path)[0]


def split_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a NRRD header and the offset of the first data byte."""
    with open(path, "rb") as stream:
        head = stream.read(LONGEST_HEADER)
    if not head.startswith(b"NRRD000"):
        raise ValueError(f"{path.name}: not a NRRD file: it does not start with NRRD")
    ends = [(head.find(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n")]
    ends = [(at, length) for at, length in ends if at >= 0]
    if not ends and len(head) == LONGEST_HEADER:
        raise ValueError(f"{path.name}: a NRRD header must end within {LONGEST_HEADER} bytes")
    end, length = min(ends, default=(len(head), 0))
    fields: dict[str, str] = {}
    for line in head[:end].decode("utf-8", errors="replace").splitlines()[1:]:
        if line.startswith("#") or not line.strip():
            continue
        key, found, value = line.partition(":=")
        if found:
            fields[key] = value
            continue
        name, found, value = line.partition(":")
        if not found:
            raise ValueError(f"{path.name}: the NRRD header has a line with neither ':' nor ':='")
        fields[name.strip().lower()] = value.strip()
    return fields, end + length


def sizes_of(where: str, fields: dict[str, str]) -> tuple[int, ...]:
    """The sizes, fastest axis first; ValueError unless they are whole numbers of at least 1, one for each
    dimension.
    """
    text = fields.get("sizes", "")
    try:
        sizes = tuple(int(word) for word in text.split())
        dimension = int(fields.get("dimension", ""))
    except ValueError as error:
        raise ValueError(f"{where}: dimension and sizes must be whole numbers, got sizes {text!r}") from error
    if len(sizes) != dimension or not sizes or min(sizes) < 1:
        raise ValueError(f"{where}: need {dimension} sizes of at least 1, got {text!r}")
    return sizes


def require_one_volume(where: str, fields: dict[str, str]) -> None:
    """Raises ValueError unless the header describes one 3-D volume of one value a voxel that says where it
    lies.
    """
    sizes = sizes_of(where, fields)
    kinds = fields.get("kinds", "").split()
    if len(sizes) != 3 or any(
        kind in ("list", "vector", "RGB-color", "RGBA-color", "time") for kind in kinds
    ):
        raise ValueError(f"{where}: need one 3-D volume of one value a voxel, got sizes {sizes} {kinds}")
    if "space directions" not in fields:
        raise ValueError(f"{where}: no orientation is stored: 'space directions' is missing")
    vectors_of(where, fields["space directions"])
    if "space" not in fields:
        raise ValueError(f"{where}: no orientation is stored: 'space' is missing")


def vectors_of(where: str, text: str) -> np.ndarray:
    """The vectors of a field such as `(1,0,0) (0,1,0) (0,0,1)` as rows; `none` is left out."""
    rows = [word.strip("()").split(",") for word in text.replace(", ", ",").split() if word != "none"]
    try:
        vectors = np.array([[float(value) for value in row] for row in rows], float)
    except ValueError as error:
        raise ValueError(f"{where}: need three vectors of three numbers, got {text!r}") from error
    if vectors.ndim != 2 or vectors.shape[1] != 3:
        raise ValueError(f"{where}: need vectors of three numbers, got {text!r}")
    return vectors


def geometry_fields(geometry: Geometry) -> list[str]:
    """The lines of a NRRD header that say where a 3-D grid lies, in LPS."""
    axes = np.asarray(geometry.direction) * np.asarray(geometry.spacing_mm)[::-1]
    vectors = " ".join("(" + ",".join(repr(float(v)) for v in axes[:, j]) + ")" for j in range(3))
    origin = ",".join(repr(float(v)) for v in geometry.origin_mm)
    return [
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(n) for n in geometry.shape[::-1]),
        f"space directions: {vectors}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: ({origin})",
    ]


def write_nrrd(path: Path, volume: Volume, keys: dict[str, str] | None = None) -> None:
    """Write a volume as a gzip NRRD file, whole or not at all; `keys` become `name:=value` lines."""
    array = volume.array
    if array.dtype.name not in NAMES:
        raise TypeError(f"write_nrrd: voxels must be {', '.join(NAMES)}, got {array.dtype}")
    lines = [
        "NRRD0004",
        f"type: {NAMES[array.dtype.name]}",
        "dimension: 3",
        *geometry_fields(volume.geometry),
    ]
    lines += [f"{key}:={value}" for key, value in (keys or {}).items()]
    with written_whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write(("\n".join(lines) + "\n\n").encode())
        write_gzip(stream, array)


def write_gzip(stream: BinaryIO, array: np.ndarray, level: int = 1) -> None:
    """Append the voxels as one gzip member, little endian, x fastest, with no time stamp; slices are copied
    one by one.
    """
    packer = zlib.compressobj(level, wbits=31)
    for plane in little_planes(array):
        stream.write(packer.compress(plane))
    stream.write(packer.flush())


def little_planes(array: np.ndarray) -> Iterator[bytes]:
    """The voxels slice by slice as little-endian bytes, so that no more than a slice is ever copied."""
    little = array.dtype.newbyteorder("<")
    return (np.ascontiguousarray(plane, dtype=little).tobytes() for plane in array)
