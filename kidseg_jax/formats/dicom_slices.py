"""The images of a DICOM folder: where each lies, what tells it from others, whether its pixels are there.

Of a header only geometry, pixel format, UIDs and the numbers that tell series apart are read.
"""

from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kidseg_jax.formats.itk import quiet_itk

TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI"
PIXEL_DATA = b"\xe0\x7f\x10\x00"
PLAIN_SYNTAXES = {
    b"1.2.840.10008.1.2": PIXEL_DATA,
    b"1.2.840.10008.1.2.1": PIXEL_DATA,
    b"1.2.840.10008.1.2.2": b"\x7f\xe0\x00\x10",
}


class Slice(NamedTuple):
    """One image of a series: where it lies (LPS, mm) and what tells it from the others."""

    path: Path
    uid: str
    series_uid: str
    series_number: str
    acquisition: str
    sizes: tuple[int, int]
    bits: int
    spacing_mm: tuple[float, float]
    row: tuple[float, float, float]
    column: tuple[float, float, float]
    origin_mm: tuple[float, float, float]


def has_all_pixels(one: Slice) -> bool:
    """False for plain pixel data shorter than rows x columns: GDCM fills the rest with anything."""
    content = one.path.read_bytes()
    at = content.find(TRANSFER_SYNTAX, 132, 1000)
    syntax = content[at + 8 : at + 8 + int.from_bytes(content[at + 6 : at + 8], "little")].rstrip(b"\0 ")
    if at < 0 or syntax not in PLAIN_SYNTAXES:
        return True  # a decoder notices
    tag, needed = PLAIN_SYNTAXES[syntax], one.sizes[0] * one.sizes[1] * one.bits // 8
    order: Literal["little", "big"] = "little" if tag == PIXEL_DATA else "big"
    at = content.rfind(tag)
    while at >= 0:
        explicit = content[at + 4 : at + 6] in (b"OW", b"OB")
        start = at + (12 if explicit else 8)
        length = int.from_bytes(content[start - 4 : start], order)
        if length >= needed and start + needed <= len(content):
            return True
        at = content.rfind(tag, 0, at)
    return False


def scan(folder: Path) -> tuple[list[Slice], Counter]:
    """Every CT image of a folder, and what else was there, counted by kind."""
    itk = quiet_itk()
    slices, left_out = [], Counter()
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    for path in paths:
        if path.name.upper() == "DICOMDIR":
            continue
        image_io = itk.GDCMImageIO.New()
        if not image_io.CanReadFile(str(path)):
            left_out["files that are not DICOM"] += 1
            continue
        image_io.SetFileName(str(path))
        image_io.LoadPrivateTagsOff()
        try:
            image_io.ReadImageInformation()
        except RuntimeError:
            left_out["DICOM files that cannot be read"] += 1
            continue
        one = _slice(path, image_io)
        if isinstance(one, str):
            left_out[one] += 1
        else:
            slices.append(one)
    return slices, left_out


def _slice(path: Path, image_io: Any) -> Slice | str:
    """One image's place, or what it is instead."""
    held = image_io.GetMetaDataDictionary()

    def text(tag: str) -> str:
        return str(held[tag]).strip().strip("\0").strip() if held.HasKey(tag) else ""

    modality = text("0008|0060")
    if modality != "CT":
        return f"objects of modality {modality or '(none)'}"
    if "LOCALIZER" in text("0008|0008").upper():
        return "localisers"
    if int(text("0028|0008") or 1) > 1:
        return "multi-frame objects (convert them to single frames)"
    if image_io.GetNumberOfComponents() != 1:
        return "colour images"
    try:
        position, turn, spacing = (
            tuple(float(word) for word in text(tag).split("\\"))
            for tag in ("0020|0032", "0020|0037", "0028|0030")
        )
        sizes = (int(text("0028|0010")), int(text("0028|0011")))
        bits = int(text("0028|0100"))
    except ValueError:
        return "images without position, orientation or spacing"
    if len(position) != 3 or len(turn) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        return "images without position, orientation or spacing"
    return Slice(
        path=path,
        uid=text("0008|0018"),
        series_uid=text("0020|000e"),
        series_number=text("0020|0011"),
        acquisition=text("0020|0012"),
        sizes=sizes,
        bits=bits,
        spacing_mm=(spacing[0], spacing[1]),
        row=(turn[0], turn[1], turn[2]),
        column=(turn[3], turn[4], turn[5]),
        origin_mm=(position[0], position[1], position[2]),
    )
