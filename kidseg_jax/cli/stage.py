"""`python -m kidseg_jax.stage --n 3`: learn, predict, correct, learn again."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kidseg_jax.cli.app import refused, run_verb, value_of
from kidseg_jax.cli.output import mend_streams
from kidseg_jax.config import COHORTS, PRESETS, Config
from kidseg_jax.staging.resume import settings_of
from kidseg_jax.stops import GO_ON


@dataclass(frozen=True)
class Arguments:
    """Train a cascade in stages: each predicts the next one's new cases; their corrected labels join in."""

    n: int = 3
    """Number of stages."""
    out: Path | None = None
    """Run directory; a second call on it goes on where the first one stopped. Default: runs/PRESET."""
    data: Path | None = None
    """Folder of cases (case_XXXXX/imaging.nii.gz + segmentation.nii.gz); default: the phantom cohort."""
    label_map: str = "kidseg"
    """Name of the label convention of `data`, or a TOML file that maps label values to structures."""
    preset: Literal["demo", "paper", "gpu", "start"] = "demo"
    """Settings to start from; every one can be changed below."""
    cohort: Literal["demo", "varied"] | None = None
    """Phantoms to start from where there is no data, with settings below; default: the preset's."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads of the C++ kernels and of making phantoms."""
    devices: int | None = None
    """GPUs, or other devices of JAX, that share each batch; default: one, and all of several processes, which
    SLURM (srun) or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID make one run."""
    annotator: Literal["simulated", "human"] = "simulated"
    """Who corrects the predictions. human: every stage but the last stops with a list of cases in
    stage_K/to_correct (exit code 3); the same command goes on when corrected files stand in
    stage_K/corrected."""
    accept_partial: bool = False
    """human: go on with the cases that are corrected; the others wait for the stage after."""
    accept_unchanged: bool = False
    """human: take corrected files that equal the prediction; without it they are refused as forgotten."""
    blind: float = 0.0
    """human: share of the cases, 0 to 1, labelled from nothing, to measure what seeing a prediction does."""
    approver: str | None = None
    """human: who approves what is taken in; goes to the ledger."""
    start: str = "none"
    """none, shipped (the start model of this package), or a run directory or a models.safetensors file. Its
    predictions of the first stage's cases are corrected (stage_0), and every stage goes on from its weights.
    The settings of the networks are then those of the model."""
    resume: Path | None = None
    """Go on with the run in this directory, with the settings in its run.json."""
    config: Annotated[Config, tyro.conf.arg(name="")] = PRESETS["demo"]


def run(arguments: Arguments) -> int:
    """The whole loop; returns the exit code: 0, 3 when it waits for people, 75 when SIGTERM stopped it."""
    from kidseg_jax.staging.people import People
    from kidseg_jax.staging.run import run_loop
    from kidseg_jax.staging.simulated import Simulated

    if arguments.threads < 1:
        raise ValueError(f"--threads: need 1 or more, got {arguments.threads}")
    if not 0 <= arguments.blind <= 1:
        raise ValueError(f"--blind: need 0 to 1, got {arguments.blind}")
    out = arguments.resume or arguments.out or Path("runs") / arguments.preset
    annotator = Simulated()
    if arguments.annotator == "human":
        annotator = People(
            arguments.accept_partial, arguments.accept_unchanged, arguments.blind, arguments.approver
        )
    data, label_map, start = arguments.data, arguments.label_map, _start_file(arguments.start)
    n, threads, devices = arguments.n, arguments.threads, arguments.devices
    return run_loop(out, arguments.config, n, data, label_map, threads, annotator, start, devices)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, with the preset's values as defaults, and run."""
    mend_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    default = Arguments()
    for name, preset in PRESETS.items():
        if f"--preset={name}" in given or ("--preset", name) in pairwise(given):
            default = replace(default, preset=name, config=preset)  # pyright: ignore[reportArgumentType]
    if (cohort := value_of("--cohort", given)) in COHORTS:
        default = replace(default, config=replace(default.config, cohort=COHORTS[cohort]))
    try:
        if resumed := value_of("--resume", given):
            default = replace(default, **settings_of(Path(resumed)))
        elif file := _start_file(value_of("--start", given) or default.start):
            from kidseg_jax.network.models import networks_of

            coarse, fine = networks_of(file)
            default = replace(default, config=replace(default.config, coarse=coarse, fine=fine))
    except (ValueError, OSError) as error:
        return refused(error)
    prog = "python -m kidseg_jax.stage"
    return run_verb(Arguments, run, given, prog=prog, default=default, stopped=GO_ON)


def _start_file(start: str) -> Path | None:
    """The file of the model that a run starts from; FileNotFoundError where there is none."""
    if start == "none":
        return None
    from kidseg_jax.network.models import models_file

    return models_file(None if start == "shipped" else start)
