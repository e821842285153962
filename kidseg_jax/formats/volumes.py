"""Files to volumes and back: the border between (z, y, x) arrays and everybody else's formats."""

import logging
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.formats import metaimage, nifti, nifti_labels, nifti_write, nrrd, seg_nrrd
from kidseg_jax.formats.dicom import read_series
from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.raw import MOST_GZIP_RATIO, fill, require_plain, require_room
from kidseg_jax.imaging.volume import Volume, as_int16

ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz")
WRITTEN = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".npz")
NPZ_RANKS = {"array": 3, "spacing_mm": 1, "origin_mm": 1, "direction": 2}
NPY_HEADER = re.compile(
    r"\{'descr': '(?P<descr>[<>|]?(?:[iu][1248]|f[248]))', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[\d, ]{0,80})\), \}\s*"
)
ZIP_END_BYTES = 20 + 22  # where one beyond 4 GiB says so, and the end of every archive without a comment
LONGEST_LIST = 1 << 16
logger = logging.getLogger(__name__)


class Reading(NamedTuple):
    """A volume as read, and one line for each thing in its file that was repaired or left out."""

    volume: Volume
    notes: tuple[str, ...] = ()


def read_volume(
    path: str | Path, *, series: str | None = None, orientation: nifti.Orientation | None = None
) -> Volume:
    """The one 3-D volume of a file or DICOM folder, in LPS; what `read_with_notes` repaired is logged as a
    warning.
    """
    return _noted(Path(path), read_with_notes(path, series=series, orientation=orientation))


def read_with_notes(
    path: str | Path, *, series: str | None = None, orientation: nifti.Orientation | None = None
) -> Reading:
    """The one 3-D volume of a .nii, .nii.gz, .nrrd, .seg.nrrd, .mha, .mhd, .npz file or of a DICOM folder.

    uint8 and int16 voxels stay (one array, no second copy), other whole numbers become int16, and
    floating point becomes float32, scaled as the file says. series: which of several DICOM series;
    orientation: which of two contradicting ones of a NIfTI file. ITK is needed for DICOM alone. A header may
    name a plain file in its own folder and no other. Raises ValueError, in one line, for what cannot be read
    without guessing: other endings, broken or cut files, more than one volume, no or impossible geometry, nan
    voxels, whole numbers outside int16, more voxels than `raw.room_bytes`. FileNotFoundError: no such path.
    """
    path = Path(path)
    if path.is_dir():
        array, grid = read_series(path, series)
    else:
        require_plain(path)
        array, grid = _read_file(path, orientation)
    return Reading(Volume(_plain(path.name, array), grid.geometry), grid.notes)


def read_ct(
    path: str | Path, *, series: str | None = None, orientation: nifti.Orientation | None = None
) -> Volume:
    """A CT in int16 HU, fractions rounded; ValueError, with the numbers, for an image that cannot be a CT of
    a body.
    """
    volume = read_volume(path, series=series, orientation=orientation)
    return volume.with_array(hounsfield(Path(path).name, volume.array))


def read_labels(path: str | Path, *, orientation: nifti.Orientation | None = None) -> Volume:
    """A label map in uint8; ValueError for values that are not whole numbers of 0 to 255.

    What `read_with_notes` repaired is logged as a warning.
    """
    path = Path(path)
    if path.is_file() and ending_of(path) in (".nii", ".nii.gz"):
        labels = nifti_labels.read_nifti_labels(path, orientation)
        if labels is not None:
            return _noted(path, Reading(Volume(labels[0], labels[1].geometry), labels[1].notes))
    volume = read_volume(path, orientation=orientation)
    return volume.with_array(whole_labels(path.name, volume.array))


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume, whole or not at all, as its ending says: .nii, .nii.gz, .nrrd, .mha, .npz, .seg.nrrd
    (labels).

    The header holds the volume's own geometry; reading it back gives the same voxels and grid. Needs no ITK.
    """
    path = Path(path)
    ending = ending_of(path)
    if ending not in WRITTEN:
        raise ValueError(f"{path.name}: cannot be written, need an ending of {', '.join(WRITTEN)}")
    if ending in (".nii", ".nii.gz"):
        nifti_write.write_nifti(path, volume)
    elif ending == ".nrrd":
        nrrd.write_nrrd(path, volume)
    elif ending == ".mha":
        metaimage.write_meta(path, volume)
    elif ending == ".npz":
        _write_npz(path, volume)
    else:
        if volume.array.dtype != np.uint8:
            raise TypeError(f"{path.name}: label maps are uint8, got {volume.array.dtype}")
        seg_nrrd.write_segmentation(path, volume)


def ending_of(path: Path) -> str:
    """The ending that says the format, in lower case, `` when it is none of ours."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def hounsfield(where: str, array: np.ndarray) -> np.ndarray:
    """The array as int16 HU; raises ValueError unless it holds both fat or air and soft tissue, as every body
    CT does.

    Looks at every k-th voxel, at most about a million.
    """
    array = as_int16(where, array)
    step = max(1, round((array.size / 1e6) ** (1 / 3)))
    some = np.ascontiguousarray(array[::step, ::step, ::step])
    dark, soft = np.mean(some < -20), np.mean((some > -20) & (some < 200))
    if dark < 1e-3 or soft < 1e-3:
        raise ValueError(
            f"{where}: not a CT in HU: {100 * dark:.1f} % of voxels are below -20 HU, "
            f"{100 * soft:.1f} % are soft tissue, values {some.min()} to {some.max()}"
        )
    return array


def whole_labels(where: str, array: np.ndarray) -> np.ndarray:
    """The array as uint8; raises ValueError unless every voxel is a whole number of 0 to 255."""
    if array.dtype == np.uint8:
        return array
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise ValueError(f"{where}: label values must be 0 to 255, got {low:g} to {high:g}")
    labels = array.astype(np.uint8)
    if array.dtype.kind == "f" and not np.array_equal(labels, array):
        raise ValueError(f"{where}: label values must be whole numbers, got fractions")
    return labels


def _noted(path: Path, reading: Reading) -> Volume:
    for note in reading.notes:
        logger.warning("%s: %s", path.name, note)
    return reading.volume


def _read_file(path: Path, orientation: nifti.Orientation | None) -> tuple[np.ndarray, Grid]:
    ending = ending_of(path)
    if not ending:
        raise ValueError(f"{path.name}: need a DICOM folder or a file ending in {', '.join(ENDINGS)}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name}: the file is empty")
    if ending == ".npz":
        return _read_npz(path)
    if ending == ".seg.nrrd":
        array, grid, _ = seg_nrrd.read_segmentation(path)
        return array, grid
    if ending in (".nii", ".nii.gz"):
        header = nifti.read_header(path)
        grid = nifti.grid_of_header(path.name, header, orientation)
        return nifti.read_voxels(path, header), grid
    return metaimage.read_meta(path) if ending in (".mha", ".mhd") else nrrd.read_nrrd(path)


def _plain(where: str, array: np.ndarray) -> np.ndarray:
    """uint8, int16 or float32 voxels, the same array where it already is; nan and overflow are refused."""
    if array.dtype in (np.uint8, np.int16):
        return array
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.float32, copy=False)
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            bad = array.size - int(np.count_nonzero(np.isfinite(array)))
            raise ValueError(f"{where}: {bad} of {array.size} voxels are nan or infinite")
        return array
    if array.dtype.kind not in "iu":
        raise ValueError(f"{where}: voxels must be numbers, got {array.dtype}")
    return as_int16(where, array)


def _read_npz(path: Path) -> tuple[np.ndarray, Grid]:
    try:
        with open(path, "rb") as stream:
            _require_short_list(stream)
            with zipfile.ZipFile(stream) as archive:
                missing = {f"{name}.npy" for name in NPZ_RANKS} - set(archive.namelist())
                if missing:
                    raise ValueError(f"it lacks {', '.join(sorted(name[:-4] for name in missing))}")
                require_room(path.name, sum(archive.getinfo(f"{name}.npy").file_size for name in NPZ_RANKS))
                array, spacing, origin, direction = (
                    _member(archive, f"{name}.npy", rank) for name, rank in NPZ_RANKS.items()
                )
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
        raise ValueError(f"{path.name}: not a whole .npz file of a volume: {error!s:.200}") from error
    if spacing.shape != (3,) or origin.shape != (3,) or direction.shape != (3, 3) or not array.size:
        raise ValueError(f"{path.name}: need array (z, y, x), three spacings, three origins, a 3x3 direction")
    return array, grid_of(path.name, array.shape[::-1], direction * spacing[::-1], origin)


def _require_short_list(stream: BinaryIO) -> None:
    """Raises ValueError for an archive whose list of members, which is read whole, is long."""
    stream.seek(max(0, stream.seek(0, 2) - ZIP_END_BYTES))
    end = stream.read()
    locator, end = end[:4], end[20:]
    if (
        not end.startswith(b"PK\5\6")
        or locator == b"PK\6\7"
        or int.from_bytes(end[12:16], "little") > LONGEST_LIST
    ):
        raise ValueError(f"need an archive below 4 GiB, its list of members at most {LONGEST_LIST} bytes")


def _member(archive: zipfile.ZipFile, name: str, rank: int) -> np.ndarray:
    """One array of an archive, unpacked to what its own header claims, its checksum looked at."""
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: need it stored or deflated")
    with archive.open(entry) as stream:
        start = stream.read(10)
        header = stream.read(int.from_bytes(start[8:10], "little")).decode("latin-1")
        match = NPY_HEADER.fullmatch(header)
        if not start.startswith(b"\x93NUMPY\1") or match is None:
            raise ValueError(f"{name}: need an array of numbers, got {header[:80]!r}")
        dtype, shape = np.dtype(match["descr"]), [int(n) for n in re.findall(r"\d+", match["shape"])]
        n_bytes = math.prod(shape) * dtype.itemsize
        if len(shape) != rank:
            raise ValueError(f"need array (z, y, x) and vectors, {name} has shape {tuple(shape)}")
        if 10 + len(header) + n_bytes != entry.file_size or n_bytes > entry.compress_size * MOST_GZIP_RATIO:
            raise ValueError(f"{name}: cannot hold the {n_bytes} bytes that it claims")
        array = np.empty(shape if match["fortran"] == "False" else shape[::-1], dtype)
        if fill(stream, array.reshape(-1).view(np.uint8).data) < n_bytes or stream.read(1):
            raise ValueError(f"{name}: cut short")
    return array if match["fortran"] == "False" else array.T


def _write_npz(path: Path, volume: Volume) -> None:
    grid = volume.geometry
    with written_whole(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            array=volume.array,
            spacing_mm=grid.spacing_mm,
            origin_mm=grid.origin_mm,
            direction=grid.direction,
        )
