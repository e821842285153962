"""CT series as DICOM files, made for the tests; every name and date in them is a canary that must not come
out.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
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


def without_meta(path: Path) -> None:
    """Rewrite a file as a bare data set, implicit and little-endian, with nothing before it."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, True
    write_dataset(stream, pydicom.dcmread(path))
    path.write_bytes(stream.getvalue())


def packed_by_itk(kind: str) -> Edit:
    """An edit that packs the pixels as ITK's own writer does: JPEG (lossless) or JPEG2000."""

    def edit(k: int, data: FileDataset) -> None:
        import itk

        module: Any = itk
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.dcm"
            image_io = module.GDCMImageIO.New()
            image_io.SetCompressionType(getattr(module.GDCMImageIOEnums, f"Compression_{kind}"))
            pixels = np.frombuffer(data.PixelData, np.uint16).reshape(data.Rows, data.Columns).copy()
            image = module.image_from_array(pixels)
            writer = module.ImageFileWriter[type(image)].New()
            writer.SetInput(image)
            writer.SetImageIO(image_io)
            writer.SetFileName(str(path))
            writer.UseCompressionOn()
            writer.Update()
            packed = pydicom.dcmread(path)
        data.PixelData = packed.PixelData
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID

    return edit


def packed_by_pydicom(syntax: str) -> Edit:
    """An edit that packs the pixels in a transfer syntax that pydicom can write."""
    return lambda k, data: data.compress(syntax, generate_instance_uid=False)
