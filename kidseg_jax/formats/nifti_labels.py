"""Label maps of NIfTI files, block by block: most of a map is background, and most of the time goes into
moving it.
"""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kidseg_jax.formats import nifti
from kidseg_jax.formats.grid import Grid
from kidseg_jax.formats.raw import SPARE_BYTES, fill, require_end, voxel_stream

BLOCK_BYTES = 1 << 18  # fits a core's own cache


def read_nifti_labels(
    path: Path, orientation: nifti.Orientation | None = None
) -> tuple[np.ndarray, Grid] | None:
    """Labels uint8 (z, y, x) and the grid of a .nii or .nii.gz file, without ITK.

    None for every file that is not plainly a whole label map (broken, cut, scaled, fractions, values beyond
    0 to 255): the general reader reads it or says what is wrong. The gzip checksum is checked.
    """
    try:
        header = nifti.read_header(path)
        grid = nifti.grid_of_header(path.name, header, orientation)
        if header.scaled:
            return None
        stored = header.stored(path)
        with voxel_stream(stored) as stream:
            labels = _labels_of(stream, header.dtype, math.prod(header.sizes))
            require_end(
                stored, stream, SPARE_BYTES if stored.packing != "raw" else stored.path.stat().st_size
            )
    except ValueError:
        return None
    return None if labels is None else (labels.reshape(header.sizes[::-1]), grid)


def _labels_of(stream: BinaryIO, dtype: np.dtype, n: int) -> np.ndarray | None:
    """The next n voxels as uint8 (n,); None where they are no whole labels, or not there."""
    labels = np.zeros(n, np.uint8)
    block = np.empty(BLOCK_BYTES, np.uint8)
    step = BLOCK_BYTES // dtype.itemsize
    for at in range(0, n, step):
        some = block[: min(step, n - at) * dtype.itemsize]
        if fill(stream, some.data) < len(some):
            return None
        if some.max():
            stored = some.view(dtype)
            if dtype != np.uint8 and not (stored.min() >= 0 and stored.max() <= 255):
                return None
            narrow = stored.astype(np.uint8)
            if not np.array_equal(narrow, stored):
                return None
            labels[at : at + len(narrow)] = narrow
    return labels
