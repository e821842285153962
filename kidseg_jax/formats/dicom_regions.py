"""Regions of a CT from DICOM SEG and RTSTRUCT, laid voxel by voxel into the grid of that CT; needs the extra
`dicom`.

Of a header only geometry, the regions' names and pixels or contours, and the UID of the series they refer to
are read.
"""

from pathlib import Path

from kidseg_jax.formats.dicom_header import read_header
from kidseg_jax.formats.dicom_opened import Regions, opened
from kidseg_jax.formats.dicom_seg_read import read_seg
from kidseg_jax.formats.dicom_slices import walk
from kidseg_jax.formats.rtstruct_read import read_rtstruct
from kidseg_jax.imaging.volume import Geometry

KINDS = ("SEG", "RTSTRUCT")


def region_kind(path: Path) -> str:
    """SEG or RTSTRUCT for a file of that modality, empty for any other."""
    header = read_header(path) if path.is_file() else None
    modality = header.text("modality") if header else ""
    return modality if modality in KINDS else ""


def region_files(folder: Path) -> list[Path]:
    """The DICOM SEG and RTSTRUCT files of a folder and of those below it."""
    return [path for path in walk(folder) if path.is_file() and region_kind(path)]


def read_regions(path: Path, grid: Geometry) -> Regions:
    """The regions of a DICOM SEG or RTSTRUCT in the grid of the CT that they were drawn on.

    Raises ValueError, in one line, for another kind of file, and for regions that lie on no voxels of the
    grid or between its slices.
    """
    kind = region_kind(path)
    if not kind:
        raise ValueError(f"{path.name}: need a DICOM SEG or RTSTRUCT, got neither")
    return (read_seg if kind == "SEG" else read_rtstruct)(path, grid)


def referred_series(path: Path) -> str:
    """The UID of the image series that a SEG or RTSTRUCT was drawn on; empty where it names not one."""
    tags = ["ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"]
    with opened(path, tags) as data:
        found = {str(item.get("SeriesInstanceUID", "")) for item in data.get(tags[0]) or ()}
        for frame in data.get(tags[1]) or ():
            for study in frame.get("RTReferencedStudySequence") or ():
                for series in study.get("RTReferencedSeriesSequence") or ():
                    found.add(str(series.get("SeriesInstanceUID", "")))
    found.discard("")
    return found.pop() if len(found) == 1 else ""
