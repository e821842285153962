"""`python -m kidseg_jax label start|stop CASE`: a person's clock; `label csv FILE` takes times."""

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from kidseg_jax.cli.ledger import ledger_of
from kidseg_jax.labelling import clock
from kidseg_jax.labelling.events import Origin
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.worklist import LIST, read_list
from kidseg_jax.rundir import RunDirectory


@dataclass(frozen=True)
class Arguments:
    """Start or stop the clock for one case, or one structure of it, or take times from a CSV file."""

    action: tyro.conf.Positional[Literal["start", "stop", "csv"]]
    """start and stop a clock; csv: take the times in a file."""
    what: tyro.conf.Positional[str]
    """Name of the case, or the CSV file (columns case, structure, seconds, origin, annotator, stage)."""
    run: Path = Path("runs/demo")
    """Run directory, or a ledger file."""
    structure: Literal["artery", "vein", "ureter", "parenchyma", "rcc"] | None = None
    """One structure; without it the time is for the whole case."""
    origin: Literal["manual", "cnn_corrected"] | None = None
    """manual: from nothing; cnn_corrected: a prediction is corrected. Default: as the case's list says."""
    annotator: str | None = None
    """Who works. Default: the name of the account."""
    stage: int | None = None
    """Stage in whose folder the label will lie, 0 before the first. Default: the last with a to_correct."""


def run(arguments: Arguments) -> int:
    """Do what was asked and say it in one line."""
    if not arguments.run.exists():
        raise FileNotFoundError(f"{arguments.run}: no such run directory; say which with --run")
    ledger = ledger_of(arguments.run)
    annotator = arguments.annotator or getpass.getuser()
    case, structure = arguments.what, arguments.structure
    if arguments.action == "csv":
        times = clock.times_in(Path(case))
        for time in times:
            require_listed(arguments.run, time.case, time.stage, time.origin)
        before = len(read_ledger(ledger).lines)
        after = len(append(ledger, times, once=True).lines)
        print(f"{case}: {len(times)} times, {after - before} of them new")
    elif arguments.action == "start":
        stage = stage_to_correct(arguments.run) if arguments.stage is None else arguments.stage
        origin = require_listed(arguments.run, case, stage, arguments.origin)
        started = clock.start(ledger, case, structure, origin, annotator, stage)
        print(f"{case}: the clock of {annotator} runs since {started.opened} ({structure or 'whole case'})")
    else:
        stopped = clock.stop(ledger, case, structure, annotator)
        print(f"{case}: {stopped.active_s / 60:.1f} min of {annotator} ({structure or 'whole case'})")
    return 0


def stage_to_correct(run: Path) -> int:
    """The last stage of a run with a to_correct folder, 0 when there is none."""
    return max((stage.index for stage in RunDirectory(run).stages() if stage.to_correct.exists()), default=0)


def require_listed(run: Path, case: str, stage: int, origin: Origin | None) -> Origin:
    """How a case is labelled: as the list of its stage says, or as given where no list asks for it.

    Raises ValueError for a case that is not on the list of the stage, and for another origin than the list's:
    the minutes of a blind case must not count as those of a correction.
    """
    folder = RunDirectory(run).stage(stage).to_correct
    if not (folder / LIST).exists():
        return origin or ("cnn_corrected" if stage else "manual")
    works = {work.case: work for work in read_list(folder).cases}
    if case not in works:
        raise ValueError(f"{case}: not on the list of stage {stage} in {folder}")
    listed: Origin = "cnn_corrected" if works[case].prediction else "manual"
    if origin not in (None, listed):
        raise ValueError(f"{case}: its list says {listed} in stage {stage}, got {origin}")
    return listed
