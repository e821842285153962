"""`python -m kidseg_jax info DIR`: what a folder of cases holds, and what is wrong with it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from kidseg_jax.cli.cluster import Cluster, Part, Problem, each, in_order, parted
from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import CaseFiles, find_cases, find_images, read_drawn
from kidseg_jax.cohort.label_maps import LabelMap, label_map, read_structures
from kidseg_jax.formats.nifti import Orientation
from kidseg_jax.formats.volumes import hounsfield, read_with_notes
from kidseg_jax.imaging.measure import touched_faces, volumes_ml
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.imaging.volume import Volume, canonical, orientation

HEADINGS = ("case", "patient", "x y z", "mm", "axes", "kidneys", *(f"{name} ml" for name in NAMES))


@dataclass(frozen=True)
class Arguments:
    """A row for each case of a folder: size, spacing, orientation, kidneys, volumes, problems. Exit 1 if a
    case is unusable.
    """

    input: tyro.conf.Positional[Path]
    """A folder of cases, or one CT (a file or DICOM folder)."""
    only_labels: bool = False
    """The files are label maps without CTs."""
    label_map: str = "kidseg"
    """What the label values mean: kidseg, kits19, kits21, kits23, kipa22, cect, auto or a .toml file."""
    series: str | None = None
    """Which series of a DICOM folder, when it holds several."""
    orientation: Annotated[Orientation | None, tyro.conf.arg(aliases=["--form"])] = None
    """Which orientation of a NIfTI file to believe, when they contradict each other."""
    part: Part = None
    cluster: Cluster = None


@dataclass
class Row:
    """One case: the cells of its row, what is odd about it, and why it cannot be used, if so."""

    cells: list[str]
    notes: list[str] = field(default_factory=list)
    refused: str = ""

    @classmethod
    def of(cls, files: CaseFiles, refused: str = "") -> "Row":
        """The row of a case of which only the name is known."""
        return cls([files.name, files.patient, *[""] * (len(HEADINGS) - 2)], refused=refused)


def run(arguments: Arguments) -> int:
    """Print the table and the problems; 0 when every case can be used, 1 when one cannot."""
    files, labels = list_cases(arguments)
    files = parted(files, arguments.part)
    work = partial(describe, labels=labels, arguments=arguments)
    made = in_order(each(work, files, arguments.cluster))
    rows = [
        Row.of(one, row.line) if isinstance(row, Problem) else row
        for one, row in zip(files, made, strict=True)
    ]
    print(table([row.cells for row in rows]))
    for row in rows:
        for note in row.notes:
            print(f"{row.cells[0]}: {note}")
    refused = [row for row in rows if row.refused]
    for row in refused:
        print(f"{row.cells[0]}: cannot be used: {row.refused}")
    patients = len({one.patient for one in files})
    print(f"{len(files)} cases of {patients} patients, {len(files) - len(refused)} can be used")
    return 1 if refused else 0


def list_cases(arguments: Arguments) -> tuple[Sequence[CaseFiles], LabelMap]:
    """The cases of the input and what their label values mean; a folder without label maps is a folder of
    CTs.
    """
    path = arguments.input
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    labels = label_map(arguments.label_map, path if path.is_dir() else path.parent)
    try:
        return find_cases(path), labels
    except (ValueError, FileNotFoundError):
        return [CaseFiles(name, name, image, None) for name, image in find_images(path)], labels


def describe(files: CaseFiles, labels: LabelMap, arguments: Arguments) -> Row:
    """One case's row; what goes wrong while reading it is its reason to be refused."""
    row = Row.of(files)
    try:
        ct, notes = read_with_notes(files.image, series=arguments.series, orientation=arguments.orientation)
        row.notes += notes
        grid = ct.geometry
        row.cells[2] = " ".join(str(n) for n in grid.shape[::-1])
        row.cells[3] = " ".join(f"{s:.3g}" for s in grid.spacing_mm[::-1])
        row.cells[4] = orientation(grid)
        if arguments.only_labels:
            _volumes(row, read_structures(files.image, labels), labels.structures)
            return row
        ct = ct.with_array(hounsfield(files.image.name, ct.array))
        if files.labels is None:
            row.notes.append("no label map")
        else:
            _describe_labels(row, files, labels, ct)
    except (ValueError, OSError) as error:
        row.refused = " ".join(str(error).split())
    return row


def _describe_labels(row: Row, files: CaseFiles, labels: LabelMap, ct: Volume) -> None:
    from kidseg_jax.cohort.split import kidneys_of, split_kidneys

    drawn = read_drawn(files, labels, ct)
    _volumes(row, drawn, labels.structures - files.unlabelled)
    turned = canonical(drawn)
    split = split_kidneys(turned.array, turned.spacing_mm, os.cpu_count() or 1)
    kidneys = kidneys_of(Case(files.name, files.patient, ct, drawn), split=split)
    if not kidneys:
        raise ValueError("labels hold no parenchyma, so no kidney")
    row.notes += split.notes
    sides = []
    for kidney in kidneys:
        faces = touched_faces(kidney.alone(turned.geometry.shape))
        sides.append(kidney.side + (" (RCC)" if kidney.has_rcc else ""))
        if faces:
            row.notes.append(f"{kidney.side} kidney is incomplete: it reaches the {', '.join(faces)} face")
    row.cells[5] = ", ".join(sides)


def _volumes(row: Row, drawn: Volume, labelled: frozenset[str]) -> None:
    """Fill in the volume of each structure, `?` where the label map cannot tell it."""
    for i, (name, volume) in enumerate(volumes_ml(drawn.array, drawn.spacing_mm).items()):
        row.cells[6 + i] = f"{volume:.1f}" if name in labelled else "?"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under `HEADINGS` in columns of equal width."""
    lines = [HEADINGS, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
