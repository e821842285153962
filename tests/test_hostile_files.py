"""Files of strangers: nothing is opened but what was given, nothing is taken beyond what was allowed."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from grids import body_ct
from nifti_files import nifti_bytes
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from kidseg_jax.cohort.folder import find_cases
from kidseg_jax.cohort.label_maps import LabelMap, label_map, renamed
from kidseg_jax.evaluation.mesh_reading import read_surface
from kidseg_jax.evaluation.meshes import compare_surfaces
from kidseg_jax.formats.raw import untrusted
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import read_labels, read_volume, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume

SUPPORT = Path(__file__).parent / "support"
GRID = Geometry((4, 5, 6), (1.0, 1.0, 1.0))
ONES = np.ones(GRID.shape, np.uint8)
NRRD = (
    "NRRD0004\ntype: uchar\ndimension: 3\nspace: LPS\nsizes: 6 5 4\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\n"
)
META = (
    "NDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 1\nOffset = 0 0 0\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementType = MET_UCHAR\n"
)
PLACES = (
    *("../secret.raw", "{outside}/secret.raw", "link.raw", "pipe", "/proc/self/environ", "/dev/zero", "."),
    *("sub/../../secret.raw", "secret%d.raw 1 9 1", "LIST\n../secret.raw", "", "loop.raw"),
)
WATCHED = """
import os, sys
from pathlib import Path
from kidseg_jax.cohort.folder import find_cases
from kidseg_jax.cohort.label_maps import label_map
from kidseg_jax.evaluation.mesh_reading import read_surface
from kidseg_jax.formats.raw import untrusted
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import read_labels, read_volume
from kidseg_jax.network.checkpoint import about
opened = []
def note(event, arguments):
    if event == "open" and watching and not isinstance(arguments[0], int):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))
def tried(read, path):
    try:
        read(path)
    except (ValueError, OSError):
        return
    print("read", path)
def untrusted_volume(path):
    with untrusted(1 << 20):
        read_volume(path)
READERS = (read_volume, read_labels, untrusted_volume, read_segmentation, read_surface, about)
READERS += (lambda p: label_map(str(p)), lambda p: label_map("auto", p.parent))
READERS += (lambda p: find_cases(p.parent),)
given = sorted(Path(sys.argv[1]).rglob("*"))
watching = False
sys.addaudithook(note)
for read in READERS:  # what is imported on the way is no file of anybody
    for path in given:
        if path.is_file() and not path.is_symlink():
            watching = "again" in sys.argv
            tried(read, path)
            watching = False
print(*sorted(set(opened)), sep="\\n")
"""


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_no_header_of_any_format_opens_a_file_outside_its_folder(tmp_path):
    """Every open of a process that reads hostile files with every reader; a pipe outside would hold it."""
    outside, given = tmp_path / "outside", tmp_path / "given"
    put(outside / "secret.raw", ONES.tobytes())
    put(tmp_path / "secret.raw", ONES.tobytes())
    put(outside / "secret.nii", nifti_bytes(ONES))
    given.mkdir()
    for number, place in enumerate(PLACES):
        folder = given / str(number)
        name = place.format(outside=outside)
        for ending, text in (
            (".nhdr", NRRD + f"data file: {name}\n"),
            (".nrrd", NRRD + f"datafile: {name}\n"),
        ):
            put(folder / f"x{ending}", text.encode())
        put(folder / "y.seg.nrrd", (NRRD + f"data file: {name}\n").encode())
        put(folder / "z.nhdr", (NRRD.replace("raw", "gzip") + f"data file: {name}\n").encode())
        for ending in (".mhd", ".mha"):
            put(folder / f"x{ending}", (META + f"ElementDataFile = {name}\n").encode())
        put(folder / "x.obj", f"mtllib {name}\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n".encode())
        document = json.dumps(
            {"buffers": [{"byteLength": 9, "uri": name}], "images": [{"uri": name}]}
        ).encode()
        document += b" " * (-len(document) % 4)
        head = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(document), len(document), 0x4E4F534A)
        put(folder / "x.glb", head + document)
        for i, files in enumerate(
            (
                {"training": [{"image": name, "label": name}]},
                {"dataset": {"a": {"images": [name], "label": name}}},
                {"file_ending": "/../../secret.raw"},
            )
        ):
            said = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "parenchyma": 1}, **files}
            put(folder / f"set{i}" / "dataset.json", json.dumps(said).encode())
            (folder / f"set{i}" / "imagesTr" / "a_0000").mkdir(parents=True)
        (folder / "link.raw").symlink_to(outside / "secret.raw")
        (folder / "loop.raw").symlink_to("loop.raw")
        os.mkfifo(folder / "pipe")
    put(given / "pair" / "x.hdr", nifti_bytes(ONES, magic=b"ni1\0"))
    put(given / "pair" / "x.nii", nifti_bytes(ONES, magic=b"ni1\0"))
    (given / "pair" / "x.img").symlink_to(outside / "secret.nii")
    command = [sys.executable, "-c", WATCHED, str(given), "again"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    lines = done.stdout.splitlines()
    opened = [line for line in lines if line.startswith("/")]
    assert len(opened) > 50, "the hook sees nothing"
    ours = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1] / "kidseg_jax"))
    strange = [p for p in opened if not p.startswith((f"{given}/", *ours)) and "site-packages" not in p]
    assert strange == []
    read = [line for line in lines if line.startswith("read") and not line.endswith((".obj", ".json"))]
    assert read == []


def test_a_short_run_of_the_fuzzer(tmp_path):
    """Every reader on 1,500 broken files: no crash, no other exception, no file outside, no growth."""
    command = [sys.executable, SUPPORT / "fuzz_readers.py", "--examples", "1500", "--seconds", "120"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 100


def npy(shape: tuple[int, ...], data: bytes, kind: str = "|u1") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


def npz(path: Path, array: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    small = {"spacing_mm": np.ones(3), "origin_mm": np.zeros(3), "direction": np.eye(3)}
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("array.npy", array)
        for name, values in small.items():
            held = io.BytesIO()
            np.save(held, values)
            archive.writestr(f"{name}.npy", held.getvalue())
    return path


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (npy((1000, 1000, 1000), b""), "cannot hold"),
        (npy((4, 5, 6), ONES.tobytes() + b"more"), "cannot hold"),
        (npy((4, 5, 6), bytes(64 << 20)), "would take"),
        (npy((4, 5, 6), ONES.tobytes(), "|O8"), "array of numbers"),
        (npy((4, 5, 6), ONES.tobytes()).replace(b"False", b"(" * 5), "array of numbers"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", "array of numbers"),
    ],
)
def test_an_npz_becomes_no_more_than_its_arrays_claim(tmp_path, array, reason):
    path = npz(tmp_path / "x.npz", npy((4, 5, 6), ONES.tobytes()))
    assert read_volume(path).array.all()
    with untrusted(16 << 20), pytest.raises(ValueError, match=reason):
        read_volume(npz(path, array))


def test_an_npz_with_a_long_list_or_a_foreign_packing_is_refused_before_it_is_taken_in(tmp_path):
    packed = npz(tmp_path / "x.npz", npy((4, 5, 6), ONES.tobytes()), zipfile.ZIP_LZMA)
    with pytest.raises(ValueError, match="stored or deflated"):
        read_volume(packed)
    path = npz(tmp_path / "y.npz", npy((4, 5, 6), ONES.tobytes()))
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(20_000):
            archive.writestr(zipfile.ZipInfo(f"{i}"), b"")
    tracemalloc.start()
    with pytest.raises(ValueError, match="list of members"):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def triangle_stl(path: Path, edge_mm: float) -> Path:
    corners = np.array([[0, 0, 0], [edge_mm, 0, 0], [0, edge_mm, 0]], "<f4").tobytes()
    return put(path, bytes(80) + struct.pack("<I", 1) + bytes(12) + corners + bytes(2))


@pytest.mark.parametrize("edge_mm", [1e4, 9e8])
def test_a_triangle_of_many_metres_is_not_split_without_end(tmp_path, edge_mm):
    """134 bytes that took 10 GB: what a surface becomes is bounded before it is split."""
    surface = read_surface(triangle_stl(tmp_path / "x.stl", edge_mm))
    with pytest.raises(ValueError, match="would take"):
        compare_surfaces(surface, surface)
    small = read_surface(triangle_stl(tmp_path / "y.stl", 20.0))
    assert compare_surfaces(small, small)[0].rms_mm == 0


def test_a_mesh_that_a_file_uses_many_times_is_counted_as_often(tmp_path):
    """One accessor of 1.2 MB, named by 10,000 parts: 240 times the file."""
    n = 99_999
    document = json.dumps(
        {
            "buffers": [{"byteLength": 12 * n}],
            "bufferViews": [{"buffer": 0, "byteLength": 12 * n}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": n, "type": "VEC3"}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}] * 10_000}],
            "nodes": [{"mesh": 0}],
        }
    ).encode()
    document += b" " * (-len(document) % 4)
    parts = (
        struct.pack("<I", len(document)),
        b"JSON",
        document,
        struct.pack("<I", 12 * n),
        b"BIN\0",
        bytes(12 * n),
    )
    body = b"".join(parts)
    path = put(tmp_path / "x.glb", b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body)
    with untrusted(256 << 20), pytest.raises(ValueError, match="would take"):
        read_surface(path)


def test_a_mesh_file_too_large_for_its_memory_is_refused_by_its_size(tmp_path):
    path = put(tmp_path / "x.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + b"f 1 2 3\n" * 1000)
    with untrusted(1 << 20):
        assert len(read_surface(path).triangles) == 1000
    with untrusted(1 << 18), pytest.raises(ValueError, match="would take"):
        read_surface(path)
    put(tmp_path / "x.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf" + b" 1 2 3" * 100)
    with pytest.raises(ValueError, match="a face needs 3 to 255 vertices"):
        read_surface(tmp_path / "x.obj")


def test_a_frame_of_dicom_is_bounded_before_it_is_decoded_for_copies_too(tmp_path):
    def edit(i, data):
        data.SOPInstanceUID, data.Rows, data.Columns = "1.2.3", 65535, 65535
        data.ImagePositionPatient = [0, 0, 0]
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        frame = b"\xff\xd8\xff\xf7\x00\x0b\x10\xff\xff\xff\xff\x01\x01\x11\x00" + bytes(50) + b"\xff\xd9"
        data.PixelData = encapsulate([frame + b"\0"])
        data["PixelData"].is_undefined_length = True

    write_series(tmp_path / "ct", body_ct(Geometry((2, 8, 9), (2.5, 0.75, 0.5))), edit=edit)
    with pytest.raises(ValueError, match=r"would take 64 GiB"):
        read_volume(tmp_path / "ct")


@pytest.mark.parametrize("space", [" ", "\n", " \r\n\t "])
def test_voxels_in_text_are_read_a_block_at_a_time(tmp_path, space):
    """Numbers that straddle blocks stay whole; memory is that of the voxels."""
    shape, values = (100, 100, 90), np.arange(900_000) % 255
    header = NRRD.replace("6 5 4", "90 100 100").replace("raw", "ascii") + "\n"
    text = space.join(map(str, values.tolist())) + space
    path = put(tmp_path / "x.nrrd", (header + text).encode())
    tracemalloc.start()
    found = read_volume(path).array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, values.reshape(shape))
    assert peak < 8 << 20
    for wrong, reason in (
        (text + "1", "got others or more"),
        (text.rstrip().rpartition(space)[0], "got 899999"),
        (text[:500_000], "cut short"),
        (text.replace("17", "x7", 1), "numbers in text"),
        (text.replace("17", "300", 1), "of its type"),
        ("1" * (2 << 20), "characters"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_volume(put(path, (header + wrong).encode()))


def test_lines_to_skip_are_whole_or_refused(tmp_path):
    """A line longer than what is read at once would count as two."""
    header = (NRRD + "line skip: {n}\n\n").encode()
    for skipped, n, reason in (
        (b"a\n" * 9, 9, ""),
        (b"a" * (3 << 20) + b"\n", 1, "shorter"),
        (b"", 10**14, "whole"),
    ):
        path = put(tmp_path / "x.nrrd", header.replace(b"{n}", str(n).encode()) + skipped + ONES.tobytes())
        if not reason:
            assert read_volume(path).array.all()
        else:
            with pytest.raises(ValueError, match=reason):
                read_volume(path)


def test_values_are_counted_and_replaced_in_the_memory_of_the_labels():
    labels = (np.arange(200**3) % 3).astype(np.uint8).reshape(200, 200, 200)[::-1, :, 1:]
    for change in (
        lambda: renamed("x", labels, {1: "rcc", 2: "vein"}),
        lambda: LabelMap("x", {1: 5, 2: 2}).apply("x", labels),
    ):
        tracemalloc.start()
        found = change()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(found, np.array([0, 5, 2], np.uint8)[labels])
        assert peak < 3 * labels.nbytes + (8 << 20)


def test_scaled_voxels_count_as_what_they_become(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(np.ones((50, 50, 50), np.uint8), slope=2.0))
    with untrusted(400_000), pytest.raises(ValueError, match="would take"):
        read_volume(path)
    with untrusted(500_000):
        assert (read_volume(path).array == 2).all()


@pytest.mark.parametrize("read", [read_volume, read_labels])
def test_a_gap_before_or_bytes_behind_the_voxels_take_no_memory(tmp_path, read):
    for offset in (352.0, 2e8):
        content = nifti_bytes(ONES, offset=offset) + bytes(300 << 20)
        path = put(tmp_path / "x.nii.gz", gzip.compress(content, 1))
        tracemalloc.start()
        with pytest.raises(ValueError, match="bytes of voxels, there are more"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20


@pytest.mark.parametrize("fields", ["", "CompressedData = True\n"])
def test_bytes_behind_the_voxels_of_a_metaimage_are_refused(tmp_path, fields):
    """A header that claims less than there is: its sizes or its type are wrong."""
    data = zlib.compress(ONES.tobytes()) if fields else ONES.tobytes()
    head = (META + fields + "ElementDataFile = LOCAL\n").encode()
    assert read_volume(put(tmp_path / "x.mha", head + data)).array.all()
    with pytest.raises(ValueError, match=r"x\.mha: .*more"):
        read_volume(put(tmp_path / "x.mha", head + data + b"more"))


def test_voxels_beyond_float32_are_refused(tmp_path):
    path = put(tmp_path / "x.nii", nifti_bytes(np.full((4, 5, 6), 1e300)))
    with pytest.raises(ValueError, match="nan or infinite"):
        read_volume(path)


def layered(path: Path, axis: int, n_segments: int = 2) -> Path:
    """Two layers, the list axis at this place (0: the fastest)."""
    layers = np.stack([np.arange(120).reshape(GRID.shape) % 5 == k for k in (1, 2)]).astype(np.uint8)
    sizes, steps, kinds = ["6", "5", "4"], ["(1,0,0)", "(0,1,0)", "(0,0,1)"], ["domain"] * 3
    for held, word in ((sizes, "2"), (steps, "none"), (kinds, "list")):
        held.insert(axis, word)
    segments = "".join(
        f"Segment{i}_ID:=s{i}\nSegment{i}_Name:=n{i}\nSegment{i}_LabelValue:=1\nSegment{i}_Layer:={i}\n"
        for i in range(n_segments)
    )
    header = (
        f"NRRD0004\ntype: uchar\ndimension: 4\nspace: LPS\nsizes: {' '.join(sizes)}\nencoding: raw\n"
        f"space directions: {' '.join(steps)}\nkinds: {' '.join(kinds)}\n{segments}\n"
    )
    return put(path, header.encode() + np.moveaxis(layers, 0, 3 - axis).tobytes())


@pytest.mark.parametrize("axis", range(4))
def test_layers_may_lie_on_any_axis(tmp_path, axis):
    array = read_segmentation(layered(tmp_path / "x.seg.nrrd", axis))[0]
    values = np.arange(120).reshape(GRID.shape) % 5
    np.testing.assert_array_equal(array, np.where(values < 3, values, 0))


def test_voxels_of_no_segment_are_not_dropped(tmp_path):
    with pytest.raises(ValueError, match="24 voxels of layer 1 belong to no segment"):
        read_segmentation(layered(tmp_path / "x.seg.nrrd", 0, n_segments=1))


@pytest.mark.parametrize("depth", [10, 200_000])
@pytest.mark.parametrize("name", ["map.toml", "dataset.json"])
def test_brackets_in_brackets_are_one_line(tmp_path, name, depth):
    path = put(tmp_path / name, (b"labels = " if name == "map.toml" else b'{"labels": ') + b"[" * depth)
    with pytest.raises(ValueError, match=f"{name}: not a (TOML|JSON) file"):
        label_map(str(path) if name == "map.toml" else "auto", tmp_path)


@pytest.mark.parametrize(
    "text", ["labels = 5", 'labels = "x"', "[[labels]]\n1 = 'artery'", "[labels]\n'²' = 'rcc'"]
)
def test_a_table_that_is_none_is_one_line(tmp_path, text):
    with pytest.raises(ValueError, match="label map"):
        label_map(str(put(tmp_path / "map.toml", text.encode())))


def test_a_pipe_is_no_file(tmp_path):
    for name in ("x.toml", "x.seg.nrrd", "x.nrrd", "x.nii", "x.npz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match="need a plain file"):
            label_map(str(tmp_path / name)) if name == "x.toml" else read_volume(tmp_path / name)


@pytest.mark.parametrize(
    "more",
    [
        {"dataset": {"a": 5}},
        {"dataset": {"a": {"images": []}}},
        {"training": [5]},
        {"file_ending": "/../../*"},
        {"file_ending": 5},
    ],
)
def test_a_dataset_that_names_its_files_otherwise_is_one_line(tmp_path, more):
    put(tmp_path / "dataset.json", json.dumps({"channel_names": {"0": "CT"}, **more}).encode())
    with pytest.raises(ValueError, match=r"dataset\.json"):
        find_cases(tmp_path)


def test_what_we_write_is_read_where_nothing_is_trusted(tmp_path):
    for ending in (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".npz"):
        write_volume(tmp_path / f"x{ending}", Volume(ONES, GRID))
        with untrusted(1000):
            np.testing.assert_array_equal(read_labels(tmp_path / f"x{ending}").array, ONES)
