"""`python -m kidseg_jax predict INPUT [--model RUN]`: label maps for CTs, on their own grids."""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cli.cluster import Cluster, Part, Problem, by_cause, each, parted
from kidseg_jax.cli.workers import n_workers, threads_of
from kidseg_jax.cohort.folder import find_images
from kidseg_jax.csv_text import csv_text
from kidseg_jax.formats.nifti import Orientation
from kidseg_jax.formats.volumes import read_ct, write_volume
from kidseg_jax.imaging.measure import volumes_ml
from kidseg_jax.imaging.preview import write_preview
from kidseg_jax.imaging.structures import NAMES, PARENCHYMA
from kidseg_jax.imaging.volume import Volume, canonical
from kidseg_jax.kernels import Box
from kidseg_jax.network.origin import caution

Rule = Literal["largest_kidney", "one_parenchyma", "masses_attached", "vessels_touch", "sides_apart"]
COLUMNS = ("case", "side", "structure", "volume_ml", "incomplete", "uncertain", "trained_on")
UNKNOWN = "unknown"  # also of rows that an older version wrote


@dataclass(frozen=True)
class Arguments:
    """Segment one CT (file or DICOM folder) or every case of a folder. What is already there is skipped."""

    input: tyro.conf.Positional[Path]
    """A .nii, .nii.gz, .nrrd, .mha or .npz file, a DICOM folder, or a folder of cases."""
    model: Path | None = None
    """A run directory, or one of its models.safetensors files; default: the start model of this package."""
    out: Path | None = None
    """Folder for the results; beside the input when not given."""
    to: Literal["nii.gz", "nii", "nrrd", "seg.nrrd", "mha", "npz"] = "nii.gz"
    """Format of the label maps."""
    preview: bool = False
    """Also write a PNG of the labels over the CT."""
    statistics: bool = False
    """Also write the volume of each structure that the model knows, for each kidney, in ml as CSV;
    `incomplete` marks kidneys cut by the image, `uncertain` those that may be none,
    `trained_on` tells models of phantoms from others. Beside it the numbers of `measure`, as CSV and JSON.
    """
    rules: tuple[Rule, ...] = ("largest_kidney",)
    """The rules that tidy the labels (imaging/postprocess.py); --rules with nothing behind it has none. On
    phantoms largest_kidney raises the DSC of RCC by 10.3 points and of parenchyma by 0.2; beside it,
    vessels_touch gains 0.05 to 0.3 points a tree and the others nothing (benchmarks/postprocess.py).
    """
    overwrite: bool = False
    """Predict again what is already there."""
    series: str | None = None
    """Which series of a DICOM folder, when it holds several."""
    orientation: Annotated[Orientation | None, tyro.conf.arg(aliases=["--form"])] = None
    """Which orientation of a NIfTI file to believe, when they contradict each other."""
    threads: int | None = None
    """Threads of the kernels; all cores when not given."""
    part: Part = None
    cluster: Cluster = None


class Job(NamedTuple):
    """One CT and the files that are made from it."""

    name: str
    image: Path
    labels: Path
    preview: Path | None
    statistics: Path | None

    @property
    def done(self) -> bool:
        return all(path.exists() for path in (self.labels, self.preview, self.statistics) if path is not None)


def run(arguments: Arguments) -> int:
    """Predict; 0 when every case has its label map, 1 when a case of a folder has none.

    Raises ValueError or OSError when there is nothing to predict, and for the one case of a single input.
    """
    jobs, single = list_jobs(arguments)
    jobs = parted(jobs, arguments.part)
    gathers = arguments.statistics and not single and arguments.part is None
    if all(job.done for job in jobs) and not arguments.overwrite:
        if gathers:
            _gather(arguments.out or arguments.input, jobs)
        print(f"done before: {len(jobs)} of {len(jobs)} (--overwrite predicts again)")
        return 0
    n_workers(arguments.cluster)  # a cluster that is none is said before JAX is loaded, as is a bad image
    first = read(jobs[0], arguments) if single else None
    from kidseg_jax.network.models import told_structures

    models, named = _loaded(arguments.model), arguments.model or "the start model of this package"
    if line := caution(named, models.trained_on):
        print(f"kidseg_jax: {line}", file=sys.stderr)
    if untold := [name for name in NAMES if name not in told_structures(models)]:
        print(f"kidseg_jax: {named}: tells nothing of {', '.join(untold)}", file=sys.stderr)
    if first is not None:
        print(f"[1/1] {jobs[0].name}: {predict_case(models, jobs[0], first, arguments)}")
        return 0
    failures: dict[str, str] = {}
    todo = [job for job in jobs if arguments.overwrite or not job.done]
    before = [job for job in jobs if job not in todo]
    for number, job in enumerate(before, 1):
        print(f"[{number}/{len(jobs)}] {job.name}: done before")
    here = models if arguments.cluster is None else None
    made = each(partial(_do, arguments, here), todo, arguments.cluster)
    for number, (at, result) in enumerate(made, len(before) + 1):
        failed = isinstance(result, Problem)
        line = f"{todo[at].name}: {result.line if failed else result}"
        if failed:
            failures[todo[at].name] = result.line
        print(f"[{number}/{len(jobs)}] {line}", file=sys.stderr if failed else sys.stdout, flush=True)
    if gathers:
        _gather(arguments.out or arguments.input, jobs)
    if failures:
        counted = f"{len(failures)} of {len(jobs)} cases have no label map:"
        print(counted, *by_cause(failures), sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


def _loaded(file: Path | None) -> Any:
    """The models of a file, with JAX made ready for them."""
    from kidseg_jax.network.models import load_models
    from kidseg_jax.network.runtime import keep_compiled, keep_freed_memory, take_device

    take_device()
    keep_compiled()
    keep_freed_memory()
    return load_models(file)


_of_worker = lru_cache(_loaded)


def _do(arguments: Arguments, models: Any, job: Job) -> str:
    """One case of a folder, in this process or, without models, in a worker: it loads them once."""
    threads = arguments.threads
    if models is None:
        models = _of_worker(arguments.model)
        threads = threads or threads_of(arguments.cluster)
    return predict_case(models, job, read(job, arguments), replace(arguments, threads=threads))


def list_jobs(arguments: Arguments) -> tuple[list[Job], bool]:
    """Every CT of the input with its output files, and whether the input is a single CT."""
    path = arguments.input
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")

    images = find_images(path)
    single = images == [(images[0][0], path)]
    beside = path.parent if single else None
    jobs = []
    for name, image in images:
        folder = arguments.out or beside or image.parent
        stem = folder / f"{name}_kidseg"
        jobs.append(
            Job(
                name,
                image,
                stem.with_name(f"{stem.name}.{arguments.to}"),
                stem.with_name(f"{stem.name}.png") if arguments.preview else None,
                stem.with_name(f"{stem.name}.csv") if arguments.statistics else None,
            )
        )
    return jobs, single


def read(job: Job, arguments: Arguments) -> Volume:
    """The CT of a job."""
    return read_ct(job.image, series=arguments.series, orientation=arguments.orientation)


def predict_case(models: Any, job: Job, ct: Volume, arguments: Arguments) -> str:
    """Write what is asked for one CT; returns a line about it. Raises ValueError where no kidney is found."""
    from kidseg_jax.imaging.postprocess import NOTHING
    from kidseg_jax.network.cascade import predict

    rules = replace(NOTHING, **dict.fromkeys(arguments.rules, True))
    prediction = predict(models, ct, arguments.threads, rules=rules)
    if not prediction.kidneys or not prediction.labels.array.any():
        raise ValueError(f"{job.name}: found no kidney, no label map written")
    if job.preview:
        write_preview(job.preview, ct, prediction.labels)
    if job.statistics:
        write_text(job.statistics, _table(list(_rows(job.name, models, prediction, ct.spacing_mm))))
        _write_measures(job, models, prediction, ct)
    write_volume(job.labels, prediction.labels)
    return f"{', '.join(map(_said, prediction.kidneys))} -> {job.labels}"


def _write_measures(job: Job, models: Any, prediction: Any, ct: Volume) -> None:
    """What `measure` says of each kidney that was found, beside the table of volumes."""
    from kidseg_jax.network.found_kidney import disjoint
    from kidseg_jax.network.models import told_structures
    from kidseg_jax.surgery.case import faces_of
    from kidseg_jax.surgery.kidney import measure_kidney
    from kidseg_jax.surgery.records import to_csv, to_json

    assert job.statistics is not None
    turned = canonical(ct)
    measured = []
    for kidney in disjoint(prediction.kidneys):
        if not (kidney.labels >= PARENCHYMA).any():
            continue
        box = Box(kidney.lo, kidney.hi)
        doubts = [
            f"{word}, as the model says" for word in ("incomplete", "uncertain") if getattr(kidney, word)
        ]
        measures, _ = measure_kidney(
            kidney.labels,
            turned.spacing_mm,
            case=job.name,
            side=kidney.side,
            cut_by=faces_of(kidney.labels, box, turned.geometry.shape),
            structures=told_structures(models),
            notes=doubts,
        )
        measured.append(measures)
    stem = job.statistics.with_suffix("")
    write_text(stem.with_name(f"{stem.name}_measures.csv"), to_csv(measured))
    write_text(stem.with_name(f"{stem.name}_measures.json"), to_json(measured))


def _said(kidney: Any) -> str:
    doubts = [word for word in ("incomplete", "uncertain") if getattr(kidney, word)]
    return f"{kidney.side} ({', '.join(doubts)})" if doubts else kidney.side


def _rows(
    name: str, models: Any, prediction: Any, spacing_mm: tuple[float, float, float]
) -> Iterator[tuple[str, ...]]:
    from kidseg_jax.network.found_kidney import disjoint
    from kidseg_jax.network.models import told_structures

    learned = told_structures(models)
    trained_on = models.trained_on.cases if models.trained_on else UNKNOWN
    for kidney in disjoint(prediction.kidneys):
        for structure, volume in volumes_ml(kidney.labels, spacing_mm).items():
            if structure in learned:
                doubts = ("yes" if doubt else "no" for doubt in (kidney.incomplete, kidney.uncertain))
                yield name, kidney.side, structure, f"{volume:.3f}", *doubts, trained_on


def _table(rows: list[tuple[str, ...]]) -> str:
    return csv_text([COLUMNS, *rows])


def _gather(folder: Path, jobs: Sequence[Job]) -> None:
    """One statistics.csv of all cases that have one."""
    rows: list[tuple[str, ...]] = []
    for job in jobs:
        if job.statistics and job.statistics.exists():
            with open(job.statistics, newline="", encoding="utf-8") as stream:
                rows += [tuple(row.get(c) or UNKNOWN for c in COLUMNS) for row in csv.DictReader(stream)]
    write_text(folder / "statistics.csv", _table(rows))
