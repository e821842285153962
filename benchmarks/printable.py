"""Printable models of phantom kidneys and real label maps: what a checker that is not ours finds in them.

Every structure of every kidney is written as STL and read back by PyMeshLab (VCG library), which counts open
and non-manifold edges, non-manifold vertices and triangles that cross, and by trimesh, which says whether it
is watertight. Seconds are those of one structure; a row `whole kidney` has their sum. `--compare` decimates
the smoothed surfaces with Open3D, manifold3d and libigl instead.

Run: `python benchmarks/printable.py --seed 2101` and `--real FOLDER`; needs pymeshlab, trimesh, manifold3d,
libigl (the extra `bench`).
"""

import argparse
import importlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rows import about, append_rows, say

from kidseg_jax.cohort.label_maps import label_map, read_structures
from kidseg_jax.cohort.split import split_kidneys
from kidseg_jax.config import COHORTS
from kidseg_jax.evaluation import printable as module
from kidseg_jax.evaluation.decimation import decimated
from kidseg_jax.evaluation.mesh_files import write_stl
from kidseg_jax.evaluation.printable import PrintBounds, printable
from kidseg_jax.evaluation.soundness import crossing_triangles, pieces
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface, surface_of
from kidseg_jax.formats.volumes import read_labels
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Mask, Volume, canonical
from kidseg_jax.phantom.cohort import make_case

KIDNEY_VALUES = {  # of maps of one kidney a value: the value and what it is called
    "kits23_annotators": {1: "kidney"},
    "evalseg_left_kidney": {3: "left kidney"},
    "totalsegmentator_ct": {2: "right kidney", 3: "left kidney"},
    "real_ct": {1: "right kidney", 2: "left kidney"},
}


class Part(NamedTuple):
    source: str
    kidney: str
    structure: str
    mask: Mask
    labels: Volume


def phantoms(seed: int, cohort: str) -> Iterator[Part]:
    """Every structure of every kidney of a phantom cohort."""
    config = COHORTS[cohort]
    for index in range(config.patients):
        case = make_case(config, seed, index)
        assert case.labels is not None
        yield from parts(f"phantom {cohort} {seed}", case.name, canonical(case.labels))


def real(folder: Path) -> Iterator[Part]:
    """Every structure of every kidney of the label maps of a folder, known by the names of its folders."""
    for path in sorted((folder / "kits19_labels").glob("*.nii.gz")):
        yield from parts("kits19_labels", path.name, canonical(read_structures(path, label_map("kits19"))))
    for source, values in KIDNEY_VALUES.items():
        for path in sorted((folder / source).glob("*.nii.gz")):
            if path.name in ("example_ct.nii.gz", "example_ct_sm.nii.gz"):
                continue
            labels = read_labels(path)
            for value, name in values.items():
                if (labels.array == value).any():
                    yield Part(source, f"{path.name} {name}", "kidney", labels.array == value, labels)


def parts(source: str, name: str, labels: Volume) -> Iterator[Part]:
    split = split_kidneys(labels.array, labels.spacing_mm)
    for number in range(1, len(split.boxes) + 1):
        for structure in STRUCTURES:
            mask = (split.owner == number) & (labels.array == structure.label)
            if mask.any():
                yield Part(source, f"{name} {number}", structure.name, mask, labels)


def checked(path: Path) -> dict[str, int]:
    """What PyMeshLab and trimesh say of a file."""
    import trimesh

    meshes: Any = importlib.import_module("pymeshlab").MeshSet()
    meshes.load_new_mesh(str(path))
    meshes.meshing_remove_duplicate_vertices()
    found = meshes.get_topological_measures()
    meshes.compute_selection_by_self_intersections_per_face()
    mesh: Any = trimesh.load(path, force="mesh")
    return {
        "watertight": int(mesh.is_watertight and mesh.is_winding_consistent),
        "open_edges": int(found["boundary_edges"]),
        "non_manifold_edges": int(found["non_two_manifold_edges"]),
        "non_manifold_vertices": int(found["non_two_manifold_vertices"]),
        "crossing": int(meshes.current_mesh().selected_face_number()),
    }


def measured(part: Part, folder: Path) -> dict[str, Any]:
    start = time.perf_counter()
    surface, report = printable(part.mask, part.labels.geometry, PrintBounds())
    seconds = time.perf_counter() - start
    path = folder / "one.stl"
    write_stl(path, surface)
    return {
        "source": part.source,
        "kidney": part.kidney,
        "structure": part.structure,
        "seconds": seconds,
        "triangles": report.triangles,
        "pieces": report.pieces,
        "moved_rms_mm": report.moved_rms_mm,
        "moved_max_mm": report.moved_max_mm,
        "volume_ml": report.volume_ml,
        "volume_change_percent": report.volume_change_percent,
        "thinnest_mm": report.thinnest_mm if report.thinnest_mm is not None else "",
        "smoothing": report.smoothing,
        **checked(path),
    }


def compared(part: Part) -> Iterator[dict[str, Any]]:
    """The smoothed surface with half its triangles, by three libraries."""
    import fast_simplification  # pyright: ignore[reportMissingImports]
    import igl  # pyright: ignore[reportMissingImports]
    import manifold3d

    raw = surface_of(part.mask, part.labels.geometry)
    smooth = module._smoothed(raw, part.labels.geometry, module.PASSES[0])
    half = len(smooth.triangles) // 2

    def with_igl() -> Surface:
        found = igl.qslim(smooth.vertices_mm, smooth.triangles, half)
        places, triangles = [one for one in found if isinstance(one, np.ndarray)][:2]
        return Surface(places, triangles.astype(np.int64))

    def with_manifold() -> Surface:
        mesh = manifold3d.Mesh64(smooth.vertices_mm, smooth.triangles.astype(np.uint64))
        made = manifold3d.Manifold(mesh).simplify(0.1).to_mesh64()
        return Surface(np.array(made.vert_properties), np.array(made.tri_verts).astype(np.int64))

    def with_fast() -> Surface:
        found = fast_simplification.simplify(smooth.vertices_mm, smooth.triangles.astype(np.int32), 0.5)
        return Surface(found[0].astype(float), found[1].astype(np.int64))

    def with_open3d() -> Surface:
        mesh = module._legacy(smooth).simplify_quadric_decimation(half)
        return Surface(np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64))

    makers = {
        "meshoptimizer": lambda: decimated(smooth, 0, half),
        "fast-simplification": with_fast,
        "open3d": with_open3d,
        "igl": with_igl,
        "manifold3d": with_manifold,
    }
    for name, make in makers.items():
        start = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - start
        yield {
            "library": name,
            "source": part.source,
            "kidney": part.kidney,
            "structure": part.structure,
            "seconds": seconds,
            "triangles_before": len(smooth.triangles),
            "triangles": len(made.triangles),
            "deviation_mm": float(DistanceTo(made).unsigned(smooth.vertices_mm).max()),
            "watertight": int(made.is_watertight),
            "pieces_lost": pieces(smooth)[0] - pieces(made)[0],
            "crossing": len(crossing_triangles(made)),
        }


def summary(rows: list[dict[str, Any]]) -> None:
    """Print what must hold, over all rows and over whole kidneys."""
    kidneys: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (row["source"], row["kidney"])
        kidneys[key] = kidneys.get(key, 0.0) + row["seconds"]
    walls = [row["thinnest_mm"] for row in rows if row["thinnest_mm"] != ""]
    say(
        {
            "kidneys": len(kidneys),
            "meshes": len(rows),
            "watertight_percent": 100 * float(np.mean([row["watertight"] for row in rows])),
            "open_edges": sum(row["open_edges"] for row in rows),
            "non_manifold_edges": sum(row["non_manifold_edges"] for row in rows),
            "non_manifold_vertices": sum(row["non_manifold_vertices"] for row in rows),
            "crossing": sum(row["crossing"] for row in rows),
            "largest_rms_mm": max(row["moved_rms_mm"] for row in rows),
            "largest_volume_change_percent": max(abs(row["volume_change_percent"]) for row in rows),
            "thinnest_mm": min(walls, default=0.0),
            "median_s_a_kidney": float(np.median(list(kidneys.values()))),
            "slowest_s_a_kidney": max(kidneys.values()),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2101)
    parser.add_argument("--cohort", default="demo", choices=sorted(COHORTS))
    parser.add_argument("--real", type=Path, help="folder of real label maps, in place of phantoms")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--keep", action="store_true", help="add the rows to benchmarks/results")
    arguments = parser.parse_args()
    found = real(arguments.real) if arguments.real else phantoms(arguments.seed, arguments.cohort)
    rows: list[dict[str, Any]] = []
    printable(np.ones((9, 9, 9), bool), Geometry((9, 9, 9), (1.0, 1.0, 1.0)))  # loads the libraries
    with tempfile.TemporaryDirectory() as folder:
        for part in found:
            for row in compared(part) if arguments.compare else [measured(part, Path(folder))]:
                say(row)
                rows.append({**row, **about()})
    if not arguments.compare:
        summary(rows)
    if arguments.keep:
        append_rows("printable_libraries" if arguments.compare else "printable", rows)


if __name__ == "__main__":
    main()
