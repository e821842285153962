"""What a DICOM object that is drawn on a CT series refers to: UIDs, and nothing else of its headers."""

from collections.abc import Sequence
from typing import Any

from kidseg_jax.formats.dicom_slices import Slice

KEPT = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
)
EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "SeriesNumber",
    "PositionReferenceIndicator",
)
KIDNEY = ("64033007", "SCT", "Kidney")


def held_of(one: Slice, where: str, kind: str, more: Sequence[str] = ()) -> Any:
    """The UIDs of an image, and the elements named in `more`; ValueError where one to refer to is missing."""
    import pydicom

    held = pydicom.dcmread(one.path, stop_before_pixels=True, specific_tags=[*KEPT, *more], force=True)
    missing = [key for key in KEPT if not held.get(key)]
    if missing:
        raise ValueError(f"{where}: its images lack {', '.join(missing)}, {kind} cannot refer to them")
    return held
