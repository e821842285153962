"""Questions about the surfaces of two people's masks of a kidney, asked of the kernels and of their peers."""

import ctypes
import functools
import importlib
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.kernels.floors import KDTREE, MEDPY, PACKAGE
from benchmarks.kernels.question import Question
from benchmarks.kernels.timing import Task
from benchmarks.kernels.volumes import mask_pairs
from kidseg_jax import kernels


def questions(data: Path) -> Iterator[Question]:
    """At 1 and at 2 threads; SystemExit where a peer finds other numbers for its definition."""
    for name, a, b, spacing in mask_pairs(data):
        yield from pair_questions(name, a, b, spacing)


def pair_questions(name: str, a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> Iterator[Question]:
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
    worst = max(differences.values())
    print(f"{name}: {len(border.a_to_b_mm)} border voxels, largest difference {worst:.1g} mm")

    def ours(definition: kernels.Definition, threads: int) -> Task:
        def task() -> tuple[kernels.SurfaceDistances, float]:
            found = kernels.surface_distances(a, b, spacing, definition, threads=threads)
            return found, found.rms_mm()

        return task

    for threads in (1, 2):
        tasks: dict[str, Task] = {
            "kidseg border": ours("border", threads),
            "kidseg surfel": ours("surfel", threads),
            "kidseg triangle": ours("triangle", threads),
            KDTREE: kdtree,
        }
        if threads == 1:
            tasks[MEDPY] = lambda: binary.assd(a, b, spacing)
            tasks[PACKAGE] = lambda: surface_distance.compute_surface_distances(a, b, spacing)
        prepare = functools.partial(set_openmp_threads, threads)
        yield Question(f"surface distances [{threads}]", name, a.size, 2 * a.nbytes, tasks, prepare)


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
