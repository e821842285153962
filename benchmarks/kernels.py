"""Is anything faster? The kernels beside their peers: interleaved, same thread count, medians, extra memory.

python benchmarks/kernels.py [--data FOLDER] [--repeats N] [--part labels|surfaces]; peers: the `bench` extra.
Real label maps and annotator pairs are read from --data, KIDSEG_DATA or ../shared/data; made ones of the
same size stand in for absent files. Rows are printed and appended to benchmarks/results/kernels_*.csv
with load, date, machine and commit. On a busy machine look at the processor time of the one-thread rows.
"""

import argparse
import ctypes
import importlib
import importlib.metadata
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rows
from kernel_timing import Task, interleaved, peak_extra_bytes
from kernel_volumes import label_map, mask_pairs, speckled
from scipy import ndimage

from kidseg_jax import kernels

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or idle threads of one peer burn the time of the next

PEERS = ("connected-components-3d", "scipy", "pykdtree", "surface-distance-based-measures", "medpy")
FLOORS = {"surface-distance package": 15.0, "MedPy assd": 5.0, "border + pykdtree": 2.0}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KIDSEG_DATA", beside)))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--part", choices=("labels", "surfaces"))
    arguments = parser.parse_args()
    about = rows.about() | {"peers": " ".join(f"{peer} {importlib.metadata.version(peer)}" for peer in PEERS)}
    print(", ".join(about.values()))
    parts = {"labels": label_rows, "surfaces": surface_rows}
    for part, measure in parts.items():
        if arguments.part in (None, part):
            measured = []
            for row in measure(arguments):
                print(line(row), flush=True)
                measured.append(row | {"load": os.getloadavg()[0]} | about)
            print(f"kept in {rows.append_rows(f'kernels_{part}', measured)}")
    return 0


def label_rows(arguments: argparse.Namespace) -> Iterator[dict]:
    import cc3d  # pyright: ignore[reportMissingImports]

    name, labels = label_map(arguments.data)
    mask = (labels > 0).astype(np.uint8)
    print(f"label map {name}, {labels.shape}, {labels.size / 1e6:.0f} M voxels")

    def measured(question: str, volume: np.ndarray, tasks: dict[str, Task], floor: float) -> Iterator[dict]:
        times = interleaved(tasks, arguments.repeats)
        extra = {task: peak_extra_bytes(run) for task, run in tasks.items()}
        ours = next(iter(times))
        for task, spent in times.items():
            yield {
                "question": question,
                "volume": name,
                "voxels": volume.size,
                "task": task,
                "wall_ms": round(spent.wall_ms, 2),
                "cpu_ms": round(spent.cpu_ms, 2),
                "wall_ratio": round(spent.wall_ms / times[ours].wall_ms, 2),
                "cpu_ratio": round(spent.cpu_ms / times[ours].cpu_ms, 2),
                "peak_extra_share_of_input": round(extra[task] / volume.nbytes, 3),
                "floor": floor,
                "repeats": arguments.repeats,
            }

    volumes = {
        "label, clean mask": (mask, 4.0),
        "label, clean multilabel": (labels, 4.0),
        "label, 0.5 % speckle": (speckled(mask, 0.005), 2.0),
        "label, 5 % speckle": (speckled(mask, 0.05), 1.2),
    }
    for question, (volume, floor) in volumes.items():
        tasks: dict[str, Task] = {
            "kidseg, 1 thread": lambda v=volume: kernels.label_components(v),
            "cc3d": lambda v=volume: cc3d.connected_components(v, connectivity=26),
            "kidseg, 2 threads": lambda v=volume: kernels.label_components(v, threads=2),
        }
        yield from measured(question, volume, tasks, floor)
    written = kernels.label_components(mask)[0]
    assert written.max() == cc3d.connected_components(mask, connectivity=26).max()

    def cc3d_largest() -> np.ndarray:
        kept = np.zeros_like(labels)
        for value in np.unique(labels):
            if value:
                part = cc3d.largest_k((labels == value).astype(np.uint8), k=1, connectivity=26)
                kept[part > 0] = value
        return kept

    assert (kernels.keep_largest(labels) == cc3d_largest()).all()
    keep: dict[str, Task] = {
        "kidseg, 1 thread": lambda: kernels.keep_largest(labels),
        "copy of the volume": labels.copy,
        "cc3d.largest_k per class": cc3d_largest,
    }
    yield from measured("largest component per class", labels, keep, 80.0)
    stats: dict[str, Task] = {
        "kidseg, 1 thread": lambda: kernels.component_stats(labels),
        "cc3d label + statistics": lambda: cc3d.statistics(
            cc3d.connected_components(labels, connectivity=26)
        ),
        "scipy find_objects of the labels": lambda: ndimage.find_objects(written),
    }
    yield from measured("boxes, counts and centroids", labels, stats, 80.0)
    box: dict[str, Task] = {
        "kidseg, 1 thread": lambda: kernels.bounding_box(labels),
        "one read (max)": labels.max,
        "numpy any along axes": lambda: [
            np.flatnonzero(labels.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))
        ],
    }
    yield from measured("bounding box", labels, box, 1 / 1.5)


def surface_rows(arguments: argparse.Namespace) -> Iterator[dict]:
    for name, a, b, spacing in mask_pairs(arguments.data):
        yield from pair_rows(name, a, b, spacing, arguments.repeats)


def pair_rows(
    name: str, a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...], repeats: int
) -> Iterator[dict]:
    from medpy.metric import binary  # pyright: ignore[reportMissingImports]
    from pykdtree.kdtree import KDTree  # pyright: ignore[reportMissingImports]

    surface_distance = surface_distance_package()

    def border_points(mask: np.ndarray) -> np.ndarray:
        return np.argwhere(mask & ~np.asarray(ndimage.binary_erosion(mask), bool)) * spacing

    def kdtree() -> tuple[np.ndarray, np.ndarray]:
        pa, pb = border_points(a), border_points(b)
        return KDTree(pb).query(pa)[0], KDTree(pa).query(pb)[0]

    surfel = kernels.surface_distances(a, b, spacing, "surfel")
    border = kernels.surface_distances(a, b, spacing)
    reference = surface_distance.compute_surface_distances(a, b, spacing)
    averages = surface_distance.compute_average_surface_distance(reference)
    differences = {
        "surface-distance": float(np.abs(np.subtract(surfel.mean_mm(), averages)).max()),
        "MedPy": abs(border.assd_mm() - float(binary.assd(a, b, spacing))),
        "pykdtree": abs(border.assd_mm() - float(np.concatenate(kdtree()).mean())),
    }
    if max(differences.values()) > 1e-6:
        raise SystemExit(f"kernels: {name}: the peers find other numbers, differences in mm {differences}")

    def ours(definition: kernels.Definition, threads: int) -> Task:
        return lambda: kernels.surface_distances(a, b, spacing, definition, threads=threads).rms_mm()

    for threads in (1, 2):
        set_openmp_threads(threads)
        tasks: dict[str, Task] = {
            "kidseg border": ours("border", threads),
            "kidseg surfel": ours("surfel", threads),
            "kidseg triangle": ours("triangle", threads),
            "border + pykdtree": kdtree,
        }
        if threads == 1:
            tasks["MedPy assd"] = lambda: binary.assd(a, b, spacing)
            tasks["surface-distance package"] = lambda: surface_distance.compute_surface_distances(
                a, b, spacing
            )
        times = interleaved(tasks, repeats)
        for task, spent in times.items():
            mine = "kidseg surfel" if task == "surface-distance package" else "kidseg border"
            yield {
                "question": "surface distances",
                "volume": name,
                "voxels": a.size,
                "elements": len(border.a_to_b_mm),
                "threads": threads,
                "task": task,
                "wall_ms": round(spent.wall_ms, 2),
                "cpu_ms": round(spent.cpu_ms, 2),
                "wall_ratio": round(spent.wall_ms / times[mine].wall_ms, 2),
                "cpu_ratio": round(spent.cpu_ms / times[mine].cpu_ms, 2),
                "peak_extra_share_of_input": round(peak_extra_bytes(tasks[task]) / (2 * a.nbytes), 2),
                "floor": FLOORS.get(task),
                "largest_difference_mm": max(differences.values()),
                "repeats": repeats,
            }


def surface_distance_package() -> types.ModuleType:
    """The package as published, with the names that newer NumPy and SciPy have dropped."""
    dropped = "Inf"
    if not hasattr(np, dropped):
        setattr(np, dropped, np.inf)
    names = {"filters": ("correlate",), "morphology": ("distance_transform_edt",)}
    for module, functions in names.items():
        setattr(ndimage, module, types.SimpleNamespace(**{f: getattr(ndimage, f) for f in functions}))
    return importlib.import_module("surface_distance")


def set_openmp_threads(threads: int) -> None:
    """pykdtree's OpenMP runtime reads the environment once; its setter works afterwards."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    for path in {text.split()[-1] for text in maps if "gomp" in text}:
        ctypes.CDLL(path).omp_set_num_threads(threads)


def line(row: dict) -> str:
    name = f"{row['question']} [{row['threads']}]" if "threads" in row else row["question"]
    wall = f"{row['wall_ms']:9.2f} ms{row['wall_ratio']:8.2f}x"
    cpu = f"{row['cpu_ms']:9.2f} ms cpu{row['cpu_ratio']:8.2f}x"
    share = row["peak_extra_share_of_input"]
    return f"{name:30}{row['volume']:22}{row['task']:34}{wall}{cpu}  +{share:.0%} memory"


if __name__ == "__main__":
    sys.exit(main())
