"""NRRD headers as text, and the voxels behind them or beside them: read and written without ITK."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.raw import Packing, Stored, beside, check_length, read_stored, require_plain
from kidseg_jax.imaging.volume import Geometry, Volume

SPACES = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
VOXELS = {
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int"), "i8"),
    **dict.fromkeys(("signed long long", "signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(
        ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"
    ),
    "float": "f4",
    "double": "f8",
}
NAMES = {"uint8": "unsigned char", "int16": "short", "float32": "float", "uint16": "unsigned short"}
PACKINGS: dict[str, Packing] = {
    "raw": "raw",
    **dict.fromkeys(("gzip", "gz"), "gzip"),
    **dict.fromkeys(("bzip2", "bz2"), "bzip2"),
    **dict.fromkeys(("ascii", "text", "txt"), "text"),
}
UNITS_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1000.0),
}
LONGEST_HEADER = 1 << 20


def split_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields (`name: value`) and keys (`name:=value`) of a NRRD header, and where its data start.

    Field names are in lower case. Raises ValueError for a file that does not start with NRRD or whose header
    has no end within 1 MiB.
    """
    require_plain(path)
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
        raise ValueError(
            f"{where}: dimension and sizes must be whole numbers, got sizes {text!r:.80}"
        ) from error
    if len(sizes) != dimension or not sizes or min(sizes) < 1:
        raise ValueError(f"{where}: need {dimension} sizes of at least 1, got {text!r:.80}")
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
        raise ValueError(
            f"{where}: need one 3-D volume of one value a voxel, got sizes {sizes!s:.80} {kinds!s:.80}"
        )
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
        raise ValueError(f"{where}: need three vectors of three numbers, got {text!r:.80}") from error
    if vectors.ndim != 2 or vectors.shape[1] != 3:
        raise ValueError(f"{where}: need vectors of three numbers, got {text!r:.80}")
    return vectors


def read_nrrd(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (z, y, x) and the grid of a file with one scalar volume, in itself or in a file beside it.

    Raises ValueError for what cannot be read without guessing, a cut or broken stream, and anything behind
    the voxels.
    """
    fields, start = split_header(path)
    require_one_volume(path.name, fields)
    grid = grid_of_fields(path.name, fields)
    return read_voxels(path, fields, start), grid


def read_voxels(path: Path, fields: dict[str, str], start: int) -> np.ndarray:
    """The voxels of a file, slowest axis first; fields and start as `split_header` gives them.

    Raises ValueError as `read_nrrd` does, and for an encoding other than raw, gzip, bzip2 and text.
    """
    where = path.name
    kind, endian = fields.get("type", ""), fields.get("endian", "").lower()
    if kind not in VOXELS:
        raise ValueError(f"{where}: voxels must be plain numbers, got type {kind!r:.80}")
    packing = PACKINGS.get(fields.get("encoding", "").lower())
    if packing is None:
        raise ValueError(
            f"{where}: encoding must be one of {', '.join(PACKINGS)}, got {fields.get('encoding')!r:.80}"
        )
    if endian not in ("little", "big") and VOXELS[kind][1] != "1" and packing != "text":
        raise ValueError(f"{where}: endian must be little or big, got {endian!r:.80}")
    dtype = np.dtype((">" if endian == "big" else "<") + VOXELS[kind])
    name = fields.get("data file", fields.get("datafile"))
    data = path if name is None else beside(path, name)
    stored = Stored(data, sizes_of(where, fields), dtype, packing, start if name is None else 0)
    stored = _after_skips(where, fields, stored)
    check_length(stored)
    return read_stored(stored, alone=True)


def _after_skips(where: str, fields: dict[str, str], stored: Stored) -> Stored:
    """The same voxels behind the lines and bytes to skip; -1 bytes: at the end of the file."""
    texts = [fields.get(f"{unit} skip", fields.get(f"{unit}skip", "0")) for unit in ("line", "byte")]
    try:
        n_lines, n_bytes = map(int, texts)
        if not 0 <= n_lines <= LONGEST_HEADER or n_bytes < -1 or (n_bytes == -1 and stored.packing != "raw"):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{where}: line skip and byte skip must be whole numbers, got {texts!s:.80}"
        ) from None
    if n_lines:
        with open(stored.path, "rb") as stream:
            stream.seek(stored.start)
            for _ in range(n_lines):
                if len(stream.readline(LONGEST_HEADER)) == LONGEST_HEADER:
                    raise ValueError(f"{where}: a line to skip must be shorter than {LONGEST_HEADER} bytes")
            stored = replace(stored, start=stream.tell())
    if n_bytes == -1:
        return replace(stored, start=max(stored.path.stat().st_size - stored.n_bytes, stored.start))
    return replace(stored, skipped=n_bytes)


def grid_of_fields(where: str, fields: dict[str, str]) -> Grid:
    """The grid of the three axes of space, in LPS mm."""
    space = fields.get("space", "").lower()
    if space not in SPACES or "space directions" not in fields:
        raise ValueError(
            f"{where}: need a space such as left-posterior-superior and directions, got {space!r:.80}"
        )
    signs, unit_mm = np.array(SPACES[space]), _units_mm(where, fields)
    steps = vectors_of(where, fields["space directions"]) * unit_mm
    if len(steps) != 3:
        raise ValueError(f"{where}: need three space directions, got {len(steps)}")
    origin = vectors_of(where, fields.get("space origin", "(0,0,0)"))[0] * unit_mm
    lists = list_axes(where, fields)
    sizes = tuple(n for axis, n in enumerate(sizes_of(where, fields)) if axis not in lists)
    grid = grid_of(where, sizes, (steps * signs).T, origin * signs)
    if (unit_mm == 1).all():
        return grid
    return Grid(grid.geometry, (f"lengths are stored in {fields['space units']}: converted", *grid.notes))


def list_axes(where: str, fields: dict[str, str]) -> tuple[int, ...]:
    """The axes, fastest first, that lie in no direction of space: layers of a segmentation.

    Raises ValueError unless `space directions` has one entry an axis, `none` for just those that kinds, where
    it is stored, calls no domain.
    """
    n = len(sizes_of(where, fields))
    words = fields.get("space directions", "").replace(", ", ",").split()
    kinds = fields.get("kinds", "").split() or ["list" if word == "none" else "domain" for word in words]
    lists = tuple(axis for axis, word in enumerate(words) if word == "none")
    flat = tuple(axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "???", "none"))
    if len(words) != n or len(kinds) != n or (flat and flat != lists):
        raise ValueError(f"{where}: space directions {words!s:.80} and kinds {kinds!s:.80} must fit {n} axes")
    return lists


def _units_mm(where: str, fields: dict[str, str]) -> np.ndarray:
    """Millimetres in a unit of each axis of space, (3,); ValueError for units that are no lengths."""
    words = fields.get("space units", '"mm" "mm" "mm"').replace('"', " ").split()
    units = [UNITS_MM.get(word.lower() if len(word) > 2 else word) for word in words]
    if len(units) != 3 or None in units:
        raise ValueError(
            f"{where}: space units must be three lengths such as mm, got {' '.join(words)!r:.80}"
        )
    return np.array(units, float)


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
