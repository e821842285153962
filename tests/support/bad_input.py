"""Named makers of bad input: each puts files into an empty folder and returns the command that meets them."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dicom_files import write_series
from grids import body_ct, two_kidneys
from nifti_files import RAS, nifti_bytes, put

from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.volume import IDENTITY, Geometry, Volume

GRID = Geometry((16, 20, 24), (4.0, 3.0, 2.0), (-5.0, -6.0, 7.0))
SERIES = Geometry((6, 8, 9), (2.5, 0.75, 0.5), (-10.0, 20.0, -300.0))
CT = body_ct(GRID).array
LABELS = two_kidneys(GRID).array


class Bad(NamedTuple):
    """How to make it, and a part of the line that it must end in."""

    make: Callable[[Path], list[str]]
    says: str


BAD: dict[str, Bad] = {}


def bad(says: str) -> Callable[[Callable[[Path], list[str]]], Callable[[Path], list[str]]]:
    def add(make: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
        BAD[make.__name__] = Bad(make, says)
        return make

    return add


def predict(path: Path, *more: str) -> list[str]:
    return ["predict", str(path), "--model", str(path.parent / "no_run"), *more]


def export(path: Path, to: str = "nifti", *more: str) -> list[str]:
    return ["export", str(path), "--to", to, *more]


def labels_file(folder: Path, noise: bool = False) -> Path:
    """A sound label map; with noise its labels pack badly."""
    array = (
        np.where(LABELS > 0, np.random.default_rng(0).integers(1, 6, LABELS.shape), 0) if noise else LABELS
    )
    write_volume(folder / "labels.nii.gz", Volume(array.astype(np.uint8), GRID))
    return folder / "labels.nii.gz"


def _bytes(name: str, content: bytes, says: str, file: str = "x.nii.gz") -> None:
    BAD[name] = Bad(lambda folder: predict(_raw(folder / file, content)), says)


def _raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _nifti(name: str, says: str, array: np.ndarray = CT, file: str = "x.nii.gz", **fields) -> None:
    BAD[name] = Bad(lambda folder: predict(put(folder / file, nifti_bytes(array, **fields))), says)


PACKED = gzip.compress(
    nifti_bytes(np.random.default_rng(0).integers(-1000, 1000, (40, 50, 60)).astype("i2")), mtime=0
)
FLIPPED = bytearray(PACKED)
FLIPPED[-8] ^= 1
TORN = bytearray(PACKED)
TORN[len(TORN) // 2] ^= 0xFF

for _ending in (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".npz"):
    _name = _ending[1:].replace(".", "_")
    _bytes(f"text_named_{_name}", b"this is not an image\n" * 40, f"x{_ending}: ", f"x{_ending}")
    _bytes(f"empty_{_name}", b"", "the file is empty", f"x{_ending}")
_bytes("gz_cut_mid_stream", PACKED[: len(PACKED) // 2], "gzip stream is cut or broken")
_bytes("gz_cut_in_the_header", PACKED[:30], "gzip stream is broken")
_bytes("gz_cut_in_the_trailer", PACKED[:-4], "gzip stream is cut or broken")
_bytes("gz_with_a_flipped_checksum", bytes(FLIPPED), "gzip stream is cut or broken")
_bytes("gz_with_a_flipped_byte", bytes(TORN), "x.nii.gz: ")
_bytes("gz_with_garbage_behind", PACKED + b"garbage" * 9, "gzip stream is cut or broken")
_bytes("gz_of_fewer_voxels", gzip.compress(gzip.decompress(PACKED)[:-100], mtime=0), "cut short: the header")
_bytes("gz_named_nii", PACKED, "holds gzip data", "x.nii")
_bytes("gz_of_text", gzip.compress(b"no image" * 100), "not a NIfTI-1 file")
_bytes("nii_cut", nifti_bytes(CT)[:-100], "cut short", "x.nii")
_bytes("picture", b"\xff\xd8\xff\xe0" * 100, "need a DICOM folder or a file ending in", "x.jpg")
_bytes("no_ending", nifti_bytes(CT), "need a DICOM folder or a file ending in", "scan")
_bytes("analyze", nifti_bytes(CT, magic=b"\0\0\0\0"), "need a DICOM folder or a file ending in", "x.hdr")
_bytes("single_dicom_slice", b"\0" * 128 + b"DICM" + b"\0" * 100, "need a DICOM folder", "x.dcm")
_nifti("nifti_pair_magic", "not a NIfTI-1 file", magic=b"ni1\0")
_nifti("dims_claim_terabytes", "which", dim=(3, 32000, 32000, 32000))
_nifti("dims_claim_terabytes_unpacked", "cut short", file="x.nii", dim=(3, 32000, 32000, 32000))
_nifti("many_volumes", "need one 3-D volume", np.stack([CT, CT]))
_nifti("five_dimensions", "need one 3-D volume", np.stack([CT, CT])[None])
_nifti("two_dimensions", "need a 3-D image", CT[0])
_nifti("zero_size", "sizes must be", dim=(3, 24, 0, 16))
_nifti("negative_size", "sizes must be", dim=(3, 24, -20, 16))
_nifti("no_dimensions", "sizes must be", dim=(0, 24, 20, 16))
_nifti("colour", "plain numbers", code=128)
_nifti("complex_numbers", "plain numbers", CT.astype("c8"))
_nifti(
    "nan_voxels", "1 of 7680 voxels are nan", np.where(np.arange(CT.size).reshape(CT.shape) == 9, np.nan, CT)
)
_nifti("infinite_voxels", "voxels are nan or infinite", np.where(CT.max() == CT, np.inf, CT).astype("f4"))
_nifti("zero_spacing", "spacing must be positive", sform=RAS * [1, 1, 0, 1], pixdim=(2, 3, 0))
_nifti("nan_spacing", "spacing must be positive", sform=None, qform_code=1, pixdim=(2, np.nan, 4))
_nifti("nan_sform", "the sform says (nan", sform=RAS * np.nan)
_nifti("nan_origin", "origin must be finite", sform=np.where(np.eye(3, 4, 3), np.nan, RAS))
_nifti("sheared_axes", "off a right angle", sform=RAS + 0.3 * np.eye(3, 4, 1), pixdim=(2, 3.015, 4.011))
_nifti("long_quaternion", "quaternion", sform=None, qform_code=1, quaternion=(0.9, 0.9, 0.9))
_nifti("forms_contradict", "qform and sform", qform_code=1, q_offset=(50.0, 6.0, 7.0))
_nifti("spacing_swapped", "the sform says", pixdim=(4.0, 3.0, 2.0))
_nifti("no_orientation", "no orientation is stored", sform=None)
_nifti("slope_infinite", "scl_slope", slope=np.inf)
_nifti("intercept_nan", "scl_slope", intercept=np.nan)
_nifti("unknown_unit", "unknown length unit", units=5)
_nifti("offset_in_the_header", "vox_offset", offset=100.0)
_nifti("unsigned_too_large", "must fit int16", np.full(CT.shape, 40000, "u2"))
_nifti("whole_numbers_too_large", "must fit int16", CT.astype("i4") * 100)
_nifti("floats_too_large", "must fit int16", CT.astype("f8") * 1e6)
_nifti("scaled_out_of_range", "must fit int16", slope=1000.0)
_nifti("labels_for_a_ct", "not a CT in HU", LABELS)
_nifti("constant", "not a CT in HU", np.zeros_like(CT))
_nifti("zero_to_one", "not a CT in HU", (CT + 1000).astype("f4") / 2000)
_nifti("never_rescaled", "not a CT in HU", (CT + 1024).clip(0).astype("u2"))
_nifti("not_shifted_back", "not a CT in HU", (CT.astype("f4") / 500))


@bad("no such file or folder")
def missing_file(folder: Path) -> list[str]:
    return predict(folder / "nowhere.nii.gz")


@bad("found no image")
def empty_folder(folder: Path) -> list[str]:
    (folder / "empty").mkdir()
    return predict(folder / "empty")


@bad("found no image")
def folder_of_text(folder: Path) -> list[str]:
    (folder / "notes").mkdir()
    (folder / "notes" / "README.txt").write_text("about")
    return predict(folder / "notes")


@bad("two images have the name")
def two_files_of_one_name(folder: Path) -> list[str]:
    for ending in (".nii", ".nrrd"):
        write_volume(folder / "cases" / f"a{ending}", Volume(CT, GRID))
    return predict(folder / "cases")


@bad("no_run")
def missing_model(folder: Path) -> list[str]:
    write_volume(folder / "ct.nii.gz", Volume(CT, GRID))
    return predict(folder / "ct.nii.gz")


@bad("stage_")
def model_folder_without_stages(folder: Path) -> list[str]:
    write_volume(folder / "ct.nii.gz", Volume(CT, GRID))
    (folder / "no_run").mkdir()
    return predict(folder / "ct.nii.gz")


@bad("models.safetensors")
def torn_model(folder: Path) -> list[str]:
    write_volume(folder / "ct.nii.gz", Volume(CT, GRID))
    (folder / "no_run" / "stage_1").mkdir(parents=True)
    (folder / "no_run" / "stage_1" / "models.safetensors").write_bytes(b"\x10" * 50)
    return predict(folder / "ct.nii.gz")


def _words(name: str, says: str, *words: str) -> None:
    BAD[f"words_{name}"] = Bad(lambda folder: list(words), says)


_words("threads", "Error parsing --threads", "predict", "x.nii", "--model", "m", "--threads", "many")
_words("nothing_given", "Required options", "predict")
_words("format", "invalid choice 'foo' for argument '--to'", "export", "x.nii", "--to", "foo")
_words("unknown_option", "Unrecognized options", "info", "x.nii", "--nonsense", "3")
_words("rules", "invalid choice", "predict", "x.nii", "--model", "m", "--rules", "shave")
_words("unknown_verb", "unknown verb 'perdict'", "perdict", "x.nii")


def _text(name: str, file: str, says: str, header: str, data: bytes = b"") -> None:
    BAD[name] = Bad(lambda folder: predict(_raw(folder / file, header.encode() + data)), says)


NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 24 20 16\n"
    "space directions: (2,0,0) (0,3,0) (0,0,4)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    "space origin: (0,0,0)\n\n"
)
_text("nrrd_cut", "x.nrrd", "x.nrrd", NRRD, CT.tobytes()[:-500])
_text(
    "nrrd_without_directions",
    "x.nrrd",
    "'space directions' is missing",
    NRRD.replace("space directions", "#"),
)
_text("nrrd_without_space", "x.nrrd", "'space' is missing", NRRD.replace("space: left", "content: left"))
_text("nrrd_directions_in_words", "x.nrrd", "vectors", NRRD.replace("(2,0,0)", "(two,0,0)"), CT.tobytes())
_text("nrrd_zero_size", "x.nrrd", "sizes of at least 1", NRRD.replace("24 20", "24 0"))
_text("nrrd_size_in_words", "x.nrrd", "whole numbers", NRRD.replace("24 20", "many 20"))
_text(
    "nrrd_of_vectors",
    "x.nrrd",
    "one value a voxel",
    NRRD.replace("domain domain domain", "vector domain domain"),
)
_text("nrrd_zero_spacing", "x.nrrd", "x.nrrd", NRRD.replace("(2,0,0)", "(0,0,0)"), CT.tobytes())
_text("nrrd_line_of_nothing", "x.nrrd", "neither ':' nor ':='", NRRD.replace("endian: little", "endian"))
_text("nrrd_endless_header", "x.nrrd", "must end within", "NRRD0004\n" + "#\n" * 600_000)
_text(
    "nrrd_four_axes",
    "x.nrrd",
    "one 3-D volume",
    NRRD.replace("dimension: 3", "dimension: 4").replace("24", "2 24"),
)
_text("nhdr_without_data", "x.nhdr", "x.nhdr", NRRD.replace("encoding", "data file: gone.raw\nencoding"))
_text("nrrd_more_than_claimed", "x.nrrd", "there are more", NRRD, CT.tobytes() + b"\0")
_text("nrrd_without_endian", "x.nrrd", "endian must be", NRRD.replace("endian: little\n", ""), CT.tobytes())
_text("nrrd_of_blocks", "x.nrrd", "plain numbers", NRRD.replace("type: short", "type: block"), CT.tobytes())
_text("nrrd_unknown_space", "x.nrrd", "need a space", NRRD.replace("left-posterior-superior", "scanner-xyz"))


def _gzip_nrrd(name: str, says: str, data: bytes) -> None:
    _text(f"nrrd_gzip_{name}", "x.nrrd", f"x.nrrd: {says}", NRRD.replace("raw", "gzip"), data)


MEMBERS = gzip.compress(CT.tobytes()[:999], mtime=0) + gzip.compress(CT.tobytes()[999:], mtime=0)
BROKEN_GZIP = "the gzip stream is cut or broken, need 15360 bytes of voxels"
_gzip_nrrd("of_nothing", BROKEN_GZIP, b"\x1f\x8b" + b"\0" * 50)
_gzip_nrrd("missing", BROKEN_GZIP, CT.tobytes())
_gzip_nrrd("empty", "the header claims 15360 bytes", b"")
_gzip_nrrd("cut", BROKEN_GZIP, MEMBERS[: len(MEMBERS) // 2])
_gzip_nrrd("cut_between_members", "cut short", gzip.compress(CT.tobytes()[:999]))
_gzip_nrrd("cut_in_the_trailer", BROKEN_GZIP, MEMBERS[:-4])
_gzip_nrrd("with_a_flipped_checksum", BROKEN_GZIP, MEMBERS[:-5] + bytes([MEMBERS[-5] ^ 255]) + MEMBERS[-4:])
_gzip_nrrd("with_garbage_behind", BROKEN_GZIP, MEMBERS + b"garbage" * 9)
_gzip_nrrd("with_a_member_too_many", "the header claims 15360 bytes of voxels, there are", MEMBERS + MEMBERS)

META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 24 20 16\n"
    "ElementSpacing = 2 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
_text("mha_cut", "x.mha", "cut short", META, CT.tobytes()[:-2])
_text("mha_zero_spacing", "x.mha", "spacing must be", META.replace("2 3 4", "2 0 4"), CT.tobytes())
_text("mha_negative_spacing", "x.mha", "spacing must be", META.replace("2 3 4", "2 -3 4"), CT.tobytes())
_text(
    "mha_without_spacing", "x.mha", "spacing must be", META.replace("ElementSpacing", "Comment"), CT.tobytes()
)
_text("mha_without_sizes", "x.mha", "lacks DimSize", META.replace("DimSize", "Comment"), CT.tobytes())
_text(
    "mha_two_channels", "x.mha", "one value a voxel", "ElementNumberOfChannels = 2\n" + META, CT.tobytes() * 2
)
_text("mha_two_dimensions", "x.mha", "one 3-D volume", META.replace("NDims = 3", "NDims = 2"), CT.tobytes())
_text("mhd_without_data", "x.mhd", "must lie beside it", META.replace("LOCAL", "gone.raw"))
_text("mhd_data_elsewhere", "x.mhd", "must lie beside it", META.replace("LOCAL", "../../etc/hostname"))
_text("mhd_data_is_a_list", "x.mhd", "must lie beside it", META.replace("LOCAL", "LIST\na.raw\nb.raw"))


def _npz(folder: Path, **fields) -> list[str]:
    held = {
        "array": CT,
        "spacing_mm": (4.0, 3.0, 2.0),
        "origin_mm": (0.0, 0.0, 0.0),
        "direction": IDENTITY,
        **fields,
    }
    np.savez(folder / "x.npz", **{key: value for key, value in held.items() if value is not None})
    return predict(folder / "x.npz")


BAD["npz_without_spacing"] = Bad(lambda f: _npz(f, spacing_mm=None), "lacks spacing_mm")
BAD["npz_zero_spacing"] = Bad(lambda f: _npz(f, spacing_mm=(4.0, 0.0, 2.0)), "spacing must be positive")
BAD["npz_two_dimensions"] = Bad(lambda f: _npz(f, array=CT[0]), "need array (z, y, x)")
BAD["npz_no_rotation"] = Bad(lambda f: _npz(f, direction=np.ones((3, 3))), "degrees off a right angle")
BAD["npz_of_text"] = Bad(lambda f: _npz(f, array=np.full((4, 4, 4), "a")), "x.npz")
BAD["npz_of_objects"] = Bad(lambda f: _npz(f, array=np.full((4, 4, 4), None)), "x.npz")


@bad("y.npz: not a whole .npz file")
def npz_cut(folder: Path) -> list[str]:
    _npz(folder)
    return predict(_raw(folder / "y.npz", (folder / "x.npz").read_bytes()[:-80]))


@bad("x.npz")
def zip_of_text_named_npz(folder: Path) -> list[str]:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("array.npy", "no array")
    return predict(_raw(folder / "x.npz", held.getvalue()))


def _dicom(name: str, says: str, grid: Geometry = SERIES, more: tuple[str, ...] = (), **options) -> None:
    def make(folder: Path) -> list[str]:
        write_series(folder / "ct", body_ct(grid), **options)
        return predict(folder / "ct", *more)

    BAD[name] = Bad(make, says)


def _move(by_mm: Callable[[int], tuple[float, float, float]]):
    def edit(k: int, data) -> None:
        data.ImagePositionPatient = [
            float(a) + b for a, b in zip(data.ImagePositionPatient, by_mm(k), strict=True)
        ]

    return edit


def _only_last(**fields):
    def edit(k: int, data) -> None:
        if k == SERIES.shape[0] - 1:
            for key, value in fields.items():
                setattr(data, key, value)

    return edit


def _without(*keys: str):
    def edit(k: int, data) -> None:
        for key in keys:
            delattr(data, key)

    return edit


def _cut_pixels(k: int, data) -> None:
    if k == 2:
        data.PixelData = data.PixelData[:20]


_dicom("dicom_missing_slice", "1 slices are missing", skip=(2,))
_dicom("dicom_two_gaps", "2 slices are missing", skip=(1, 4))
_dicom("dicom_tilt", "gantry tilt: slices are sheared by 11.3", edit=_move(lambda k: (0, 0.5 * k, 0)))
_dicom("dicom_variable_pitch", "slice distance varies", edit=_move(lambda k: (0, 0, 0.2 * k * k)))
_dicom("dicom_one_slice_off_the_line", "one line", edit=_move(lambda k: (2.0 * (k == 3), 0, 0)))
_dicom("dicom_two_phases", "two phases", edit=_move(lambda k: (0, 0, -2.5 * (k % 3 == 1))))
_dicom("dicom_one_slice", "at least 2 slices", Geometry((1, 8, 9), (2.5, 0.75, 0.5)))
_dicom("dicom_two_spacings", "pixel spacing must be the same", edit=_only_last(PixelSpacing=[0.7, 0.5]))
_dicom(
    "dicom_mr", "got none; left out: 6 objects of modality MR", edit=lambda k, d: setattr(d, "Modality", "MR")
)
_dicom(
    "dicom_localiser_only",
    "6 localisers",
    edit=lambda k, d: setattr(d, "ImageType", ["ORIGINAL", "LOCALIZER"]),
)
_dicom("dicom_multi_frame", "multi-frame", edit=lambda k, d: setattr(d, "NumberOfFrames", 2))
_dicom("dicom_without_position", "without position", edit=_without("ImagePositionPatient"))
_dicom("dicom_without_spacing", "without position, orientation or spacing", edit=_without("PixelSpacing"))
_dicom("dicom_zero_spacing", "spacing", edit=lambda k, d: setattr(d, "PixelSpacing", [0, 0.5]))
_dicom("dicom_cut_pixels", "pixel data is cut short", edit=_cut_pixels)
_dicom("dicom_unknown_series", "no series '8', there is '1'", more=("--series", "8"))
_dicom("dicom_two_orientations", "2 series", edit=_only_last(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]))


@bad("2 series, name one of")
def dicom_two_series(folder: Path) -> list[str]:
    write_series(folder / "ct", body_ct(SERIES), number=1, prefix="A")
    write_series(folder / "ct", body_ct(SERIES), number=2, prefix="B")
    return predict(folder / "ct")


@bad("need DICOM images of a CT")
def text_named_dcm(folder: Path) -> list[str]:
    (folder / "ct").mkdir()
    (folder / "ct" / "a.dcm").write_text("no image")
    return predict(folder / "ct")


def _labels(
    name: str, says: str, array: np.ndarray = LABELS, to: str = "nifti", more: tuple[str, ...] = ()
) -> None:
    BAD[name] = Bad(lambda folder: export(put(folder / "labels.nii.gz", nifti_bytes(array)), to, *more), says)


_labels("labels_out_of_range", "0 to 255", LABELS.astype("i2") * 100)
_labels("labels_negative", "0 to 255", LABELS.astype("i2") - 1)
_labels("labels_with_fractions", "whole numbers", LABELS.astype("f4") / 2)
_labels("labels_nan", "nan", np.where(LABELS == 5, np.nan, LABELS).astype("f4"))
_labels("labels_unknown_value", "got [3, 4, 5]", more=("--label-map", "kits19"))
_labels("labels_unknown_convention", "need auto, kidseg", more=("--label-map", "nonsense"))
_labels("labels_auto_without_dataset", "needs a dataset.json", more=("--label-map", "auto"))
_labels("labels_missing_toml", "gone.toml", more=("--label-map", "gone.toml"))
_labels("labels_empty_to_stl", "no labelled voxel", LABELS * 0, "stl")
_labels("labels_empty_to_glb", "no labelled voxel", LABELS * 0, "glb")
_labels("dicom_seg_without_ct", "needs --ct", to="dicom-seg")
_labels("nnunet_without_ct", "has none", to="nnunet")
_labels("msd_without_ct", "has none", to="msd")
_labels("out_is_a_file", "hostname", more=("--out", "/etc/hostname/out"))
_labels("out_cannot_be_written", "/proc/", more=("--out", "/proc/kidseg_jax"))


def _toml(name: str, says: str, text: str) -> None:
    def make(folder: Path) -> list[str]:
        (folder / "map.toml").write_text(text)
        return export(labels_file(folder), "nifti", "--label-map", str(folder / "map.toml"))

    BAD[name] = Bad(make, says)


_toml("toml_broken", "not a TOML file", "[labels\n1 = ")
_toml("toml_unknown_structure", "'spleen' is none of", '[labels]\n1 = "spleen"\n2 = "parenchyma"')
_toml("toml_without_parenchyma", "no value means parenchyma", '[labels]\n1 = "artery"')
_toml("toml_zero_is_a_structure", "0 must be background", '[labels]\n0 = "artery"\n4 = "parenchyma"')
_toml("toml_value_in_words", "whole numbers of 0 to 255", '[labels]\none = "parenchyma"')
_toml("toml_without_labels", "no value means parenchyma", "[patients]\n")


def _segmentation(name: str, says: str, header: str, data: bytes = LABELS.tobytes()) -> None:
    BAD[name] = Bad(lambda folder: export(_raw(folder / "x.seg.nrrd", header.encode() + data)), says)


SEG = NRRD.replace("type: short", "type: unsigned char")
_segmentation("seg_single_voxel", "holds no data", SEG.replace("24 20 16", "1 1 1"), b"\0")
_segmentation("seg_cut", "cut short", SEG, LABELS.tobytes()[:-9])
SEG_GZIP, PACKED_LABELS = SEG.replace("raw", "gzip"), gzip.compress(LABELS.tobytes(), mtime=0)
_segmentation("seg_gzip_cut", "cut or broken, need 7680 bytes of voxels", SEG_GZIP, PACKED_LABELS[:-20])
_segmentation("seg_gzip_with_garbage_behind", "cut or broken", SEG_GZIP, PACKED_LABELS + b"garbage" * 9)
_segmentation("seg_gzip_twice", "there are more", SEG_GZIP, PACKED_LABELS * 2)
_segmentation("seg_of_floats", "whole numbers", SEG.replace("unsigned char", "float"))
_segmentation("seg_in_text", "cut short: the header claims", SEG.replace("raw", "ascii"))
_segmentation("seg_in_hex", "encoding must be one of", SEG.replace("raw", "hex"))
_segmentation(
    "seg_two_axes", "need 3 axes", SEG.replace("dimension: 3", "dimension: 2").replace("24 20 16", "24 320")
)
_segmentation(
    "seg_unknown_space", "need a space such as", SEG.replace("left-posterior-superior", "scanner-xyz")
)
_segmentation("seg_label_in_words", "whole label", SEG[:-1] + "Segment0_ID:=a\nSegment0_LabelValue:=one\n\n")


def _cohort(name: str, says: str, spoil: Callable[[Path], object], more: tuple[str, ...] = ()) -> None:
    """Two sound cases, then one thing spoilt; exported as nnU-Net, which needs CT and labels of all."""

    def make(folder: Path) -> list[str]:
        cases = folder / "cases"
        for case in ("case_00000", "case_00001"):
            write_volume(cases / case / "imaging.nii.gz", Volume(CT, GRID))
            write_volume(cases / case / "segmentation.nii.gz", Volume(LABELS, GRID))
        spoil(cases)
        return export(cases, "bids", *more)

    BAD[name] = Bad(make, says)


def _spoil_text(name: str, text: str) -> Callable[[Path], object]:
    return lambda cases: (cases / name).write_text(text)


def _dataset(**fields) -> Callable[[Path], object]:
    base = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "kidney": 1}, "file_ending": ".nii.gz"}
    return _spoil_text("dataset.json", json.dumps({**base, **fields}))


AUTO = ("--label-map", "auto")
_cohort(
    "cohort_two_images_in_a_case",
    "need one imaging file",
    lambda c: _raw(c / "case_00000" / "imaging.nrrd", b"x"),
)
_cohort(
    "cohort_case_without_labels",
    "has no label map",
    lambda c: (c / "case_00000" / "segmentation.nii.gz").unlink(),
)
_cohort("patients_without_columns", "needs the columns", _spoil_text("patients.csv", "a,b\n1,2\n"))
_cohort(
    "patients_lack_a_case", "none for case_00001", _spoil_text("patients.csv", "case,patient\ncase_00000,A\n")
)
_cohort("patients_toml_broken", "not a TOML file", _spoil_text("patients.toml", "[patients"))
_cohort("dataset_broken", "not a JSON file", _spoil_text("dataset.json", "{"))
_cohort("dataset_is_a_list", "need an object", _spoil_text("dataset.json", "[1]"))
_cohort("dataset_two_channels", "one channel", _dataset(channel_names={"0": "CT", "1": "PET"}))
_cohort("dataset_of_no_case", "found no case", _dataset())
_cohort("dataset_of_regions", "regions", _dataset(labels={"background": 0, "kidney": [1, 2]}), AUTO)
_cohort("dataset_of_other_organs", "'liver' is none of", _dataset(labels={"background": 0, "liver": 1}), AUTO)
_cohort("dataset_without_labels", "need an object of labels", _dataset(labels={}), AUTO)
_cohort(
    "dataset_outside",
    "inside its folder",
    _dataset(training=[{"image": "../../a.nii.gz", "label": "b.nii.gz"}]),
)
_cohort("dataset_without_names", "inside its folder", _dataset(training=[{"label": "b.nii.gz"}]))


@bad("must lie on one grid")
def labels_on_another_grid(folder: Path) -> list[str]:
    moved = Geometry(GRID.shape, GRID.spacing_mm, (-5.0, -6.0, 8.0))
    write_volume(folder / "cases" / "a" / "imaging.nii.gz", Volume(CT, GRID))
    write_volume(folder / "cases" / "a" / "segmentation.nii.gz", Volume(LABELS, moved))
    return export(folder / "cases", "nnunet")


@bad("BIDS needs a name with letters or digits")
def bids_name_of_signs(folder: Path) -> list[str]:
    write_volume(folder / "___.nii.gz", Volume(LABELS, GRID))
    return export(folder / "___.nii.gz", "bids")


@bad("must lie on one grid")
def dicom_seg_on_another_grid(folder: Path) -> list[str]:
    write_series(folder / "ct", body_ct(SERIES))
    return export(labels_file(folder), "dicom-seg", "--ct", str(folder / "ct"))


@bad("lack SOPInstanceUID")
def dicom_seg_without_uids(folder: Path) -> list[str]:
    write_series(folder / "ct", body_ct(GRID), edit=lambda k, d: setattr(d, "SOPInstanceUID", ""))
    return export(labels_file(folder), "dicom-seg", "--ct", str(folder / "ct"))


@bad("the label map is empty")
def dicom_seg_of_nothing(folder: Path) -> list[str]:
    write_series(folder / "ct", body_ct(GRID))
    write_volume(folder / "labels.nii.gz", Volume(LABELS * 0, GRID))
    return export(folder / "labels.nii.gz", "dicom-seg", "--ct", str(folder / "ct"))
