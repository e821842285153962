"""Many broken and hostile files to every reader, more than a test run has time for; says how many it read.

python tests/support/fuzz_readers.py [--seconds 1800] [--examples N] [--seed N] [--names PART] [--keep]:
NIfTI, NRRD, segmentations, MetaImage, npz, DICOM, label maps in TOML and JSON, models and meshes: sound
ones changed by bits, bytes, cuts, numbers, names of files and what is packed inside. A reader may return or
raise ValueError or OSError in one line. Anything else is a failure: a warning, more voxels than MOST_BYTES,
memory beyond MOST_GROWTH, another file opened, 60 seconds in one file. Exit code 1 at the first; its seed is
printed and gives it again with --examples 1. --keep adds the count to benchmarks/results/fuzz.csv.
"""

import argparse
import faulthandler
import gzip
import json
import logging
import os
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dicom_files import write_series
from grids import body_ct
from nifti_files import nifti_bytes

from kidseg_jax.cohort.folder import find_cases
from kidseg_jax.cohort.label_maps import label_map, read_structures
from kidseg_jax.evaluation.mesh_files import Node, write_glb, write_ply, write_stl
from kidseg_jax.evaluation.mesh_reading import read_surface
from kidseg_jax.evaluation.surfaces import surface_of
from kidseg_jax.export.dicom_seg import write_dicom_seg
from kidseg_jax.export.rtstruct import write_rtstruct
from kidseg_jax.formats.raw import untrusted
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import read_labels, read_volume, write_volume
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.network import checkpoint
from kidseg_jax.network.models import trained_on

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import rows  # pyright: ignore[reportMissingImports]

MOST_BYTES = 8 << 20
MOST_GROWTH = 384 << 20
LONGEST_S = 60
GRID = Geometry((5, 6, 7), (3.0, 2.0, 1.5), (-5.0, -6.0, 7.0))
LABELS = np.random.default_rng(0).integers(0, 6, GRID.shape, np.uint8)
TREE = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3, np.float32)}
NUMBERS = (0, 1, -1, 2, 3, 7, 127, 255, 256, 65535, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 62, 10**30)
WORDS = (
    *map(str, NUMBERS),
    *(
        "1e308",
        "-1e308",
        "1e-308",
        "nan",
        "inf",
        "0.5",
        "",
        "none",
        "()",
        "(1,2)",
        "%d",
        "\\",
        "'",
        '"',
        "\0",
    ),
    *("../outside.raw", "outside.fifo", "/etc/passwd", "/proc/self/environ", "linked.raw", "LIST", "x.raw"),
    *("LOCAL", "raw", "gzip", "bzip2", "hex", "ascii", "zlib", "little", "big", "double", "uchar", "block"),
    *("MET_DOUBLE", "MET_UCHAR", "MET_OTHER", "True", "False", "domain", "list", "vector", "um", "inch"),
)
LINES = (
    *(
        "data file: ../outside.raw",
        "data file: outside.fifo",
        "datafile: /etc/passwd",
        "data file: linked.raw",
    ),
    *("data file: x%d.raw 1 9 1", "data file: LIST", "data file: x.raw", "line skip: 3", "byte skip: -1"),
    *(
        "byte skip: 1900000000",
        'space units: "um" "um" "um"',
        "sizes: 9 9 9",
        "encoding: raw",
        "dimension: 4",
    ),
    *("ElementDataFile = ../outside.raw", "ElementDataFile = outside.fifo", "ElementDataFile = LIST"),
    *("CompressedData = True", "CompressedDataSize = 1", "HeaderSize = -1", "HeaderSize = 99", "NDims = 4"),
    *("BinaryData = False", "DistanceUnits = cm", "DimSize = 1100 1100 1000", "mtllib ../outside.raw"),
    *("f 1 2 3 4", "f 1/1 -1 99999", "element vertex 99999999", "format ascii 1.0", "[labels]", "labels = 5"),
)


class Seed(NamedTuple):
    """A sound input: the file that is changed, its bytes, where packed data start, and what reads it.

    beside: files of the same folder that stay as they are.
    """

    name: str
    content: bytes
    read: Callable[[Path], Any]
    packed_at: int | None = None
    beside: tuple[tuple[str, bytes], ...] = ()


def make_seeds(folder: Path) -> list[Seed]:
    """One sound file or more of every format."""
    labels, ct = Volume(LABELS, GRID), Volume(LABELS.astype(np.int16) * 100 - 200, GRID)
    seeds = []

    def written(
        name: str, read: Callable[[Path], Any], write: Callable[[Path], Any], mark: bytes = b""
    ) -> None:
        write(folder / name)
        content = (folder / name).read_bytes()
        at = content.index(mark) + len(mark) if mark else 0 if content[:2] == b"\x1f\x8b" else None
        seeds.append(Seed(name, content, read, at))

    for name, mark in (
        ("x.nii.gz", b""),
        ("x.nii", b""),
        ("x.nrrd", b"\n\n"),
        ("x.mha", b"LOCAL\n"),
        ("x.npz", b""),
    ):
        written(name, read_volume, lambda path: write_volume(path, ct), mark)
        written(name, read_labels, lambda path: write_volume(path, labels), mark)
    written("x.seg.nrrd", read_segmentation, lambda path: write_volume(path, labels), b"\n\n")
    seeds.append(
        Seed("x.nii", nifti_bytes(LABELS.astype(np.float32), slope=2.0, intercept=-3.0), read_volume)
    )
    voxels = ct.array.tobytes()
    beside = ("x.raw", voxels)
    nrrd = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nsizes: 7 6 5\n"
        "space directions: (2,0,0) (0,2,0) (0,0,3)\n"
        "kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: (1,2,3)\n"
    )
    layers = (
        "NRRD0004\ntype: uchar\ndimension: 4\nspace: RAS\nsizes: 2 7 6 5\n"
        "space directions: none (2,0,0) (0,2,0) (0,0,3)\nkinds: list domain domain domain\nencoding: raw\n"
        "Segment0_ID:=a\nSegment0_Name:=parenchyma\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
        "Segment1_ID:=b\nSegment1_Name:=rcc\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n"
        "Segment1_Color:=1 0 0\n\n"
    )
    meta = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nOffset = 1 2 3\n"
        "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nElementSpacing = 1 2 3\nDimSize = 7 6 5\n"
        "ElementType = MET_SHORT\n"
    )
    text = " ".join(map(str, ct.array.ravel()))
    two = np.stack([LABELS == 1, LABELS == 2], axis=-1).astype(np.uint8).tobytes()
    seeds += [
        Seed("x.nhdr", f"{nrrd}data file: x.raw\n".encode(), read_volume, None, (beside,)),
        Seed("x.nrrd", f"{nrrd.replace('raw', 'ascii')}\n{text}".encode(), read_volume),
        Seed("x.seg.nrrd", layers.encode() + two, read_segmentation),
        Seed("x.mhd", f"{meta}ElementDataFile = x.raw\n".encode(), read_volume, None, (beside,)),
        Seed("x.mha", f"{meta}ElementDataFile = LOCAL\n".encode() + voxels, read_volume),
    ]
    series = write_series(folder / "series", body_ct(Geometry((3, 8, 9), (2.5, 0.75, 0.5))))
    first, *others = (path.read_bytes() for path in series)
    rest = tuple((f"IM{i}", content) for i, content in enumerate(others))
    seeds += [Seed("series/IM", first, lambda path: read_volume(path.parent), None, rest)] * 2
    grid = read_volume(folder / "series").geometry
    drawn = Volume(np.random.default_rng(1).integers(0, 6, grid.shape, np.uint8), grid)
    for name, write in (("x.seg", write_dicom_seg), ("x.rtstruct", write_rtstruct)):
        written(
            name,
            lambda path: read_structures(path, label_map("kidseg"), grid),
            lambda path, write=write: write(path, drawn, folder / "series", STRUCTURES, "manual"),
        )
    written(
        "x.safetensors",
        read_model,
        lambda path: checkpoint.save(path, TREE, {"coarse_net": {}, "fine_net": {}}),
    )
    toml = '[labels]\n1 = "artery"\n2 = "vein"\n4 = "parenchyma"\n5 = "background"\n'
    dataset = {
        "labels": {"background": 0, "parenchyma": 1, "rcc": 2},
        "channel_names": {"0": "CT"},
        "file_ending": ".nii.gz",
    }
    pairs = {**dataset, "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]}
    seeds.append(Seed("map.toml", toml.encode(), lambda path: label_map(str(path))))
    for one in (dataset, pairs, {**dataset, "dataset": {"a": {"images": ["a.nrrd"], "label": "b.nrrd"}}}):
        seeds.append(
            Seed(
                "dataset.json",
                json.dumps(one).encode(),
                read_dataset,
                None,
                (("imagesTr/a_0000.nii.gz", b"x"),),
            )
        )
    surface = surface_of(np.pad(np.ones((3, 3, 3), bool), 1), Geometry((5, 5, 5), (1.0, 1.0, 1.0)))
    written("x.ply", read_surface, lambda path: write_ply(path, surface))
    written("x.stl", read_surface, lambda path: write_stl(path, surface))
    rgb = np.zeros((len(surface.vertices_mm), 3), np.uint8)
    written("x.glb", read_surface, lambda path: write_glb(path, {"a": Node(surface, rgb)}))
    places = [" ".join(map(str, place)) for place in surface.vertices_mm.tolist()]
    corners = (surface.triangles + 1).tolist()
    obj = (
        "# SPACE=RAS\n"
        + "".join(f"v {p}\n" for p in places)
        + "".join("f {} {} {}\n".format(*c) for c in corners)
    )
    off = f"OFF\n{len(places)} {len(corners)} 0\n" + "\n".join(
        [*places, *("3 {} {} {}".format(*c) for c in surface.triangles.tolist())]
    )
    return [
        *seeds,
        Seed("x.obj", obj.encode(), read_surface),
        Seed("x.off", f"{off}\n".encode(), read_surface),
    ]


def read_model(path: Path) -> None:
    trained_on(path)
    checkpoint.load(path, TREE)


def read_dataset(path: Path) -> None:
    """Every file that a dataset.json names lies in its folder."""
    for case in find_cases(path.parent):
        for file in (case.image, case.labels):
            assert file is None or file.resolve().is_relative_to(path.parent.resolve()), f"{file} is outside"
    label_map("auto", path.parent)


def changed(rng: np.random.Generator, seed: Seed) -> bytes:
    """The bytes of a seed with one change or a few, in its header, its data or what is packed in them."""
    content = seed.content
    if seed.packed_at is not None and rng.random() < 0.5:
        head, packed = content[: seed.packed_at], content[seed.packed_at :]
        gz = packed[:2] == b"\x1f\x8b"
        held = mutated(rng, gzip.decompress(packed) if gz else zlib.decompress(packed))
        if rng.random() < 0.1:
            held += bytes(int(rng.integers(1 << 26)))
        content = head + (gzip.compress(held, 1) if gz else zlib.compress(held, 1))
        if rng.random() < 0.5:
            return content
    return mutated(rng, content)


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    for _ in range(int(rng.integers(1, 5))):
        content = CHANGES[int(rng.integers(len(CHANGES)))](rng, content) or b"\n"
    return content


def _at(rng: np.random.Generator, content: bytes) -> int:
    """A place in a file, more often in its first 400 bytes."""
    return int(rng.integers(min(len(content), 400 if rng.random() < 0.6 else len(content))))


def _bit(rng: np.random.Generator, content: bytes) -> bytes:
    at = _at(rng, content)
    return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]


def _cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: _at(rng, content)]


def _moved(rng: np.random.Generator, content: bytes) -> bytes:
    """A part removed, doubled or filled with anything."""
    start, n = _at(rng, content), int(rng.integers(1, 64))
    part = (b"", content[start : start + n] * 2, rng.bytes(n), bytes(n))[int(rng.integers(4))]
    return content[:start] + part + content[start + n :]


def _field(rng: np.random.Generator, content: bytes) -> bytes:
    """A number of a binary header."""
    at, order = _at(rng, content), "<>"[int(rng.integers(2))]
    kind = "bhiqfd"[int(rng.integers(6))]
    value = NUMBERS[int(rng.integers(len(NUMBERS)))]
    size = struct.calcsize(kind)
    packed = (
        struct.pack(order + kind, float(value) * float(rng.choice([1, np.nan, np.inf, 1e-40])))
        if kind in "fd" and value < 1 << 32
        else (value % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little")
    )
    return content[:at] + packed + content[at + size :]


def _word(rng: np.random.Generator, content: bytes) -> bytes:
    """A number or a word of the text at the start, replaced by another that somebody could write there."""
    words = [
        m.span()
        for m in re.finditer(rb"-?\d[\d.e+]*" if rng.random() < 0.6 else rb"[^\s:=]+", content[:4000])
    ]
    start, end = words[int(rng.integers(len(words)))] if words else (0, 0)
    return content[:start] + WORDS[int(rng.integers(len(WORDS)))].encode() + content[end:]


def _line(rng: np.random.Generator, content: bytes) -> bytes:
    """A line of the text at the start left out, doubled, added or put elsewhere."""
    lines = content[:4000].split(b"\n")
    i, j = rng.integers(len(lines), size=2)
    line = lines[i] if rng.random() < 0.5 else LINES[int(rng.integers(len(LINES)))].encode()
    if rng.random() < 0.3:
        del lines[i]
    if rng.random() < 0.8:
        lines.insert(int(j), line)
    return b"\n".join(lines) + content[4000:]


def _deep(rng: np.random.Generator, content: bytes) -> bytes:
    """Brackets in brackets, more than a parser can follow."""
    at, bracket = _at(rng, content), (b"[", b"{", b"(", b'{"a":')[int(rng.integers(4))]
    return content[:at] + bracket * int(10 ** rng.uniform(1, 5)) + content[at:]


CHANGES = (_bit, _bit, _cut, _moved, _field, _field, _word, _word, _line, _line, _deep)


class Watch:
    """Files that are opened while it is armed, by Python; other processes and imports are not looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.armed, self.outside = str(folder.resolve()), False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.armed and isinstance(arguments[0], (str, bytes, os.PathLike)):
            place = os.path.realpath(os.fsdecode(arguments[0]))
            if not place.startswith(self.folder + os.sep) and place != self.folder:
                self.outside.append(place)


def example(number: int, seeds: list[Seed], watch: Watch) -> str:
    """One changed file, read; what came of it. Raises AssertionError for what no file may do."""
    rng = np.random.default_rng(number)
    seed = seeds[int(rng.integers(len(seeds)))]
    content = changed(rng, seed)
    given = Path(watch.folder)
    path = given / seed.name
    for name, held in ((seed.name, content), *seed.beside):
        place = path.parent / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(held)
    if not (given / "linked.raw").is_symlink():
        (given / "linked.raw").symlink_to(given.parent / "outside.raw")
        os.mkfifo(given / "outside.fifo")
    before, start = set(given.rglob("*")), time.monotonic()
    watch.armed = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if rng.random() < 0.5:
                with untrusted(MOST_BYTES):
                    found = seed.read(path)
            else:
                found = seed.read(path)
        said = "read"
    except (ValueError, OSError) as error:
        found, said = None, "refused"
        assert 0 < len(str(error)) < 1000 and "\n" not in str(error), f"no line: {error!r:.300}"
    finally:
        watch.armed = False
        for place in (path, *(path.parent / name for name, _ in seed.beside)):
            place.unlink(missing_ok=True)
    assert not watch.outside, f"opened outside: {watch.outside}"
    assert not set(given.rglob("*")) - before, f"left there: {set(given.rglob('*')) - before}"
    assert time.monotonic() - start < LONGEST_S, "too slow"
    held = (found.array,) if isinstance(found, Volume) else found if isinstance(found, tuple) else ()
    n_bytes = sum(one.nbytes for one in held if isinstance(one, np.ndarray))
    assert n_bytes <= MOST_BYTES, f"{n_bytes} bytes"
    return f"{seed.name.rsplit('/', 1)[0]} {said}"


def run(folder: Path, asked: argparse.Namespace) -> tuple[int, Counter, str]:
    """How many examples passed, what came of them, and what was wrong with the one behind, empty for none."""
    given = folder / "given"
    given.mkdir()
    (folder / "outside.raw").write_bytes(bytes(210 * 2))
    seeds = [seed for seed in make_seeds(folder) if asked.names in seed.name]
    watch = Watch(given)
    os.environ["KIDSEG_MAX_GIB"] = str(MOST_BYTES / (1 << 30))
    for seed in seeds:
        sound(given, seed)
    rss, start, came = peak(), time.monotonic(), Counter()
    for number in range(asked.seed, asked.seed + asked.examples):
        if time.monotonic() - start > asked.seconds:
            return number - asked.seed, came, ""
        faulthandler.dump_traceback_later(2 * LONGEST_S, exit=True)
        (folder / "number").write_text(str(number))
        try:
            came[example(number, seeds, watch)] += 1
            assert peak() - rss < MOST_GROWTH, f"memory grew by {peak() - rss} bytes"
        except BaseException:
            return number - asked.seed, came, f"seed {number} failed\n{traceback.format_exc()}"
    faulthandler.cancel_dump_traceback_later()
    return asked.examples, came, ""


def sound(given: Path, seed: Seed) -> None:
    """The seed itself is read; what readers import on the way is imported now."""
    path = given / seed.name
    for name, held in ((seed.name, seed.content), *seed.beside):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_bytes(held)
    try:
        seed.read(path)
    except ValueError as error:
        if seed.name not in ("x.safetensors", "dataset.json"):
            raise AssertionError(f"{seed.name} is not sound: {error}") from error
    for name in (seed.name, *(name for name, _ in seed.beside)):
        (path.parent / name).unlink()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--examples", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", default="", help="only seeds whose file name has this part")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    faulthandler.enable()
    logging.disable()
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as name:
        print(f"{name}/number holds the seed at work, also after a crash", file=sys.stderr)
        passed, came, wrong = run(Path(name), arguments)
    took = {"seconds": round(time.perf_counter() - start), "cpu_seconds": round(time.process_time() - cpu)}
    print(f"{passed} examples passed in {took['seconds']} s, {took['cpu_seconds']} s of processor time")
    print(f"peak {peak() / 1e6:.0f} MB; " + ", ".join(f"{what} {n}" for what, n in sorted(came.items())))
    if wrong:
        print(f"fuzz_readers: {wrong}")
    if arguments.keep:
        row = rows.about() | {"what": "readers", "first_seed": arguments.seed, "examples": passed}
        print(f"kept in {rows.append_rows('fuzz', [row | took | {'failures': int(bool(wrong))}])}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
