"""`python -m kidseg_jax export LABELS --to FORMAT --out PLACE`: a label map in another tool's format."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cli.cluster import Cluster, Part, Problem, each, in_order, parted
from kidseg_jax.cli.kept import Kept
from kidseg_jax.cohort.folder import find_cases, series_drawn_on
from kidseg_jax.cohort.label_maps import LabelMap, label_map, read_structures
from kidseg_jax.evaluation.mesh_3mf import write_3mf
from kidseg_jax.evaluation.mesh_files import Node, write_glb, write_ply, write_stl
from kidseg_jax.evaluation.printable import PrintBounds, PrintReport
from kidseg_jax.export import labels
from kidseg_jax.export.datasets import Item, Layout, bids, kits, msd, nnunet
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
DATASETS: dict[str, Callable[..., Layout]] = {"nnunet": nnunet, "msd": msd, "kits": kits}


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
    part: Part = None
    cluster: Cluster = None


def run(arguments: Arguments) -> int:
    """Export; 0 when every file is written. Raises ValueError for the first case that cannot be."""
    if arguments.smooth and arguments.to not in MESHES:
        raise ValueError(f"export: --smooth belongs to {', '.join(MESHES)}, got --to {arguments.to}")
    known = label_map(arguments.label_map, arguments.input)
    held = [structure for structure in STRUCTURES if structure.name in known.structures]
    places = list_places(arguments)
    layout = layout_of(arguments, places, held)
    own = replace(arguments, part=None, cluster=None)
    kept, whole = Kept(arguments.out, own), arguments.part is None
    some = parted(places, arguments.part)
    before: dict[str, Any] = {place.name: kept.of(place.name, place.files) for place in some}
    todo = [place for place in some if before[place.name] is None]
    work = partial(export_case, arguments=own, known=known, held=held, layout=layout)
    results = in_order(each(work, todo, arguments.cluster))
    for place in some:
        made = next(results) if before[place.name] is None else before[place.name]
        if isinstance(made, Problem):
            raise ValueError(made.line)
        if not whole or arguments.cluster is not None:
            kept.keep(place.name, place.files, made)
        print("".join(f"{path}\n" for path in made), end="", flush=True)
    if layout is not None and whole:
        layout.finish()
        print(layout.folder)
    if whole:
        kept.clear()
    elif layout is not None:
        print("the same command without --part writes what is left and the list of cases")
    return 0


class Place(NamedTuple):
    """Where a case to export lies."""

    name: str
    patient: str
    image: Path | None
    labels: Path

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.image, self.labels) if path is not None]


def list_places(arguments: Arguments) -> list[Place]:
    """The label maps to export; ValueError where a case has none."""
    path = arguments.input
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        name = path.name[: len(path.name) - len(ending_of(path))]
        return [Place(name, name, arguments.ct, path)]
    if arguments.ct is not None:
        raise ValueError("export: --ct belongs to a single label map, the input is a folder of cases")
    places = []
    for one in find_cases(path):
        if one.labels is None:
            raise ValueError(f"export: {one.name} has no label map")
        places.append(Place(one.name, one.patient, one.image, one.labels))
    return places


def layout_of(arguments: Arguments, places: Sequence[Place], held: list[Structure]) -> Layout | None:
    """The layout of a format that is a folder of cases; None for one of single files."""
    cases = [(place.name, place.patient) for place in places]
    if arguments.to == "bids":
        return bids(arguments.out, cases, held, arguments.description)
    return DATASETS[arguments.to](arguments.out, cases, held) if arguments.to in DATASETS else None


def export_case(
    place: Place, arguments: Arguments, known: LabelMap, held: list[Structure], layout: Layout | None
) -> list[str]:
    """Write one case; returns the single files that were written."""
    item = read_item(place, arguments, known)
    if layout is None:
        return [str(path) for path in write_one(arguments, item, held)]
    layout.write(item)
    return []


def read_item(place: Place, arguments: Arguments, known: LabelMap) -> Item:
    """A case in the values of `structures`; its CT is read where the format holds CTs."""
    image, ct, grid = place.image, None, None
    series = arguments.series or (series_drawn_on(image, place.labels) if image is not None else None)
    if image is not None and not ending_of(place.labels):
        grid = grid_of(image, series)
    drawn = read_structures(place.labels, known, grid)
    if arguments.to in DATASETS and image is not None:
        ct = read_ct(image, series=series)
        drawn = on_grid(place.labels.name, drawn, ct.geometry)
    return Item(place.name, place.patient, drawn, ct)


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
