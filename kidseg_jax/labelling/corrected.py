"""Label files from people: which version counts, whose grid they lie on, and what they changed."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.atomic import sync_folder
from kidseg_jax.cohort.label_maps import renamed
from kidseg_jax.formats import metaimage
from kidseg_jax.formats.nifti import read_header
from kidseg_jax.formats.nrrd import sizes_of, split_header
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import read_labels
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume, on_grid

ENDINGS = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha", ".npz")


@dataclass(frozen=True)
class Change:
    """What one structure gained and lost between two label maps, and how far its surface moved.

    rms_mm and max_mm are over voxel borders in both directions; None when the structure is in one map only.
    """

    structure: str
    voxels_added: int
    voxels_removed: int
    added_ml: float
    removed_ml: float
    rms_mm: float | None
    max_mm: float | None

    def __str__(self) -> str:
        moved = (
            ""
            if self.rms_mm is None
            else f", surface moved {self.rms_mm:.2f} mm RMS, {self.max_mm:.1f} at most"
        )
        return f"{self.structure}: +{self.added_ml:.2f} ml, -{self.removed_ml:.2f} ml{moved}"


def versions(folder: Path, case: str) -> tuple[Path, ...]:
    """Label files of a case, oldest first: CASE.ENDING, then CASE.2.ENDING, CASE.3.ENDING and so on.

    ValueError when one version stands there in two formats.
    """
    pattern = re.compile(re.escape(case) + r"(?:\.(\d+))?(" + "|".join(map(re.escape, ENDINGS)) + ")")
    by_number: dict[int, Path] = {}
    for path in sorted(folder.glob(f"{_escaped(case)}.*")) if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1] or 1)
        if number in by_number:
            raise ValueError(
                f"{folder}: two files for one version of {case}: {by_number[number].name} and {path.name}"
            )
        by_number[number] = path
    return tuple(by_number[number] for number in sorted(by_number))


def add_version(folder: Path, case: str, written: Path, ending: str = ".seg.nrrd") -> Path:
    """Name a finished file as the next version of a case; nothing is overwritten.

    written: in the same file system; it is removed. Two callers at once get two versions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = len(versions(folder, case)) + 1
    while True:
        target = folder / (f"{case}{ending}" if number == 1 else f"{case}.{number}{ending}")
        try:
            os.link(written, target)
        except FileExistsError:
            number += 1
            continue
        sync_folder(folder)
        written.unlink()
        return target


def read_corrected(path: Path, grid: Geometry, names: Mapping[int, str] | None = None) -> Volume:
    """The label map of a person's file as uint8 values 0..5 on the grid of its CT.

    A .seg.nrrd says which of its segments is which structure by name; names does so for other files;
    without either, values 1..5 are artery, vein, ureter, parenchyma, rcc. A file that covers part of the
    grid, voxel on voxel (Slicer crops), is laid into it. Raises ValueError for another grid, values or
    names that no structure has, and files that cannot be read.
    """
    require_size(path, grid)
    if path.name.lower().endswith(".seg.nrrd"):
        array, read_grid, segments = read_segmentation(path)
        labels = Volume(array, read_grid.geometry)
        names = {segment.label: segment.name for segment in segments}
    else:
        labels = read_labels(path)
    return on_grid(path.name, labels.with_array(renamed(path.name, labels.array, names)), grid)


def changes(before: Volume, after: Volume, threads: int = 1) -> tuple[Change, ...]:
    """What each structure in either of two label maps on one grid gained and lost."""
    spacing_mm = before.spacing_mm
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    box = kernels.bounding_box((before.array > 0) | (after.array > 0))
    if box is None:
        return ()
    old, new = (kernels.crop_roi(labels.array, box) for labels in (before, after))
    changed = []
    for structure in STRUCTURES:
        a, b = old == structure.label, new == structure.label
        if not (a.any() or b.any()):
            continue
        added, removed = int(np.count_nonzero(b & ~a)), int(np.count_nonzero(a & ~b))
        rms = most = None
        if a.any() and b.any():
            distances = kernels.surface_distances(a, b, spacing_mm, threads=threads)
            rms, most = distances.rms_mm(), distances.hausdorff_mm()
        changed.append(
            Change(structure.name, added, removed, added * voxel_ml, removed * voxel_ml, rms, most)
        )
    return tuple(changed)


def require_size(path: Path, grid: Geometry) -> None:
    """ValueError when a file claims more voxels than its CT has, before it is read."""
    name = path.name.lower()
    claimed = 0
    if name.endswith(".nrrd"):
        claimed = math.prod(sizes_of(path.name, split_header(path)[0]))
    elif name.endswith((".nii", ".nii.gz")):
        claimed = math.prod(read_header(path).sizes)
    elif name.endswith(".mha"):
        claimed = math.prod(metaimage.sizes_of(path.name, metaimage.split_header(path)[0]))
    layers = len(STRUCTURES) if name.endswith(".seg.nrrd") else 1
    if claimed > math.prod(grid.shape) * layers:
        raise ValueError(f"{path.name}: claims {claimed} voxels, its CT has {math.prod(grid.shape)}")


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
