"""The few elements of a DICOM file that this package reads, and where its pixels lie; no other is looked at.

Written by PS3.5 (data elements, sequences, encapsulated pixels) and PS3.10 (the file). Values are skipped,
not read: a header takes no more memory than the elements of `WANTED`, and no length is believed beyond the
file.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

WANTED = {
    "media class": 0x00020002,
    "syntax": 0x00020010,
    "image type": 0x00080008,
    "class": 0x00080016,
    "uid": 0x00080018,
    "modality": 0x00080060,
    "series": 0x0020000E,
    "series number": 0x00200011,
    "acquisition": 0x00200012,
    "position": 0x00200032,
    "orientation": 0x00200037,
    "samples": 0x00280002,
    "frames": 0x00280008,
    "rows": 0x00280010,
    "columns": 0x00280011,
    "spacing": 0x00280030,
    "allocated": 0x00280100,
    "stored": 0x00280101,
    "high bit": 0x00280102,
    "signed": 0x00280103,
    "intercept": 0x00281052,
    "slope": 0x00281053,
    "lookup table": 0x00283000,
}
NAMES = {tag: name for name, tag in WANTED.items()}
PIXELS = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG_KINDS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
KINDS = LONG_KINDS | frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
MOST_VALUE_BYTES = 1024
MOST_ELEMENTS = 200_000
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
Order = Literal["<", ">"]


class Header(NamedTuple):
    """What was found up to the pixels, or up to the place where the file breaks: then `fault` says how.

    pixels: start and length of plain pixels, or of every fragment of packed ones (the first is their table);
    none where there are no pixels.
    """

    values: dict[str, bytes]
    order: Order
    packed: bool
    pixels: tuple[tuple[int, int], ...]
    fault: str

    def text(self, name: str) -> str:
        return self.values.get(name, b"").decode("latin-1").strip(" \0\t\r\n")

    def numbers(self, name: str) -> tuple[float, ...]:
        """The decimal numbers of an element, none where one of them cannot be read as one."""
        try:
            return tuple(float(word) for word in self.text(name).split("\\"))
        except ValueError:
            return ()

    def whole(self, name: str) -> int:
        """An unsigned short; -1 where it is missing."""
        value = self.values.get(name, b"")
        return struct.unpack(f"{self.order}H", value[:2])[0] if len(value) >= 2 else -1


class _Break(Exception):
    """The file ends, or makes no sense, before its header does."""


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does, with a preamble or without; a directory of a medium does not
    count.
    """
    with open(path, "rb") as stream:
        head = stream.read(152)
    start = _start_of(head)
    return start is not None and not (start and head[132:136] == b"\x04\0\x04\0")


def read_header(path: Path) -> Header | None:
    """The header of a DICOM file, None for a file that does not start as one."""
    with open(path, "rb") as stream:
        start = _start_of(stream.read(152))
        if start is None:
            return None
        return _Walk(stream, os.fstat(stream.fileno()).st_size).header(start)


def _start_of(head: bytes) -> int | None:
    """Where the first element stands: behind preamble and prefix, else at 0 if it can be the first of all."""
    if head[128:132] == b"DICM":
        return 132
    first = head[:4] in (b"\x02\0\0\0", b"\x02\0\x10\0")
    first |= (head[:2], head[3:4]) == (b"\x08\0", b"\0") or head[:3] == b"\0\x08\0"
    if len(head) < 8 or not first:
        return None
    return 0 if head[4:6] in KINDS or struct.unpack("<I", head[4:8])[0] <= 64 else None


class _Walk:
    """One pass over the elements of a file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size, self.left = stream, size, MOST_ELEMENTS
        self.order: Order = "<"
        self.values: dict[str, bytes] = {}

    def header(self, start: int) -> Header:
        packed, pixels, fault = False, (), ""
        try:
            packed, pixels = self._data_set(self._meta(start))
        except _Break as problem:
            fault = str(problem)
        return Header(self.values, self.order, packed, pixels, fault)

    def _meta(self, at: int) -> int:
        """Read the group of the file itself, always explicit and little-endian; returns where it ends."""
        while self._bytes(at, 2) == b"\x02\0":
            at = self._take(at, *self._element(at, True))
        return at

    def _data_set(self, at: int) -> tuple[bool, tuple[tuple[int, int], ...]]:
        syntax = self.values.get("syntax", b"").rstrip(b"\0 ").decode("latin-1")
        if syntax == DEFLATED:
            raise _Break("its header is deflated, which is not read")
        head = self._bytes(at, 6)
        self.order = ">" if syntax == BIG_ENDIAN or head[:2] == b"\0\x08" else "<"
        explicit = head[4:6] in KINDS  # what is written counts: headers without a syntax, or with a wrong one
        while at < self.size:
            tag, kind, start, length = self._element(at, explicit)
            if tag == 0:
                raise _Break("its header breaks off in zeros")
            if tag == PIXELS and length == UNDEFINED:
                return True, self._fragments(start)
            if tag == PIXELS:
                if length > self.size - start:
                    raise _Break("its pixel data is cut short")
                return False, ((start, length),)
            at = self._take(at, tag, kind, start, length, explicit)
        return False, ()

    def _take(self, at: int, tag: int, kind: bytes, start: int, length: int, explicit: bool = True) -> int:
        """Keep the value of an element where it is wanted; returns where the next one starts."""
        end = start + length
        if length == UNDEFINED:
            end = self._end_of(start, explicit and kind != b"UN")
        if end > self.size:
            raise _Break("cut short in its header")
        if tag in NAMES:
            self.values[NAMES[tag]] = self._bytes(start, min(end - start, MOST_VALUE_BYTES))
        return end

    def _element(self, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, kind (VR), first byte of the value and its length."""
        self.left -= 1
        if self.left < 0:
            raise _Break(f"its header has more than {MOST_ELEMENTS} elements")
        head = self._bytes(at, 12)
        if len(head) < 8:
            raise _Break("cut short in its header")
        group, number = struct.unpack(f"{self.order}HH", head[:4])
        tag, kind = group << 16 | number, head[4:6]
        if not explicit or group == 0xFFFE or kind not in KINDS:
            return tag, b"", at + 8, struct.unpack(f"{self.order}I", head[4:8])[0]
        if kind not in LONG_KINDS:
            return tag, kind, at + 8, struct.unpack(f"{self.order}H", head[6:8])[0]
        if len(head) < 12:
            raise _Break("cut short in its header")
        return tag, kind, at + 12, struct.unpack(f"{self.order}I", head[8:12])[0]

    def _end_of(self, at: int, explicit: bool) -> int:
        """The first byte behind a sequence of undefined length that starts there."""
        inside = [explicit]
        while inside:
            tag, kind, start, length = self._element(at, inside[-1])
            at = start
            if tag in (ITEM_END, SEQUENCE_END):
                inside.pop()
            elif length == UNDEFINED:
                inside.append(inside[-1] and kind != b"UN")
            else:
                at += length
            if at > self.size:
                raise _Break("cut short in its header")
        return at

    def _fragments(self, at: int) -> tuple[tuple[int, int], ...]:
        fragments = []
        while True:
            try:
                tag, _, start, length = self._element(at, False)
            except _Break as problem:
                raise _Break("its pixel data is cut short") from problem
            if tag == SEQUENCE_END:
                return tuple(fragments)
            if tag != ITEM or length > self.size - start:
                raise _Break("its pixel data is cut short")
            fragments.append((start, length))
            at = start + length

    def _bytes(self, at: int, n: int) -> bytes:
        self.stream.seek(at)
        return self.stream.read(n)
