"""MetaImage files (.mha, .mhd), read and written without ITK."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.nrrd import little_planes
from kidseg_jax.formats.raw import Stored, beside, check_length, read_stored
from kidseg_jax.imaging.volume import Volume

TYPES = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "float32": "MET_FLOAT", "uint16": "MET_USHORT"}
VOXELS = {
    **{"MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2"},
    **{"MET_UINT": "u4", "MET_INT": "i4", "MET_ULONG": "u4", "MET_LONG": "i4", "MET_FLOAT": "f4"},
    **{"MET_ULONG_LONG": "u8", "MET_LONG_LONG": "i8", "MET_DOUBLE": "f8"},
}
UNITS_MM = {"mm": 1.0, "um": 1e-3, "cm": 10.0, "?": 1.0}
LONGEST_HEADER = 1 << 16


def read_meta(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (z, y, x) and the grid of a .mha or .mhd file with one scalar volume, plain, in zlib or as text.

    Raises ValueError for what cannot be read without guessing, for less data than the header claims, and for
    a zlib stream that is cut or broken. Source: Insight Software Consortium, MetaIO documentation.
    """
    where = path.name
    fields, end = split_header(path)
    sizes = sizes_of(where, fields)
    kind = fields["ElementType"]
    if kind not in VOXELS:
        raise ValueError(f"{where}: voxels must be plain numbers, got {kind:.80}")
    if _number(where, fields, "ElementNumberOfChannels", 1) != 1:
        raise ValueError(f"{where}: need one value a voxel, got {fields['ElementNumberOfChannels']}")
    for name, plain in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if _number(where, fields, name, plain) != plain:
            raise ValueError(f"{where}: voxels with {name} {fields[name]} are not read")
    big = any(_is_true(fields, name) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    dtype = np.dtype((">" if big else "<") + VOXELS[kind])
    packing = "zlib" if _is_true(fields, "CompressedData") else "raw"
    if fields.get("BinaryData", "True").lower() == "false":
        packing = "text"
    name = fields["ElementDataFile"]
    own = name.upper() == "LOCAL"
    stored = Stored(path if own else beside(path, name), sizes, dtype, packing, end if own else 0)
    before = int(_number(where, fields, "HeaderSize", 0))
    if before == -1 and packing == "raw":
        stored = replace(stored, start=max(stored.path.stat().st_size - stored.n_bytes, stored.start))
    elif before < 0:
        raise ValueError(f"{where}: HeaderSize must be -1 or more, got {before}")
    else:
        stored = replace(stored, start=stored.start + before)
    grid = _grid(where, fields, sizes)
    check_length(stored)
    return read_stored(stored, alone=True), grid


def split_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a MetaImage header and the offset of the first byte behind it."""
    where = path.name
    with open(path, "rb") as stream:
        head = stream.read(LONGEST_HEADER)
    fields: dict[str, str] = {}
    end = 0
    for line in head.split(b"\n"):
        end += len(line) + 1
        key, found, value = line.decode("utf-8", errors="replace").partition("=")
        if not found:
            break
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    missing = {"NDims", "DimSize", "ElementType", "ElementDataFile"} - set(fields)
    if missing:
        raise ValueError(f"{where}: not a MetaImage file, its header lacks {', '.join(sorted(missing))}")
    return fields, end


def sizes_of(where: str, fields: dict[str, str]) -> tuple[int, int, int]:
    """Voxels of the one volume that a header claims, fastest axis first."""
    try:
        n, sizes = int(fields["NDims"]), [int(word) for word in fields["DimSize"].split()]
    except ValueError as error:
        raise ValueError(f"{where}: NDims and DimSize must be whole numbers") from error
    if n not in (3, 4) or len(sizes) != n or min(sizes) < 1 or sizes[3:] not in ([], [1]):
        raise ValueError(f"{where}: need one 3-D volume, got sizes {sizes!s:.80}")
    return sizes[0], sizes[1], sizes[2]


def _grid(where: str, fields: dict[str, str], sizes: tuple[int, int, int]) -> Grid:
    """The grid in LPS: a row of the matrix is the direction of an index axis."""
    unit = fields.get("DistanceUnits", "mm")
    if unit not in UNITS_MM:
        raise ValueError(f"{where}: DistanceUnits must be one of {', '.join(UNITS_MM)}, got {unit!r:.80}")
    n = int(fields["NDims"])
    spacing = _numbers(where, fields, ("ElementSpacing", "ElementSize"), n, None)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"{where}: spacing must be {n} positive numbers, got {spacing.tolist()}")
    matrix = _numbers(where, fields, ("TransformMatrix", "Rotation", "Orientation"), n * n, np.eye(n).ravel())
    origin = _numbers(where, fields, ("Offset", "Position", "Origin"), n, np.zeros(n))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        steps = matrix.reshape(n, n)[:3, :3].T * (spacing[:3] * UNITS_MM[unit])
    return grid_of(where, sizes, steps, origin[:3] * UNITS_MM[unit])


def _numbers(
    where: str, fields: dict[str, str], names: tuple[str, ...], n: int, default: np.ndarray | None
) -> np.ndarray:
    """The n numbers of the first of these fields that is there."""
    text = next((fields[name] for name in names if name in fields), None)
    if text is None and default is not None:
        return default
    try:
        values = np.array([float(word) for word in (text or "").split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) != n:
        what = "spacing" if names[0] == "ElementSpacing" else names[0]
        raise ValueError(f"{where}: {what} must be {n} numbers, got {text!r:.80}")
    return values


def _number(where: str, fields: dict[str, str], name: str, default: float) -> float:
    return float(_numbers(where, fields, (name,), 1, np.array([default]))[0])


def _is_true(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "False").lower() in ("true", "1", "t", "yes")


def write_meta(path: Path, volume: Volume) -> None:
    """Write .mha, compressed, with the grid in LPS."""
    array = volume.array
    if array.dtype.name not in TYPES:
        raise TypeError(f"{path.name}: voxels must be one of {', '.join(TYPES)}, got {array.dtype}")
    packer = zlib.compressobj(1)
    packed = b"".join([*(packer.compress(plane) for plane in little_planes(array)), packer.flush()])
    grid = volume.geometry
    columns = np.asarray(grid.direction).T.ravel()
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(packed)),
        "TransformMatrix": " ".join(repr(float(v)) for v in columns),
        "Offset": " ".join(repr(float(v)) for v in grid.origin_mm),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": " ".join(repr(float(v)) for v in grid.spacing_mm[::-1]),
        "DimSize": " ".join(str(n) for n in grid.shape[::-1]),
        "ElementType": TYPES[array.dtype.name],
        "ElementDataFile": "LOCAL",
    }
    with written_whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write("".join(f"{key} = {value}\n" for key, value in lines.items()).encode())
        stream.write(packed)
