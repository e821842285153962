"""`python -m kidseg_jax measure LABELS [--ct CT]`: what a surgeon asks of a label map, kidney by kidney."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cohort.label_maps import label_map, read_structures
from kidseg_jax.evaluation.table import Cell, Row, Table, to_terminal
from kidseg_jax.formats.volumes import ending_of, read_ct
from kidseg_jax.report.surgical_page import surgical_page
from kidseg_jax.surgery.case import MeasuredKidney, measure_case
from kidseg_jax.surgery.measures import MARGIN_MM, KidneyMeasures
from kidseg_jax.surgery.records import CAUTION, said_total, to_csv, to_json, tumour_numbers


@dataclass(frozen=True)
class Arguments:
    """Volumes, tumour diameters, distances, R.E.N.A.L. and PADUA with the rule of each component, contact
    area, arteries and the parenchyma nearest to each, for every kidney of a label map.

    Writes NAME_measures.json, NAME_measures.csv and one printable page a kidney, NAME_SIDE.html. What the
    labels do not tell is `not determinable`. Not a medical device. docs/measure.md has the definitions and
    their sources.
    """

    labels: tyro.conf.Positional[Path]
    """A label map in any format."""
    ct: Path | None = None
    """Its CT: drawn behind the labels, and what tells the side of a lone kidney."""
    out: Path | None = None
    """Folder for the files; beside the label map when not given."""
    label_map: str = "kidseg"
    """What the label values mean: kidseg, kits19, kits21, kits23, kipa22, cect, auto or a .toml file."""
    margin_mm: float = MARGIN_MM
    """Resection margin in mm around each tumour, for the parenchyma that is kept."""
    series: str | None = None
    """Which series of a DICOM folder, when --ct holds several."""
    threads: int | None = None
    """Threads of the kernels; all cores when not given."""


def run(arguments: Arguments) -> int:
    """Measure and write; 0 when every file is written."""
    path = arguments.labels
    if not (math.isfinite(arguments.margin_mm) and arguments.margin_mm >= 0):
        raise ValueError(f"measure: --margin-mm must be a number from 0, got {arguments.margin_mm}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    meaning = label_map(arguments.label_map, path)
    labels = read_structures(path, meaning)
    ct = None if arguments.ct is None else read_ct(arguments.ct, series=arguments.series)
    name = path.name[: len(path.name) - len(ending_of(path))]
    kidneys = measure_case(
        name,
        labels,
        ct,
        structures=meaning.structures,
        margin_mm=arguments.margin_mm,
        threads=arguments.threads or os.cpu_count() or 1,
    )
    pages = [(page_name(name, kidney), surgical_page(kidney, ct)) for kidney in kidneys]
    folder = arguments.out or path.parent
    measures = [kidney.measures for kidney in kidneys]
    print(to_terminal([terminal_table(one) for one in measures]), end="")
    print(CAUTION)
    files = [(f"{name}_measures.json", to_json(measures)), (f"{name}_measures.csv", to_csv(measures)), *pages]
    for file, text in files:
        write_text(folder / file, text)
    print(f"{folder}: {', '.join(file for file, _ in files)}")
    return 0


def page_name(name: str, kidney: MeasuredKidney) -> str:
    """The file of a kidney's page."""
    side = kidney.measures.side
    return f"{name}_{side if side in ('left', 'right') else 'kidney'}.html"


def terminal_table(kidney: KidneyMeasures) -> Table:
    """The numbers of one kidney for a terminal, without rules."""
    rows = [Row(f"volume of {n}", (_cell(ml, "ml"),)) for n, ml in kidney.volumes_ml.items()]
    rows.append(Row("arteries that enter", (_cell(kidney.arteries_entering, ""),)))
    for tumour in kidney.tumours:
        own = f"tumour {tumour.number}: "
        rows += [Row(own + what, (_cell(value, unit),)) for what, value, unit, _ in tumour_numbers(tumour)]
        rows += [Row(own + score.name, (Cell(said_total(score)),)) for score in (tumour.renal, tumour.padua)]
    rows += [
        Row(f"nearest to arterial branch {b.number}", (_cell(b.nearest_percent, "%"),))
        for b in kidney.branches
        if b.ends
    ]
    side = f"{kidney.side} kidney" if kidney.side in ("left", "right") else "kidney"
    return Table("measure", f"{kidney.case}: {side}", ("",), tuple(rows), kidney.notes)


def _cell(value: float | str, unit: str) -> Cell:
    return Cell(value if isinstance(value, str) else f"{value:.5g} {unit}".strip())
