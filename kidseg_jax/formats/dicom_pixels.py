"""The pixels of one DICOM image as HU, all of them: plain ones read here, packed ones by ITK's decoders.

A decoder fills what is missing with anything, so the end of a packed image, and the sizes that it names
itself, are looked at before one is asked.
"""

import struct
from itertools import pairwise

import numpy as np

from kidseg_jax.formats.dicom_slices import Slice
from kidseg_jax.formats.itk import quiet_itk
from kidseg_jax.formats.raw import require_room
from kidseg_jax.imaging.volume import as_int16

JPEG_START, JPEG_2000_START, END = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd9"
FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7))
RLE_HEADER_BYTES = 64
FRAME_BYTES = 16  # a pixel takes at most, while its slice is decoded and rescaled


def read_hu(where: str, one: Slice) -> np.ndarray:
    """Rows x columns in HU, int16, fractions rounded; ValueError, naming the file, where pixels are missing,
    broken or outside int16.
    """
    where = f"{where}: {one.name}"
    require_room(where, FRAME_BYTES * one.sizes[0] * one.sizes[1])
    values = _packed(where, one) if one.packed else _plain(where, one)
    return as_int16(where, values)


def _plain(where: str, one: Slice) -> np.ndarray:
    """Pixels as they stand in the file, cut to the bits that count, rescaled."""
    dtype = np.dtype(f"{one.order}u{one.allocated // 8}")
    n = one.sizes[0] * one.sizes[1]
    with open(one.path, "rb") as stream:
        stream.seek(one.pixels[0][0])
        content = stream.read(n * dtype.itemsize)
    if len(content) < n * dtype.itemsize:
        raise ValueError(f"{where}: its pixel data is cut short")
    values = (
        np.frombuffer(content, dtype).reshape(one.sizes).astype(np.int64 if one.allocated == 32 else np.int32)
    )
    values >>= one.high_bit + 1 - one.stored
    values &= (1 << one.stored) - 1
    if one.signed:
        values -= (values & 1 << one.stored - 1) << 1
    slope, intercept = one.rescale or (1.0, 0.0)
    if slope.is_integer() and intercept.is_integer() and max(abs(slope), abs(intercept)) < 2**14:
        return values * int(slope) + int(intercept)
    return values * slope + intercept


def _packed(where: str, one: Slice) -> np.ndarray:
    """Pixels through ITK, which rescales them itself."""
    _require_whole(where, one)
    itk = quiet_itk()
    image_io = itk.GDCMImageIO.New()
    image_io.SetFileName(str(one.path))
    try:
        image_io.ReadImageInformation()
        rescale = image_io.GetRescaleSlope(), image_io.GetRescaleIntercept()
        if rescale != (one.rescale or (1.0, 0.0)):
            raise ValueError(f"{where}: its decoder does not rescale its values to HU")
        kind = image_io.GetComponentTypeAsString(image_io.GetComponentType())
        pixel = itk.SS if kind in ("short", "char", "unsigned_char") else itk.F
        reader = itk.ImageFileReader[itk.Image[pixel, 2]].New()
        reader.SetFileName(str(one.path))
        reader.SetImageIO(image_io)
        reader.Update()
    except RuntimeError as error:
        raise ValueError(f"{where}: its packed pixels cannot be decoded") from error
    pixels = itk.array_from_image(reader.GetOutput())
    if pixels.shape != one.sizes:
        raise ValueError(f"{where}: decoded to {pixels.shape}, its header says {one.sizes}")
    return pixels


def _require_whole(where: str, one: Slice) -> None:
    """Raises ValueError unless the packed pixels have the sizes of the header and reach their own end."""
    with open(one.path, "rb") as stream:
        content = b""
        for start, length in one.pixels[1:]:
            stream.seek(start)
            content += stream.read(length)
    if content.startswith((JPEG_START, JPEG_2000_START)):
        whole, sizes = content.rstrip(b"\0").endswith(END), _sizes(content)
    else:
        unpacked, sizes = _rle_bytes(content), one.sizes
        whole = len(unpacked) == one.allocated // 8 and min(unpacked) >= sizes[0] * sizes[1]

    if not whole:
        raise ValueError(f"{where}: its pixel data is cut short")
    if sizes != one.sizes:
        raise ValueError(
            f"{where}: its packed pixels are {sizes[0]} x {sizes[1]}, its header says {one.sizes}"
        )


def _sizes(content: bytes) -> tuple[int, int]:
    """Rows and columns as a JPEG, JPEG-LS or JPEG 2000 stream of one component names them, else zeros."""
    if content.startswith(JPEG_2000_START):
        if len(content) < 42 or content[40:42] != b"\0\1":
            return 0, 0
        right, bottom, left, top = struct.unpack(">IIII", content[8:24])
        return bottom - top, right - left
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in FRAMES and content[at + 9 : at + 10] == b"\1":
            rows, columns = struct.unpack(">HH", content[at + 5 : at + 9])
            return rows, columns
        at += 1 if content[at + 1] == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return 0, 0


def _rle_bytes(content: bytes) -> list[int]:
    """How many bytes each segment of a run-length stream unpacks to (PS3.5, annex G)."""
    if len(content) < RLE_HEADER_BYTES:
        return []
    n, *starts = struct.unpack("<16I", content[:RLE_HEADER_BYTES])
    sizes = []
    for at, end in pairwise([*starts[: min(n, 15)], len(content)]):
        total, end = 0, min(end, len(content))
        while at < end:
            count = content[at]
            if count > 128:
                total += 257 - count if at + 1 < end else 0
                at += 2
            else:
                copied = count + 1 if count < 128 else 0
                total += min(copied, end - at - 1)
                at += 1 + copied
        sizes.append(total)
    return sizes
