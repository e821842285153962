"""NIfTI-1 headers: what a file claims, whether that can be true, and the one grid it describes."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.raw import Stored, check_length, first_bytes, packing_of, read_stored, require_room

Orientation = Literal["sform", "qform", "pixdim"]
HEADER_BYTES = 348
NAME_IT = "in predict and info, --orientation"
FORM_TOLERANCE_VOXELS = 0.1
HALF_TURN = 1e-7  # below this 1 - b2 - c2 - d2 is rounding of float32, as the standard's own code has it
TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI-1 header that say what the voxels are and where they lie (x, y, z order, RAS as
    stored).
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    pixdim: tuple[float, ...]
    data_offset: int
    slope: float
    intercept: float
    unit_mm: float
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    q_offset: tuple[float, ...]
    s_rows: tuple[float, ...]

    @property
    def scaled(self) -> bool:
        """Stored values are not yet the voxel values; slope 0 (the standard) and nan (nibabel) mean no
        scaling.
        """
        return not (self.slope == 0 or np.isnan(self.slope)) and (self.slope, self.intercept) != (1.0, 0.0)

    def stored(self, path: Path) -> Stored:
        """Where the voxels of the file lie that this is the header of."""
        return Stored(path, self.sizes, self.dtype, packing_of(path), skipped=self.data_offset)


def read_header(path: Path) -> Header:
    """The header of a .nii or .nii.gz file, checked against the length of the file.

    Raises ValueError for what is no NIfTI-1 single file, for sizes below 1, more than one volume, a voxel
    type that is no plain number, a slope that is not finite, and for a file shorter than its header claims
    (cut, or a lie).
    """
    where = path.name
    if packing_of(path) == "gzip" and not path.name.lower().endswith(".gz"):
        raise ValueError(f"{where}: holds gzip data, need the ending .nii.gz")
    raw = first_bytes(path, HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        raise ValueError(f"{where}: not a NIfTI file, need a header of {HEADER_BYTES} bytes, got {len(raw)}")
    order = next((o for o in "<>" if struct.unpack_from(o + "i", raw)[0] == HEADER_BYTES), None)
    if order is None or raw[344:347] != b"n+1":
        second = any(struct.unpack_from(o + "i", raw)[0] == 540 for o in "<>")
        raise ValueError(f"{where}: not a NIfTI-1 file" + (", NIfTI-2 is not read" if second else ""))
    header = _parse(where, raw, order)
    if header.scaled:
        require_room(where, math.prod(header.sizes) * max(header.dtype.itemsize, 4))
    check_length(header.stored(path))
    return header


def read_voxels(path: Path, header: Header) -> np.ndarray:
    """The voxels (z, y, x) of a file whose header was read, scaled as it says; float where they are scaled.

    Raises ValueError where the file is cut or its gzip stream broken.
    """
    voxels = read_stored(header.stored(path))
    if header.scaled:
        small = voxels.dtype.itemsize <= 2 or voxels.dtype == np.float32
        voxels = voxels.astype(np.float32 if small else np.float64, copy=voxels.dtype.kind != "f")
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            voxels *= header.slope
            voxels += header.intercept
    return voxels


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
def grid_of_header(where: str, header: Header, orientation: Orientation | None = None) -> Grid:
    """The grid of a header in LPS: from its sform, else its qform.

    Both stored and apart by more than a tenth of a voxel, or an sform whose columns contradict pixdim, or
    neither stored: ValueError, until the caller names the one to believe (`pixdim`: axes run left, posterior,
    superior).
    """
    if orientation is None:
        orientation = _only_orientation(where, header)
    notes: list[str] = []
    if any(p < 0 for p in header.pixdim[1:4]):
        notes.append(f"pixdim {header.pixdim[1:4]} is negative: its size is used")
    if np.isnan(header.slope):
        notes.append("scl_slope is nan: voxels are taken as stored")
    if header.unit_mm != 1.0:
        notes.append(f"lengths are stored in units of {header.unit_mm:g} mm: converted")
    steps, origin = _affine(where, header, orientation)
    grid = grid_of(
        where, header.sizes, RAS_TO_LPS @ steps * header.unit_mm, RAS_TO_LPS @ origin * header.unit_mm
    )
    return Grid(grid.geometry, (*notes, *grid.notes))


def _only_orientation(where: str, header: Header) -> Orientation:
    if header.sform_code <= 0 and header.qform_code <= 0:
        raise ValueError(
            f"{where}: no orientation is stored (qform and sform codes are 0): store one; {NAME_IT} "
            "pixdim takes the axes as left, posterior, superior"
        )
    if header.sform_code <= 0:
        return "qform"
    pixdim = np.abs(header.pixdim[1:4])
    steps, origin = _affine(where, header, "sform")
    spacing = np.linalg.norm(steps, axis=0)
    far = (np.array(header.sizes[:3]) - 1).clip(1)
    if header.qform_code > 0:
        other, other_origin = _affine(where, header, "qform")
        apart = max(
            float(np.linalg.norm((steps - other) @ (far * (i, j, k)) + origin - other_origin))
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        )
        if not apart <= FORM_TOLERANCE_VOXELS * spacing.min():
            raise ValueError(
                f"{where}: qform and sform put a corner {apart * header.unit_mm:.3g} mm apart: "
                f"store one; {NAME_IT} sform or qform says which to believe"
            )
    elif not (
        np.abs(spacing - pixdim) * far <= FORM_TOLERANCE_VOXELS * spacing.min() + 1e-3 * spacing * far
    ).all():
        raise ValueError(
            f"{where}: pixdim says the spacing is {_text(pixdim)}, the sform says {_text(spacing)}: "
            f"store one; {NAME_IT} sform or pixdim says which to believe"
        )
    return "sform"


def _affine(where: str, header: Header, orientation: Orientation) -> tuple[np.ndarray, np.ndarray]:
    """Steps (columns, RAS) and origin of one orientation, in stored units."""
    if orientation == "sform":
        rows = np.array(header.s_rows, float).reshape(3, 4)
        return rows[:, :3], rows[:, 3]
    pixdim = np.abs(header.pixdim[1:4]).astype(float)
    if orientation == "pixdim":
        return RAS_TO_LPS @ np.diag(pixdim), np.zeros(3)
    b, c, d = header.quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest > -1e-3:
        raise ValueError(
            f"{where}: the qform's quaternion must have length at most 1, got ({b:g}, {c:g}, {d:g})"
        )
    a = rest**0.5 if rest > HALF_TURN else 0.0
    if rest <= HALF_TURN:
        b, c, d = (v / (1.0 - rest) ** 0.5 for v in (b, c, d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = -1.0 if header.pixdim[0] < 0 else 1.0
    return turn * (pixdim * (1.0, 1.0, handed)), np.array(header.q_offset, float)


def _parse(where: str, raw: bytes, order: str) -> Header:
    def floats(offset: int, n: int) -> tuple[float, ...]:
        return struct.unpack_from(f"{order}{n}f", raw, offset)

    dim = struct.unpack_from(order + "8h", raw, 40)
    if not 1 <= dim[0] <= 7 or any(n < 1 for n in dim[1 : dim[0] + 1]):
        raise ValueError(
            f"{where}: sizes must be 1 to 7 numbers of at least 1, got {dim[1 : max(dim[0], 3) + 1]}"
        )
    sizes = tuple(dim[1 : dim[0] + 1])
    if len(sizes) < 3:
        raise ValueError(f"{where}: need a 3-D image, got sizes {sizes}")
    if max(sizes[3:], default=1) > 1:
        raise ValueError(f"{where}: need one 3-D volume, got sizes {sizes}: split the file")
    code = struct.unpack_from(order + "h", raw, 70)[0]
    if code not in TYPES:
        raise ValueError(f"{where}: voxels must be plain numbers, got NIfTI type {code}")
    slope, intercept = floats(112, 2)
    if np.isinf(slope) or not (np.isfinite(intercept) or np.isnan(slope)):
        raise ValueError(f"{where}: scl_slope and scl_inter must be finite, got {slope} and {intercept}")
    units = raw[123] & 7
    if units not in UNITS_MM:
        raise ValueError(f"{where}: unknown length unit {units} in xyzt_units")
    offset = floats(108, 1)[0]
    if not HEADER_BYTES <= offset < 2**31:
        raise ValueError(f"{where}: vox_offset must be at least {HEADER_BYTES}, got {offset:g}")
    qform_code, sform_code = struct.unpack_from(order + "2h", raw, 252)
    return Header(
        sizes=sizes[:3],
        dtype=np.dtype(order + TYPES[code]),
        pixdim=floats(76, 8),
        data_offset=int(offset),
        slope=slope,
        intercept=intercept,
        unit_mm=UNITS_MM[units],
        qform_code=qform_code,
        sform_code=sform_code,
        quaternion=floats(256, 3),
        q_offset=floats(268, 3),
        s_rows=floats(280, 12),
    )


def _text(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
