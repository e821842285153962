"""MetaImage files (.mha, .mhd): the checks that ITK leaves out, and a writer that needs no ITK."""

import zlib
from pathlib import Path

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.formats.nrrd import little_planes
from kidseg_jax.imaging.volume import Volume

TYPES = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "float32": "MET_FLOAT", "uint16": "MET_USHORT"}
BYTES = {
    **dict.fromkeys(("MET_UCHAR", "MET_CHAR"), 1),
    **dict.fromkeys(("MET_USHORT", "MET_SHORT"), 2),
    **dict.fromkeys(("MET_UINT", "MET_INT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_ULONG_LONG", "MET_LONG_LONG", "MET_DOUBLE", "MET_ULONG", "MET_LONG"), 8),
}
LONGEST_HEADER = 1 << 16


def check_header(path: Path) -> None:
    """Raises ValueError unless a .mha or .mhd header states one 3-D volume, its spacing, and no more data
    than there is.
    """
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
    try:
        sizes = [int(word) for word in fields["DimSize"].split()]
        spacing = [float(w) for w in fields.get("ElementSpacing", fields.get("ElementSize", "")).split()]
        packed = int(fields.get("CompressedDataSize", "0"))
    except ValueError as error:
        raise ValueError(f"{where}: DimSize and ElementSpacing must be numbers") from error
    if (
        fields["NDims"] not in ("3", "4")
        or len(sizes) != int(fields["NDims"])
        or min(sizes) < 1
        or sizes[3:] > [1]
    ):
        raise ValueError(f"{where}: need one 3-D volume, got sizes {sizes}")
    if int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise ValueError(f"{where}: need one value a voxel, got {fields['ElementNumberOfChannels']}")
    if len(spacing) < 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"{where}: spacing must be three positive numbers, got {spacing}")
    kind = fields["ElementType"]
    if kind not in BYTES:
        raise ValueError(f"{where}: voxels must be plain numbers, got {kind}")
    compressed = fields.get("CompressedData", "False").lower() == "true"
    needed = packed if compressed else int(np.prod(sizes)) * BYTES[kind]
    if fields["ElementDataFile"].upper() == "LOCAL":
        there = path.stat().st_size - end
    else:
        data = path.parent / fields["ElementDataFile"]
        if data.name != fields["ElementDataFile"] or not data.is_file():
            raise ValueError(f"{where}: its data file {fields['ElementDataFile']!r} must lie beside it")
        there = data.stat().st_size
    if there < needed:
        raise ValueError(f"{where}: cut short: the header claims {needed} bytes of data, there are {there}")


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
