"""`compare`: how far the surfaces of two label maps or meshes lie apart, in three named ways."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.evaluation.mesh_files import write_comparison
from kidseg_jax.evaluation.mesh_reading import MESH_ENDINGS, read_surface
from kidseg_jax.formats.volumes import read_labels

if TYPE_CHECKING:
    from kidseg_jax.evaluation.surfaces import Surface


@dataclass(frozen=True)
class Arguments:
    """Surface distances from A to B in mm: label maps in any format, or meshes (PLY, STL, OBJ, GLB, OFF).

    Points are in LPS. A mesh file is taken as mm, in the frame that its header states (SPACE=RAS or LPS),
    else in LPS; a GLB is in metres, Y up, by its standard, and turned back. With --out, writes
    comparison.json, A's surface coloured by signed distance (PLY and GLB) and, where they are watertight,
    both as STL.
    """

    a: tyro.conf.Positional[Path]
    """The first surface: a label map or a mesh."""
    b: tyro.conf.Positional[Path]
    """The second surface, that distances are measured to."""
    label: int | None = None
    """Label value to compare in label maps; every value above 0 together where it is not given."""
    points: int = 17_650
    """Vertices of A drawn for the two sampled measures (the paper's number)."""
    seed: int = 0
    """Seed of the drawing."""
    limit_mm: float = 5.0
    """Distance in mm that gets the full colour."""
    out: Path | None = None
    """Folder for the files; nothing is written where it is not given."""


def run(arguments: Arguments) -> int:
    """Print the three measures; write the files where asked."""
    from dataclasses import asdict

    from kidseg_jax.evaluation.meshes import compare_surfaces, comparison_table
    from kidseg_jax.evaluation.table import to_terminal

    if arguments.limit_mm <= 0:
        raise ValueError(f"compare: --limit-mm must be positive, got {arguments.limit_mm}")
    first, second = (load(path, arguments.label) for path in (arguments.a, arguments.b))
    measures = compare_surfaces(first, second, points=arguments.points, seed=arguments.seed)
    title = f"{arguments.a.name} to {arguments.b.name}, mm"
    print(to_terminal([comparison_table(measures, title)]))
    if arguments.out is None:
        return 0
    written = write_comparison(arguments.out, first, second, limit_mm=arguments.limit_mm)
    data = {
        "a": arguments.a.name,
        "b": arguments.b.name,
        "label": arguments.label,
        "units": "mm",
        "frame": "LPS",
        "volume_a_ml": first.volume_ml if first.is_watertight else None,
        "volume_b_ml": second.volume_ml if second.is_watertight else None,
        "watertight_a": first.is_watertight,
        "watertight_b": second.is_watertight,
        "measures": [asdict(measure) for measure in measures],
    }
    write_text(arguments.out / "comparison.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    print(f"{arguments.out}: comparison.json, {', '.join(written)}")
    return 0


def load(path: Path, label: int | None) -> "Surface":
    """The surface of a mesh file, or of a label map's value (all above 0 where label is None)."""
    from kidseg_jax.evaluation.surfaces import surface_of

    if path.suffix.lower() in MESH_ENDINGS:
        return read_surface(path)

    labels = read_labels(path)
    mask = labels.array > 0 if label is None else labels.array == label
    if not mask.any():
        what = "any label" if label is None else f"label {label}"
        raise ValueError(f"{path}: need a label map with {what}, got none of it")
    return surface_of(mask, labels.geometry)
