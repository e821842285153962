"""Label maps as DICOM RT Structure Set over the CT series that they were drawn on; needs the extra `dicom`.

A contour lies half-way between voxel centres, in the plane of one image of the series, and names that image.
Its points are the patient's millimetres, made by the grid that the headers' own positions and axes give.
"""

import datetime
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax import __version__
from kidseg_jax.atomic import written_whole
from kidseg_jax.export.dicom_seg import ALGORITHM_TYPES, Origin
from kidseg_jax.export.dicom_source import EMPTY, KIDNEY, held_of
from kidseg_jax.formats.dicom import read_slices
from kidseg_jax.imaging.outlines import outlines
from kidseg_jax.imaging.structures import Structure
from kidseg_jax.imaging.volume import Geometry, Mask, Volume, turned_onto
from kidseg_jax.kernels import bounding_box

DECIMALS = 4  # of a millimetre: nine digits and a sign, a DICOM number has sixteen letters
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # detached study management, as the standard asks for
Contour = tuple[int, np.ndarray]
"""The slice of a contour, and its points (n, 3) in mm, LPS."""


def write_rtstruct(
    path: Path,
    labels: Volume,
    source: Path,
    held: Sequence[Structure],
    origin: Origin,
    series: str | None = None,
) -> None:
    """Write a label map as RTSTRUCT that refers to the CT series of the folder `source`, whole or not at all.

    labels may be in any orientation of the series' grid, or of a part of it. Structures without a voxel get
    no ROI. origin says who drew: MANUAL, AUTOMATIC or SEMIAUTOMATIC. Raises ValueError for another grid, an
    empty label map, or a series without the UIDs to refer to.
    """
    if any(importlib.util.find_spec(name) is None for name in ("pydicom", "contourpy")):
        raise ValueError("export: RTSTRUCT needs the extra `dicom`: pip install 'kidseg_jax[dicom]'")
    from pydicom.config import disable_value_validation

    slices, (geometry, _) = read_slices(source, series)
    array = turned_onto(path.name, labels, geometry).array
    drawn = {s: contours(array == s.label, geometry) for s in held if (array == s.label).any()}
    if not drawn:
        raise ValueError(f"{path.name}: the label map is empty, an RTSTRUCT needs a labelled voxel")
    with disable_value_validation():  # its warnings would repeat what a header says
        images = [held_of(one, source.name, "an RTSTRUCT") for one in slices]
    packed = io.BytesIO()
    _structure_set(images, drawn, origin).save_as(packed, enforce_file_format=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def contours(mask: Mask, geometry: Geometry) -> list[Contour]:
    """The contours of a mask (z, y, x), slice by slice."""
    box = bounding_box(mask)
    if box is None:
        return []
    found = []
    for k in range(box.lo[0], box.hi[0]):
        for outline in outlines(mask[k, box.lo[1] : box.hi[1], box.lo[2] : box.hi[2]]):
            places = outline + np.array(box.lo[1:])
            index = np.column_stack([np.full(len(places), float(k)), places])
            found.append((k, geometry.to_world(index)))
    return found


def _structure_set(images: Sequence[Any], drawn: dict[Structure, list[Contour]], origin: Origin) -> Any:
    from pydicom import Dataset
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    for key in EMPTY:
        setattr(data, key, None)
    data.StudyInstanceUID, data.FrameOfReferenceUID = (
        images[0].StudyInstanceUID,
        images[0].FrameOfReferenceUID,
    )
    data.SeriesInstanceUID, data.SeriesNumber, data.InstanceNumber = generate_uid(), 301, 1
    data.Modality, data.SeriesDescription, data.OperatorsName = (
        "RTSTRUCT",
        "Kidneys and their structures",
        None,
    )
    data.Manufacturer = data.ManufacturerModelName = "kidseg_jax"
    data.SoftwareVersions, data.ApprovalStatus = __version__, "UNAPPROVED"
    now = datetime.datetime.now()
    data.StructureSetLabel = "KIDNEYS"
    data.StructureSetDate, data.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.InstanceCreationDate, data.InstanceCreationTime = data.StructureSetDate, data.StructureSetTime
    data.ReferencedFrameOfReferenceSequence = [_frame_of_reference(images)]
    data.StructureSetROISequence, data.ROIContourSequence, data.RTROIObservationsSequence = [], [], []
    for number, (structure, found) in enumerate(drawn.items(), 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, structure.name
        roi.ReferencedFrameOfReferenceUID = images[0].FrameOfReferenceUID
        roi.ROIGenerationAlgorithm = ALGORITHM_TYPES[origin]
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(_roi_contours(number, structure, found, images))
        data.RTROIObservationsSequence.append(_observation(number, structure))
    return data


def _frame_of_reference(images: Sequence[Any]) -> Any:
    from pydicom import Dataset

    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = [_reference(image) for image in images]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY_CLASS, images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _reference(image: Any) -> Any:
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _roi_contours(number: int, structure: Structure, found: list[Contour], images: Sequence[Any]) -> Any:
    from pydicom import Dataset

    roi = Dataset()
    roi.ROIDisplayColor, roi.ReferencedROINumber = list(structure.rgb), number
    roi.ContourSequence = []
    for k, points in found:
        item = Dataset()
        item.ContourImageSequence = [_reference(images[k])]
        item.ContourGeometricType = "CLOSED_PLANAR"
        item.NumberOfContourPoints, item.ContourNumber = len(points), len(roi.ContourSequence) + 1
        item.ContourData = [
            f"{value + 0.0:.{DECIMALS}f}" for value in points.ravel().round(DECIMALS).tolist()
        ]
        roi.ContourSequence.append(item)
    return roi


def _observation(number: int, structure: Structure) -> Any:
    from pydicom import Dataset

    code, about = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator = structure.sct_code, "SCT"
    code.CodeMeaning = structure.sct_meaning
    about.ObservationNumber = about.ReferencedROINumber = number
    about.RTROIInterpretedType = "ORGAN" if structure.sct_code == KIDNEY[0] else ""
    about.ROIInterpreter = None
    about.RTROIIdentificationCodeSequence = [code]
    return about
