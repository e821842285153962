"""Label maps of NIfTI files, block by block: most of a map is background, and most of the time goes into
moving it.
"""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kidseg_jax.formats import nifti
from kidseg_jax.formats.grid import Grid
from kidseg_jax.formats.raw import BROKEN, packing_of, skip, unpacked

BLOCK_BYTES = 1 << 18  # fits a core's own cache


def read_nifti_labels(path: Path, form: nifti.Form | None = None) -> tuple[np.ndarray, Grid] | None:
    """Labels uint8 (z, y, x) and the grid of a .nii or .nii.gz file, without ITK.

    None for every file that is not plainly a whole label map (broken, cut, scaled, fractions, values beyond
    0 to 255): the general reader reads it or says what is wrong. The gzip checksum is checked.
    """
    try:
        header = nifti.read_header(path)
        grid = nifti.grid_of_header(path.name, header, form)
        if header.scaled:
            return None
        with unpacked(path, packing_of(path)) as stream:
            skip(stream, header.data_offset)
            labels = _labels_of(stream, header.dtype, math.prod(header.sizes))
    except (ValueError, *BROKEN):
        return None
    return None if labels is None else (labels.reshape(header.sizes[::-1]), grid)


def _labels_of(stream: BinaryIO, dtype: np.dtype, n: int) -> np.ndarray | None:
    """The next n voxels as uint8 (n,), the stream read to its end; None where they are no whole labels."""
    labels = np.zeros(n, np.uint8)
    block = np.empty(BLOCK_BYTES, np.uint8)
    at, step = 0, BLOCK_BYTES // dtype.itemsize
    while filled := _fill(stream, block.data):
        stored = block[: min(step, n - at) * dtype.itemsize].view(dtype)
        if filled < stored.nbytes:
            return None
        if len(stored) and block[: stored.nbytes].max():
            if dtype != np.uint8 and not (stored.min() >= 0 and stored.max() <= 255):
                return None
            found = stored.astype(np.uint8)
            if not np.array_equal(found, stored):
                return None
            labels[at : at + len(found)] = found
        at += len(stored)
    return labels if at == n else None


def _fill(stream: BinaryIO, block: memoryview) -> int:
    """Read until the block is full or the stream ends; how many bytes were read."""
    filled = 0
    while filled < len(block) and (got := stream.readinto(block[filled:])):  # pyright: ignore
        filled += got
    return filled
