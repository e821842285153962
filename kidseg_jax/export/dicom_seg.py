"""Label maps as DICOM SEG over the CT series that they were drawn on; needs the extra `dicom` (highdicom,
pydicom).

From the CT's headers only UIDs, geometry and image sizes are taken. What DICOM lets be empty about the
patient is empty.
"""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kidseg_jax import __version__
from kidseg_jax.atomic import written_whole
from kidseg_jax.export.dicom_source import EMPTY, KEPT, KIDNEY, held_of
from kidseg_jax.formats.dicom import read_slices
from kidseg_jax.formats.dicom_slices import Slice
from kidseg_jax.imaging.structures import CATEGORIES, Structure
from kidseg_jax.imaging.volume import Volume, turned_onto

Origin = Literal["manual", "cnn", "cnn_corrected"]
ALGORITHM_TYPES: dict[Origin, str] = {
    "manual": "MANUAL",
    "cnn": "AUTOMATIC",
    "cnn_corrected": "SEMIAUTOMATIC",
}


def write_dicom_seg(
    path: Path,
    labels: Volume,
    source: Path,
    held: Sequence[Structure],
    origin: Origin,
    series: str | None = None,
) -> None:
    """Write a label map as BINARY DICOM SEG that refers to the CT series of the folder `source`, whole or not
    at all.

    labels may be in any orientation of the series' grid, or of a part of it. Structures without a voxel get
    no segment. origin says who drew: manual is MANUAL, cnn AUTOMATIC, cnn_corrected SEMIAUTOMATIC. Raises
    ValueError for another grid, an empty label map, or a series without the UIDs to refer to.
    """
    hd = _highdicom()
    from pydicom.config import disable_value_validation

    slices, (geometry, _) = read_slices(source, series)
    array = turned_onto(path.name, labels, geometry).array
    present = [structure for structure in held if (array == structure.label).any()]
    if not present:
        raise ValueError(f"{path.name}: the label map is empty, a DICOM SEG needs a labelled voxel")
    numbers = np.zeros(256, np.uint8)
    for number, structure in enumerate(present, 1):
        numbers[structure.label] = number
    with disable_value_validation():  # its warnings would repeat what a header says
        images = [_stripped(one, source.name, geometry.spacing_mm[0]) for one in slices]
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=numbers[array],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(hd, n, structure, origin) for n, structure in enumerate(present, 1)],
        series_instance_uid=hd.UID(),
        series_number=300,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="kidseg_jax",
        manufacturer_model_name="kidseg_jax",
        software_versions=__version__,
        device_serial_number="0",
        content_label="KIDNEYS",
        series_description="Kidneys and their structures",
    )
    packed = io.BytesIO()  # pydicom hides an error of the disk in a traceback of its own
    segmentation.save_as(packed)
    with written_whole(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def _highdicom() -> Any:
    if importlib.util.find_spec("highdicom") is None:
        raise ValueError("export: DICOM SEG needs the extra `dicom`: pip install 'kidseg_jax[dicom]'")
    import highdicom

    return highdicom


def _segment(hd: Any, number: int, structure: Structure, origin: Origin) -> Any:
    coded = hd.sr.CodedConcept
    category_code, category = CATEGORIES[structure.name]
    algorithm = None
    if origin != "manual":
        family = coded("123109", "DCM", "Artificial Intelligence")
        algorithm = hd.AlgorithmIdentificationSequence("kidseg_jax", family, __version__)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=structure.name,
        segmented_property_category=coded(category_code, "SCT", category),
        segmented_property_type=coded(structure.sct_code, "SCT", structure.sct_meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues[ALGORITHM_TYPES[origin]],
        algorithm_identification=algorithm,
        tracking_uid=hd.UID(),
        tracking_id=structure.name,
        anatomic_regions=[coded(*KIDNEY)] if structure.name == "rcc" else None,
        display_color=hd.color.CIELabColor.from_rgb(*structure.rgb),
    )


def _stripped(one: Slice, where: str, distance_mm: float) -> Any:
    """A header with what a reference needs and nothing else: UIDs, and geometry as it was read.

    Files without their own meta group, and without a thickness, have the usual ones: implicit and
    little-endian, and the distance between slices.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian
    from pydicom.valuerep import DSfloat

    held = held_of(one, where, "a DICOM SEG", ("SliceThickness",))
    stripped = pydicom.Dataset()
    for key in KEPT:
        setattr(stripped, key, held.get(key))
    for key in EMPTY:
        setattr(stripped, key, None)
    stripped.Modality = "CT"
    stripped.Rows, stripped.Columns = one.sizes
    for key, values in (
        ("ImagePositionPatient", one.origin_mm),
        ("ImageOrientationPatient", one.row + one.column),
        ("PixelSpacing", one.spacing_mm),
    ):
        setattr(stripped, key, [DSfloat(value, auto_format=True) for value in values])
    try:
        thickness_mm = abs(float(held.get("SliceThickness") or distance_mm))
    except (TypeError, ValueError):
        thickness_mm = distance_mm
    stripped.SliceThickness = DSfloat(thickness_mm, auto_format=True)
    stripped.file_meta = FileMetaDataset()
    stripped.file_meta.TransferSyntaxUID = held.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    return stripped
