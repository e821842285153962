"""The images of a DICOM folder and of those below it: where each lies, what tells it apart, what is wrong.

Of a header only geometry, pixel format, UIDs and the numbers that tell series apart are read. No link is
followed out of the folder, and nothing that a header or a DICOMDIR names.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kidseg_jax.formats.dicom_header import BIG_ENDIAN, Header, Order, read_header

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
MODALITIES = "CR DOC DX KO MG MR NM OT PR PT REG RF RTDOSE RTIMAGE RTPLAN RTSTRUCT SC SEG SM SR US XA XC"
PLAIN = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN)
PACKED = (
    "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
)
ENDINGS = (".dcm", ".dicom", ".ima")
NO_PLACE = "images without position, orientation or spacing"
NO_PIXELS = "it holds no pixel data"
RIGHT_ANGLE = 1e-2


class Slice(NamedTuple):
    """One image of a series: where it lies (LPS, mm), how its pixels are stored, what tells it apart.

    name: its path inside the folder. pixels: start and length of its pixels, or of every fragment of packed
    ones. rescale: slope and intercept to HU, None where the file has none.
    """

    path: Path
    name: str
    uid: str
    series_uid: str
    series_number: str
    acquisition: str
    sizes: tuple[int, int]
    spacing_mm: tuple[float, float]
    row: tuple[float, float, float]
    column: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    order: Order
    packed: bool
    pixels: tuple[tuple[int, int], ...]
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    rescale: tuple[float, float] | None


class Broken(NamedTuple):
    """A file that belongs, or may belong, to a CT series and cannot be read; series_uid is empty where it is
    not known.
    """

    name: str
    series_uid: str
    reason: str


class Other(NamedTuple):
    """An object that is no slice; stray: where slices of its series are, it should be one."""

    kind: str
    stray: bool


class Scan(NamedTuple):
    """What a folder holds: CT images, files that should be some, and what else was there, counted by kind."""

    slices: list[Slice]
    broken: list[Broken]
    left_out: Counter[str]


def scan(folder: Path) -> Scan:
    """Every CT image of a folder and of the folders below it, and what else is there."""
    scan = Scan([], [], Counter())
    others: list[tuple[str, str, Other]] = []
    foreign: list[tuple[Path, str]] = []
    root = folder.resolve()
    for path in walk(folder):
        name = str(path.relative_to(folder))
        if path.is_dir():
            scan.left_out["linked folders"] += 1
        elif path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(root)):
            scan.broken.append(Broken(name, "", "a link to no file of this folder, which is not followed"))
        elif not path.is_file():
            scan.left_out["pipes or devices"] += 1
        elif (header := read_header(path)) is None:
            foreign.append((path, name))
        elif DIRECTORY_CLASS not in (header.text("media class"), header.text("class")):
            one = slice_of(path, name, header)
            if isinstance(one, Slice):
                scan.slices.append(one)
            elif isinstance(one, Broken):
                scan.broken.append(one)
            else:
                others.append((name, header.text("series"), one))
    series = {one.series_uid for one in scan.slices}
    for name, series_uid, other in others:
        if other.stray and series_uid in series:
            scan.broken.append(Broken(name, series_uid, f"is one of the {other.kind}"))
        else:
            scan.left_out[other.kind] += 1
    shapes = {_shape(one.path) for one in scan.slices}
    for path, name in foreign:
        if path.suffix.lower() in ENDINGS or _shape(path) in shapes:
            scan.broken.append(Broken(name, "", "named like a slice, but no DICOM"))
        elif path.name.upper() != "DICOMDIR":
            scan.left_out["files that are not DICOM"] += 1
    return scan


def walk(folder: Path) -> list[Path]:
    """Every file of a folder and of those below it, sorted, and links to folders, which are not entered;
    hidden ones are passed over.
    """
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if Path(place, name).is_symlink()]
        paths += [Path(place, name) for name in sorted(names + links) if not name.startswith(".")]
    return paths


def _shape(path: Path) -> str:
    """A file's name with its numbers blotted out: the slices of a series share it."""
    return re.sub(r"[0-9a-f]{8,}|\d+", "#", path.name.lower())


def slice_of(path: Path, name: str, header: Header) -> Slice | Broken | Other:
    """One image's place and pixels, or what is wrong with it, or what it is instead."""
    modality, series_uid = header.text("modality"), header.text("series")
    sop_class = header.text("class") or header.text("media class")
    if modality != "CT" and (modality or sop_class not in ("", CT_CLASS)):
        known = modality if modality in MODALITIES.split() else "other than CT"
        if header.fault and modality and known != modality and not series_uid:
            return Broken(name, "", header.fault)
        return Other(f"objects of modality {known}", True)  # a series has one modality
    if "LOCALIZER" in header.text("image type").upper():
        return Other("localisers", False)
    if header.fault:
        return Broken(name, series_uid, header.fault)
    is_ct = sop_class in ("", CT_CLASS)
    frames = header.numbers("frames")
    if (frames and frames[0] > 1) or sop_class.startswith(f"{CT_CLASS}."):
        return Other("multi-frame objects (convert them to single frames)", True)
    if header.whole("samples") not in (-1, 1):
        return Other("colour images", is_ct)
    place = _place(header)
    if place is None and is_ct and not header.pixels:  # cut between two elements
        return Broken(name, series_uid, NO_PIXELS)
    if place is None:
        return Other(NO_PLACE, is_ct)
    position, turn, spacing = place
    one = Slice(
        path=path,
        name=name,
        uid=header.text("uid"),
        series_uid=series_uid,
        series_number=_number(header.text("series number")),
        acquisition=_number(header.text("acquisition")),
        sizes=(header.whole("rows"), header.whole("columns")),
        spacing_mm=(spacing[0], spacing[1]),
        row=(turn[0], turn[1], turn[2]),
        column=(turn[3], turn[4], turn[5]),
        origin_mm=(position[0], position[1], position[2]),
        order=header.order,
        packed=header.packed,
        pixels=header.pixels,
        allocated=header.whole("allocated"),
        stored=header.whole("stored"),
        high_bit=header.whole("high bit"),
        signed=header.whole("signed") == 1,
        rescale=_rescale(header),
    )
    reason = _wrong_pixels(one, header)
    return Broken(name, series_uid, reason) if reason else one


def _place(header: Header) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] | None:
    """Position, orientation and spacing of an image that has them all, its axes at a right angle."""
    position, turn, spacing = (header.numbers(name) for name in ("position", "orientation", "spacing"))
    if (len(position), len(turn), len(spacing)) != (3, 6, 2) or not np.isfinite(
        position + turn + spacing
    ).all():
        return None
    axes = np.array(turn).reshape(2, 3)
    if min(spacing) <= 0 or np.abs(axes @ axes.T - np.eye(2)).max() > RIGHT_ANGLE:
        return None
    return position, turn, spacing


def _number(text: str) -> str:
    """A number of a header as it stands; empty for any other word, which could be anything."""
    return text if re.fullmatch(r"[+-]?\d{1,12}", text) else ""


def _rescale(header: Header) -> tuple[float, float] | None:
    slope, intercept = header.numbers("slope"), header.numbers("intercept")
    return (slope[0], intercept[0]) if slope and intercept else None


def _wrong_pixels(one: Slice, header: Header) -> str:
    """Why the pixels of an image cannot be read to HU, empty where they can."""
    if not one.pixels:
        return NO_PIXELS
    if min(one.sizes) < 1:
        return "it does not say how many rows and columns it has"
    if one.allocated not in (8, 16, 32) or not 0 < one.stored <= one.high_bit + 1 <= one.allocated:
        return f"pixels of {one.stored} bits in {one.allocated}, up to bit {one.high_bit}, are not read"
    if one.order == ">" and one.allocated == 8:
        return "pixels of 8 bits in big-endian words are not read"
    if header.values.get("lookup table"):
        return "its values go through a lookup table, which is not read"
    if one.rescale and not (np.isfinite(one.rescale).all() and one.rescale[0]):
        return f"rescale slope and intercept must be finite and not zero, got {one.rescale}"
    syntax = header.text("syntax")
    if syntax not in (PACKED if one.packed else PLAIN):
        return "its pixels are stored in a way that is not read (transfer syntax)"
    if one.packed:
        return ""
    there, needed = one.pixels[0][1], one.sizes[0] * one.sizes[1] * one.allocated // 8
    if there < needed:
        return f"its pixel data is cut short: {there} of {needed} bytes"
    if there >= needed + one.sizes[1] * one.allocated // 8:
        return f"its pixel data holds {there} bytes, {one.sizes[0]} x {one.sizes[1]} pixels need {needed}"
    return ""
