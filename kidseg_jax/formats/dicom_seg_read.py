"""DICOM SEG: each frame laid where its own position and axes say, in the grid of the CT."""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kidseg_jax.formats.dicom_opened import Refused, Regions, opened
from kidseg_jax.formats.raw import require_room
from kidseg_jax.imaging.volume import Geometry, Mask

TAGS = [
    "SegmentationType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
]
OFF_GRID = 0.05  # voxels


class Frame(NamedTuple):
    """Where pixel (0, 0) of a frame lies in voxels (z, y, x), and the steps to the next row and column."""

    start: np.ndarray
    row: np.ndarray
    column: np.ndarray


def read_seg(path: Path, grid: Geometry) -> Regions:
    """The segments of a BINARY, FRACTIONAL (from one half on) or LABELMAP segmentation."""
    with opened(path, TAGS) as data:
        kind = str(data.SegmentationType)
        if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise Refused("its segmentation type is none of BINARY, FRACTIONAL and LABELMAP")
        n = int(data.get("NumberOfFrames") or 1)
        require_room(path.name, n * int(data.Rows) * int(data.Columns))
        pixels = data.pixel_array.reshape(n, data.Rows, data.Columns)
        frames, numbers = _frames(data, n, grid, kind != "LABELMAP")
        named = data.SegmentSequence
        segments = [(int(one.SegmentNumber), str(one.get("SegmentLabel", ""))) for one in named]
        segments = [one for one in segments if one[0]]  # 0 is the background of a label map
        half = int(data.get("MaximumFractionalValue") or 1) / 2 if kind == "FRACTIONAL" else 0.5
    of: dict[int, list[int]] = defaultdict(list)
    for at, number in enumerate(numbers):
        of[number].append(at)

    def mask(number: int) -> Mask:
        require_room(path.name, int(np.prod(grid.shape)))
        drawn = np.zeros(grid.shape, bool)
        value = segments[number][0]
        for at in range(n) if kind == "LABELMAP" else of[value]:
            inside = pixels[at] == value if kind == "LABELMAP" else pixels[at] >= half
            _lay(path.name, drawn, inside, frames[at])
        return drawn

    notes = ("fractions from one half on are taken as inside",) if kind == "FRACTIONAL" else ()
    return Regions(tuple(name for _, name in segments), mask, notes)


def _frames(data: Any, n: int, grid: Geometry, numbered: bool) -> tuple[list[Frame], list[int]]:
    """Where each frame lies, and the segment that it belongs to (0 in a label map)."""
    shared = data.get("SharedFunctionalGroupsSequence") or [{}]
    own = data.PerFrameFunctionalGroupsSequence
    if len(own) != n:
        raise Refused(f"it has {n} frames, {len(own)} of them have a place")

    def group(one: Any, name: str) -> Any:
        found: Any = one.get(name) or shared[0].get(name)
        return found[0]

    frames, numbers = [], []
    for one in own:
        axes = np.array(group(one, "PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
        spacing = np.array(group(one, "PixelMeasuresSequence").PixelSpacing, float)
        place = np.array(group(one, "PlanePositionSequence").ImagePositionPatient, float)
        ends = np.array([place, place + spacing[0] * axes[1], place + spacing[1] * axes[0]])
        if not np.isfinite(ends).all():
            raise Refused("a frame has no place")
        start, row, column = grid.to_index(ends)
        frames.append(_snapped(Frame(start, row - start, column - start), (data.Rows, data.Columns)))
        numbers.append(
            int(group(one, "SegmentIdentificationSequence").ReferencedSegmentNumber) if numbered else 0
        )
    return frames, numbers


def _snapped(frame: Frame, sizes: tuple[int, int]) -> Frame:
    """The frame on whole voxels; `Refused` where a corner of it lies off them."""
    whole = Frame(*(np.rint(part).astype(int) for part in frame))
    steps = np.abs([whole.row, whole.column])
    start, row, column = (part - other for part, other in zip(frame, whole, strict=True))
    rows, columns = sizes[0] - 1, sizes[1] - 1
    off = max(float(np.abs(start + r * row + c * column).max()) for r in (0, rows) for c in (0, columns))
    if off > OFF_GRID or (steps.sum(1) != 1).any() or (steps.sum(0) > 1).any():
        raise Refused(f"its voxels must be those of the CT, they are off by {off:.2f} of one")
    return whole


def _lay(where: str, drawn: Mask, inside: Mask, frame: Frame) -> None:
    """Add the pixels of a frame to a mask; ValueError where one lies outside."""
    if not inside.any():
        return
    rows, columns = np.nonzero(inside)
    voxels = frame.start + rows[:, None] * frame.row + columns[:, None] * frame.column
    if (voxels < 0).any() or (voxels >= drawn.shape).any():
        raise ValueError(f"{where}: its voxels must lie inside the CT, some do not")
    drawn[tuple(voxels.T)] = True
