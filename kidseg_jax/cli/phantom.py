"""`python -m kidseg_jax phantom OUT`: the phantom cohort on disk, as CTs and label maps."""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cli.app import run_verb, value_of
from kidseg_jax.config import COHORTS, PHANTOM_RECORD, CohortConfig
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.measure import volumes_ml
from kidseg_jax.imaging.structures import STRUCTURES


@dataclass(frozen=True)
class Arguments:
    """Write phantoms as OUT/case_XXXXX/imaging.nii.gz and segmentation.nii.gz; a second call continues."""

    out: tyro.conf.Positional[Path]
    """Folder for the cases; made if missing."""
    cohort: Literal["demo", "varied"] = "demo"
    """Settings to start from: demo, or any body, phase, FOV and scanner; all can be changed below."""
    seed: int = 0
    """Seed of the cohort: the same seed and settings give the same bits."""
    threads: int = 2
    """Cases made at a time; the result does not depend on it."""
    config: Annotated[CohortConfig, tyro.conf.arg(name="")] = field(default_factory=CohortConfig)


def main(argv: Sequence[str]) -> int:
    """Parse the command line, with the cohort's values as defaults, and run."""
    config = COHORTS.get(value_of("--cohort", argv) or "demo", COHORTS["demo"])
    default = Arguments(tyro.MISSING, config=config)
    return run_verb(Arguments, run, argv, "python -m kidseg_jax phantom", default)


def run(arguments: Arguments) -> int:
    """Write what is missing and say what the folder holds; ValueError where it holds another cohort."""
    from kidseg_jax.phantom.cohort import plan_cohort

    out, config, seed = arguments.out, arguments.config, arguments.seed
    if arguments.threads < 1:
        raise ValueError(f"phantom: threads must be at least 1, got {arguments.threads}")
    plans = plan_cohort(config, seed)
    _claim(out, {"seed": seed, **asdict(config)})
    todo = [index for index in range(config.patients) if not _written(out, index)]
    if todo:
        volumes = _write_all(arguments, todo)
        print(f"{out}: wrote {len(todo)} of {config.patients} cases, seed {seed}")
        for structure, values in zip(STRUCTURES, zip(*volumes, strict=True), strict=True):
            some = [v for v in values if v > 0] or [0.0]
            print(
                f"  {structure.name:10} in {sum(v > 0 for v in values):3} cases, "
                f"mean {np.mean(some):.1f} ml ({min(some):.1f} to {max(some):.1f})"
            )
    else:
        print(f"{out}: done before, {config.patients} cases, seed {seed}")
    kidneys = sum(len(plan.sides) for plan in plans)
    tumours = sum(plan.rcc_side is not None for plan in plans)
    print(f"{config.patients} patients, {kidneys} kidneys, {tumours} with RCC")
    return 0


def _claim(out: Path, record: dict[str, object]) -> None:
    """Write what the folder holds, or check that it holds the same."""
    path = out / PHANTOM_RECORD
    text = json.dumps(record, indent=2) + "\n"
    if not path.exists():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"phantom: {out} holds a cohort of other settings (see {PHANTOM_RECORD}); name another folder"
        )


def _files(out: Path, index: int) -> tuple[Path, Path]:
    folder = out / f"case_{index:05d}"
    return folder / "imaging.nii.gz", folder / "segmentation.nii.gz"


def _written(out: Path, index: int) -> bool:
    return all(path.exists() for path in _files(out, index))


def _write_case(arguments: Arguments, index: int) -> list[float]:
    """Make and write one case; returns the volume of each structure in ml."""
    from kidseg_jax.phantom.cohort import make_case

    case = make_case(arguments.config, arguments.seed, index)
    assert case.labels is not None
    for path, volume in zip(_files(arguments.out, index), (case.ct, case.labels), strict=True):
        write_volume(path, volume)
    return [*volumes_ml(case.labels.array, case.labels.spacing_mm).values()]


def _write_all(arguments: Arguments, todo: list[int]) -> list[list[float]]:
    """Write the cases in `todo`, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(file=getattr(sys.stderr, "bare", sys.stderr))  # its bar does move the cursor
    with ThreadPoolExecutor(arguments.threads) as pool:
        jobs = [pool.submit(_write_case, arguments, index) for index in todo]
        try:
            bar = track(
                as_completed(jobs), "phantoms", len(jobs), console=console, disable=not sys.stderr.isatty()
            )
            return [job.result() for job in bar]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
