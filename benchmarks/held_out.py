"""The held-out cases of finished runs, and the DSC of each kidney that a prediction finds in them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.evaluation.metrics import dice
from kidseg_jax.imaging.structures import STRUCTURES, Structure
from kidseg_jax.network.cascade import Prediction
from kidseg_jax.network.models import Models, load_models
from kidseg_jax.phantom.cohort import make_case
from kidseg_jax.report.records import read_run
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.case_work import pair_kidneys
from kidseg_jax.staging.resume import settings_of


def cases_of(run: Path, names: set[str]) -> Iterator[Case]:
    """The cases of a run that have these names, in their order."""
    settings = settings_of(run)
    if settings["data"] is None:
        config = settings["config"]
        yield from (make_case(config.cohort, config.seed, int(name[-5:])) for name in sorted(names))
    else:
        cases = load_cohort(settings["data"], label_map=settings["label_map"])
        yield from (case for case in cases if case.name in names)


def tested(run: Path, stage: int | None) -> tuple[Models, Iterator[Case]]:
    """The models of a stage of a run, the last for None, and the cases that it was tested on."""
    stages = [s for s in read_run(run).stages if stage in (None, s.stage)]
    if not stages:
        raise SystemExit(f"{run}: need a run with stage {stage}")
    models = load_models(RunDirectory(run).stage(stages[-1].stage).models)
    return models, cases_of(run, {record.case for record in stages[-1].test})


def compared(case: Case, prediction: Prediction) -> Iterator[tuple[Structure, float | None, int]]:
    """Each structure of each kidney: its DSC in percent, None where the truth has none, and its voxels."""
    for pair in pair_kidneys(case, kidneys_of(case), prediction):
        for s in STRUCTURES:
            truth, predicted = pair.truth == s.label, pair.predicted == s.label
            dsc = 100 * (dice(truth, predicted) or 0.0) if truth.any() else None
            yield s, dsc, int(np.count_nonzero(predicted))
