"""`python -m kidseg_jax export LABELS --to FORMAT --out PLACE`: a label map in another tool's format."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cohort.folder import find_cases, series_drawn_on
from kidseg_jax.cohort.label_maps import label_map, read_structures
from kidseg_jax.evaluation.mesh_3mf import write_3mf
from kidseg_jax.evaluation.mesh_files import Node, write_glb, write_ply, write_stl
from kidseg_jax.evaluation.printable import PrintBounds, PrintReport
from kidseg_jax.export import labels
from kidseg_jax.export.datasets import Item, write_bids, write_kits, write_msd, write_nnunet
from kidseg_jax.export.dicom_seg import write_dicom_seg
from kidseg_jax.export.rtstruct import write_rtstruct
from kidseg_jax.formats import nrrd, seg_nrrd
from kidseg_jax.formats.dicom import read_slices
from kidseg_jax.formats.volumes import ending_of, read_ct
from kidseg_jax.imaging.structures import STRUCTURES, Structure
from kidseg_jax.imaging.volume import Geometry, on_grid

if TYPE_CHECKING:
    from kidseg_jax.evaluation.surfaces import Surface

SINGLE = {
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "seg.nrrd": ".seg.nrrd",
    "itksnap": ".nii.gz",
    "dicom-seg": ".dcm",
    "rtstruct": ".dcm",
    "glb": ".glb",
    "stl": ".stl",
    "ply": ".ply",
    "3mf": ".3mf",
}
MESHES = ("stl", "ply", "glb", "3mf")
DATASETS: dict[str, Callable[..., Path]] = {"nnunet": write_nnunet, "msd": write_msd, "kits": write_kits}


@dataclass(frozen=True)
class Arguments:
    """Write a label map, or the label maps of a folder of cases, in the format of another tool."""

    input: tyro.conf.Positional[Path]
    """A label map (a file, or a DICOM SEG or RTSTRUCT with --ct), or a folder of cases with label maps."""
    to: Literal[
        "nifti",
        "nrrd",
        "seg.nrrd",
        "nnunet",
        "msd",
        "kits",
        "bids",
        "itksnap",
        "dicom-seg",
        "rtstruct",
        "stl",
        "ply",
        "glb",
        "3mf",
    ]
    """Format. nnunet, msd, kits and bids make a folder of cases; stl and ply one file a structure."""
    out: Path
    """Folder for the result."""
    ct: Path | None = None
    """The CT of a single label map: a file, or for dicom-seg and rtstruct the DICOM folder of the CT."""
    label_map: str = "kidseg"
    """What the label values mean: kidseg, kits19, kits21, kits23, kipa22, cect, auto or a .toml file."""
    origin: Literal["manual", "cnn", "cnn_corrected"] = "cnn"
    """Who drew the labels; cnn_corrected becomes SEMIAUTOMATIC in DICOM SEG."""
    description: str = "kidseg"
    """BIDS: what `desc-` says, such as stage3."""
    series: str | None = None
    """Which series of the DICOM folder, when it holds several."""
    smooth: bool = False
    """Surfaces to print: smoothed without shrinking, closed, free of crossings, thick enough and light."""
    wall_mm: float = PrintBounds.wall_mm
    """With --smooth: thinner parts are thickened to this; 0 leaves them."""
    deviation_mm: float = PrintBounds.deviation_mm
    """With --smooth: how far joining triangles may move the surface; 0 keeps them all."""
    triangles: int | None = None
    """With --smooth: at most about so many triangles a structure, whatever --deviation-mm says."""


def run(arguments: Arguments) -> int:
    """Export; 0 when every file is written."""
    if arguments.smooth and arguments.to not in MESHES:
        raise ValueError(f"export: --smooth belongs to {', '.join(MESHES)}, got --to {arguments.to}")
    known = label_map(arguments.label_map, arguments.input).structures
    held = [structure for structure in STRUCTURES if structure.name in known]
    if arguments.to in DATASETS:
        print(DATASETS[arguments.to](arguments.out, items(arguments), held))
    elif arguments.to == "bids":
        print(write_bids(arguments.out, items(arguments), held, arguments.description))
    else:
        for item in items(arguments):
            for path in write_one(arguments, item, held):
                print(path)
    return 0


def items(arguments: Arguments) -> Iterator[Item]:
    """The label maps to export, one at a time, in the values of `structures`; CTs are read where the format
    holds them.
    """
    path = arguments.input
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir():
        if arguments.ct is not None:
            raise ValueError("export: --ct belongs to a single label map, the input is a folder of cases")
        known = label_map(arguments.label_map, path)
        places = [(one.name, one.patient, one.image, one.labels) for one in find_cases(path)]
    else:
        known = label_map(arguments.label_map, path)
        name = path.name[: len(path.name) - len(ending_of(path))]
        places = [(name, name, arguments.ct, path)]
    for name, patient, image, drawn in places:
        if drawn is None:
            raise ValueError(f"export: {name} has no label map")
        ct, grid = None, None
        series = arguments.series or (series_drawn_on(image, drawn) if image is not None else None)
        if image is not None and not ending_of(drawn):
            grid = grid_of(image, series)
        labels = read_structures(drawn, known, grid)
        if arguments.to in DATASETS and image is not None:
            ct = read_ct(image, series=series)
            labels = on_grid(drawn.name, labels, ct.geometry)
        yield Item(name, patient, labels, ct)


def grid_of(image: Path, series: str | None) -> Geometry:
    """The grid of a CT, whose pixels are read only where it is a file."""
    return read_slices(image, series)[1].geometry if image.is_dir() else read_ct(image).geometry


def write_one(arguments: Arguments, item: Item, held: list[Structure]) -> list[Path]:
    """Write one label map in a format of single files; returns what was written."""
    path = arguments.out / f"{item.name}{SINGLE[arguments.to]}"
    if arguments.to == "nifti":
        labels.write_named_nifti(path, item.labels, held)
    elif arguments.to == "nrrd":
        nrrd.write_nrrd(path, item.labels)
    elif arguments.to == "seg.nrrd":
        seg_nrrd.write_segmentation(path, item.labels, held, {"kidseg.origin": arguments.origin})
    elif arguments.to == "itksnap":
        labels.write_itksnap(path, item.labels, held)
    elif arguments.to in ("dicom-seg", "rtstruct"):
        if arguments.ct is None or not arguments.ct.is_dir():
            need = f"{arguments.to} needs --ct, the DICOM folder of the CT"
            raise ValueError(f"export: {need}, got {arguments.ct}")
        write = write_dicom_seg if arguments.to == "dicom-seg" else write_rtstruct
        write(path, item.labels, arguments.ct, held, arguments.origin, arguments.series)
    else:
        return _write_meshes(arguments, item, held)
    return [path]


def _write_meshes(arguments: Arguments, item: Item, held: list[Structure]) -> list[Path]:
    """Surfaces of the structures that have voxels, and a sidecar that says unit and frame, and of printable
    ones how far they moved.
    """
    import numpy as np

    from kidseg_jax.evaluation.printable import printable
    from kidseg_jax.evaluation.surfaces import surface_of

    bounds = PrintBounds(arguments.wall_mm, arguments.deviation_mm, triangles=arguments.triangles)
    surfaces: dict[str, Surface] = {}
    reports: dict[str, PrintReport] = {}
    for structure in held:
        mask = item.labels.array == structure.label
        if not mask.any():
            continue
        if arguments.smooth:
            made, report = printable(mask, item.labels.geometry, bounds)
            surfaces[structure.name], reports[structure.name] = made, report
            print(f"{item.name}: {structure.name}: {report}", file=sys.stderr)
        else:
            surfaces[structure.name] = surface_of(mask, item.labels.geometry)
    if not surfaces:
        raise ValueError(f"export: {item.name} holds no labelled voxel, there is no surface to write")
    colours = {s.name: np.array(s.rgb, np.uint8) for s in held}
    painted = {name: np.tile(colours[name], (len(s.vertices_mm), 1)) for name, s in surfaces.items()}
    if arguments.to in ("glb", "3mf"):
        written = [arguments.out / f"{item.name}.{arguments.to}"]
        if arguments.to == "glb":
            write_glb(written[0], {name: Node(s, painted[name]) for name, s in surfaces.items()})
        else:
            write_3mf(written[0], surfaces, {s.name: s.rgb for s in held})
    else:
        written = []
        for name, surface in surfaces.items():
            path = arguments.out / f"{item.name}_{name}.{arguments.to}"
            if arguments.to == "stl":
                write_stl(path, surface)
            else:
                write_ply(path, surface, rgb=painted[name])
            written.append(path)
    about = {
        "units": "m" if arguments.to == "glb" else "mm",
        "frame": "LPS (x left, y posterior, z superior)",
        "structures": {
            name: {"rgb": colours[name].tolist(), "volume_ml": s.volume_ml}
            | ({"printable": asdict(reports[name])} if name in reports else {})
            for name, s in surfaces.items()
        },
        "files": [path.name for path in written],
    }
    if arguments.smooth:
        about["bounds"] = asdict(bounds)
    if arguments.to == "glb":
        about["frame"] = "glTF (Y up, metres) by its root node, whose children are in mm, LPS"
    sidecar = arguments.out / f"{item.name}_{arguments.to}.json"
    write_text(sidecar, json.dumps(about, indent=2) + "\n")
    return [*written, sidecar]
