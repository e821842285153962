"""A run: how it begins or goes on, stage after stage, until it is finished or waits for people."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from kidseg_jax.atomic import written_whole
from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.config import Config
from kidseg_jax.network.devices import is_first, join_processes, mesh_of
from kidseg_jax.network.models import require_same_networks
from kidseg_jax.network.runtime import describe_device, keep_compiled, take_device
from kidseg_jax.phantom.cohort import make_cohort
from kidseg_jax.report.report import write_report
from kidseg_jax.rundir import RunDirectory, asked_for
from kidseg_jax.staging.annotator import Annotator, Job, WaitsForPeople
from kidseg_jax.staging.file_hashes import require_known_files
from kidseg_jax.staging.loop import Loop
from kidseg_jax.staging.plan import stage_sizes
from kidseg_jax.staging.progress import Reporter
from kidseg_jax.staging.team import Team, none_gone


def run_loop(
    out: Path,
    config: Config,
    n_stages: int,
    data: Path | None,
    label_map: str,
    threads: int,
    annotator: Annotator,
    start: Path | None = None,
    devices: int | None = None,
) -> int:
    """Run or go on with `n_stages` stages in the directory `out`; returns the exit code.

    annotator: who corrects. start: a file of models that every stage goes on from, and that predicts the
    first stage's cases. devices: how many share each batch; None takes one, of several processes all. The
    first process runs the loop, the others learn along. 3 is the code of a run that waits for people.
    """
    join_processes()
    take_device()
    keep_compiled()
    team = Team(mesh_of(devices))
    team.require_equal_parts(config)
    with none_gone():
        if not is_first():
            team.follow(config, start)
        code = 2
        try:
            code = _lead(
                RunDirectory(out), config, n_stages, data, label_map, threads, annotator, start, team
            )
        finally:
            team.end(code)
        return code


def _lead(
    run: RunDirectory,
    config: Config,
    n_stages: int,
    data: Path | None,
    label_map: str,
    threads: int,
    annotator: Annotator,
    start: Path | None,
    team: Team,
) -> int:
    reporter = Reporter()
    began = time.monotonic()
    with run.held(), reporter.shown():
        cases = load_cohort(data, label_map=label_map) if data else None
        if cases is None:
            stage_sizes(n_stages, config.cohort.kidneys)  # refused before the cohort is made
        how = {"annotator": "human" if annotator.by_people else "simulated", "blind": annotator.blind}
        model = start and require_same_networks(start, config)
        asked = asked_for(config, n_stages, data, label_map=label_map, **how, start=model)
        run.go_on(asked)
        require_known_files(run)
        if all(run.stage(k).metrics.exists() for k in range(1, n_stages + 1)):
            print(f"{run.path}: all {n_stages} stages were done before.")
            return finish(run, time.monotonic() - began)
        cases = phantoms(config, threads, reporter) if cases is None else cases
        loop = Loop(Job(run, config, cases, n_stages, threads, reporter, team), annotator, start is not None)
        loop.survey()
        if start is not None and start != run.stage(0).models:
            with written_whole(run.stage(0).models) as temporary:
                shutil.copyfile(start, temporary)
        run.begin(asked, describe_device())  # a cohort that is refused leaves nothing
        try:
            state = loop.begin()
            for _ in range(n_stages):
                state = loop.stage(state)
        except WaitsForPeople as waits:
            print(waits)
            return 3
    return finish(run, time.monotonic() - began)


def phantoms(config: Config, threads: int, reporter: Reporter) -> Sequence[Case]:
    """The embedded cohort."""
    bar = reporter.bars.add_task("phantoms", total=config.cohort.patients)
    began = time.monotonic()

    def made(done: int) -> None:
        reporter.bars.update(bar, completed=done)
        reporter.log("phantoms", done, config.cohort.patients, began)

    return make_cohort(config.cohort, config.seed, threads, made)


def finish(run: RunDirectory, seconds: float) -> int:
    """Tables and report of a finished run, and a short summary that says where they are."""
    print(write_report(run.path))
    minutes, rest = divmod(round(seconds), 60)
    print(f"{run.path}: done in {minutes} min {rest} s; see tables.md, tables.csv and report.html there.")
    return 0
