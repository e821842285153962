"""What does our reading add to ITK's own? Time and memory of a 512 x 512 x 600 NIfTI file, side by side.

    python benchmarks/reading.py

ITK's own reading is itk.imread; ours is read_ct: header checks, voxels, checksum, HU check. Every reading
is a process of its own, the two take turns at being first, the file lies in the page cache and in a folder
of its own, for ITK asked for X.nii.gz reads an X.nii beside it. Compared are the medians of --repeats: wall
time, and processor time, which a busy machine disturbs less; each process first touches as much memory as the
reading takes. Memory is the most that the process held, less
what it held before, in copies of the voxels. Rows go to benchmarks/results/reading.csv.
"""

import argparse
import json
import mmap
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from rows import about, append_rows

from kidseg_jax.formats.volumes import read_ct, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume

WAYS = ("itk", "kidseg")


def make_ct(slices: int) -> Volume:
    """A body of noise in air, int16: packs about as well as a CT does."""
    rng = np.random.default_rng(0)
    grid = Geometry((slices, 512, 512), (1.0, 0.75, 0.75))
    array = np.full(grid.shape, -1000, np.int16)
    for plane in array:
        plane[100:400, 60:450] = rng.normal(40, 15, (300, 390)).astype(np.int16)
        plane[100:120, 60:450] -= 140
    return Volume(array, grid)


def touch(n_bytes: int) -> None:
    """Take memory in small and in large pages and give it back: a virtual machine's host hands out each page
    at its first touch, which takes longer than the reading.
    """
    small, large = mmap.mmap(-1, n_bytes), np.empty(n_bytes, np.uint8)
    for pages in (np.frombuffer(small, np.uint8), large):
        pages[:: mmap.PAGESIZE] = 1


def read_once(way: str, path: str, slices: int) -> dict[str, float]:
    """Seconds and bytes of one reading in this process; the readers are loaded and used once before."""
    import itk

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.nii.gz"
        write_volume(small, make_ct(2))
        (itk.imread if way == "itk" else read_ct)(str(small))
    touch(3 * 2 * 512 * 512 * slices)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    began, began_cpu = time.perf_counter(), time.process_time()
    held = itk.imread(path) if way == "itk" else read_ct(path)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    array = itk.array_view_from_image(held) if way == "itk" else held.array
    most = resident("VmHWM") - before
    return {"seconds": seconds, "cpu": cpu, "bytes": most, "checksum": zlib.crc32(array.data)}


def resident(field: str) -> float:
    """Bytes of a VmRSS or VmHWM line of this process (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * float(line.split()[1]) for line in lines if line.startswith(field))


def measure(path: Path, slices: int, repeats: int) -> dict[str, Any]:
    """One row: both ways in turn, medians."""
    size = 2 * 512 * 512 * slices
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS[:: 1 if turn % 2 == 0 else -1]:
            command = [sys.executable, __file__, "--way", way, "--path", str(path), "--slices", str(slices)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[way].append(json.loads(done.stdout))
    if len({run["checksum"] for way in WAYS for run in runs[way]}) > 1:
        raise ValueError(f"{path.name}: ITK and kidseg_jax read different voxels")
    seconds = {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS}
    cpu = {way: statistics.median(run["cpu"] for run in runs[way]) for way in WAYS}
    copies = {way: statistics.median(run["bytes"] for run in runs[way]) / size for way in WAYS}
    return {
        "file": path.name,
        "megabytes": round(path.stat().st_size / 1e6),
        "itk_s": seconds["itk"],
        "kidseg_s": seconds["kidseg"],
        "added_percent": 100 * (seconds["kidseg"] / seconds["itk"] - 1),
        "itk_cpu_s": cpu["itk"],
        "kidseg_cpu_s": cpu["kidseg"],
        "added_cpu_percent": 100 * (cpu["kidseg"] / cpu["itk"] - 1),
        "itk_copies": copies["itk"],
        "kidseg_copies": copies["kidseg"],
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slices", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--endings", nargs="+", choices=("nii", "nii.gz"), default=("nii", "nii.gz"))
    parser.add_argument("--way", choices=WAYS, help="read once and print (used by the script itself)")
    parser.add_argument("--path")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(read_once(arguments.way, arguments.path, arguments.slices)))
        return
    with tempfile.TemporaryDirectory() as folder:
        ct = make_ct(arguments.slices)
        for ending in arguments.endings:
            path = Path(folder) / ending / f"ct.{ending}"
            write_volume(path, ct)
            row = {**about(), **measure(path, arguments.slices, arguments.repeats)}
            print(
                ", ".join(
                    f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in row.items()
                )
            )
            append_rows("reading", [row])


if __name__ == "__main__":
    main()
