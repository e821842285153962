"""CT series as DICOM files, made for the tests; every name and date in them is a canary that must not come
out.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from kidseg_jax.imaging.volume import Volume

CANARIES = ("CANARY^PATIENT", "CANARYID", "19010203", "CANARY HOSPITAL", "CANARY SERIES", "CANARYACCESSION")
Edit = Callable[[int, FileDataset], None]


def write_series(
    folder: Path,
    ct: Volume,
    *,
    number: int = 1,
    edit: Edit | None = None,
    skip: tuple[int, ...] = (),
    slope: float = 1.0,
    intercept: float = -1024.0,
    prefix: str = "IM",
) -> list[Path]:
    """One file a slice of a volume, in an order of names that is not the order of positions."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    grid = ct.geometry
    direction = np.asarray(grid.direction)
    order = np.random.default_rng(0).permutation(grid.shape[0])
    paths = []
    for name, k in enumerate(order):
        if k in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("made.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID = CTImageStorage
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.Modality = "CT"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.PatientName, data.PatientID, data.PatientBirthDate = CANARIES[:3]
        data.PatientSex = "O"
        data.InstitutionName, data.SeriesDescription, data.AccessionNumber = CANARIES[3:]
        data.StudyDate = data.StudyTime = data.ReferringPhysicianName = data.StudyID = ""
        data.PositionReferenceIndicator = ""
        data.SeriesNumber, data.InstanceNumber, data.AcquisitionNumber = number, int(name) + 1, 1
        data.ImagePositionPatient = [float(v) for v in grid.to_world(np.array([k, 0, 0]))]
        data.ImageOrientationPatient = [float(v) for v in (*direction[:, 0], *direction[:, 1])]
        data.PixelSpacing = [grid.spacing_mm[1], grid.spacing_mm[2]]
        data.SliceThickness = grid.spacing_mm[0] * 1.5
        data.Rows, data.Columns = grid.shape[1:]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        stored = np.rint((ct.array[k].astype(float) - intercept) / slope).astype(np.uint16)
        data.PixelData = stored.tobytes()
        if edit:
            edit(int(k), data)
        path = folder / f"{prefix}{name:04d}"
        pydicom.dcmwrite(path, data, enforce_file_format=True)
        paths.append(path)
    return paths
