"""The loop over stages: the one place that knows the order of things, and that reads and writes the run."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kidseg_jax.cohort.case import Case, Kidney
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import AnnotatorConfig, Config
from kidseg_jax.imaging.volume import Volume, canonical
from kidseg_jax.labelling.events import MapEvent, content_hash
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.network import checkpoint
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import Models, load_models, save_models
from kidseg_jax.network.runtime import describe_device, keep_compiled, take_device
from kidseg_jax.report.records import LabellingRecord, StageRecord, SurfaceRecord, TestRecord, stage_json
from kidseg_jax.rundir import RunDirectory, StageDirectory, asked_for
from kidseg_jax.staging.case_work import labelled, merged, pair_kidneys, teach
from kidseg_jax.staging.events import manual_events
from kidseg_jax.staging.learning import StageState, TrainingSet, run_stage
from kidseg_jax.staging.plan import Plan, make_plan, stage_sizes
from kidseg_jax.staging.progress import Reporter, TrainingWatch
from kidseg_jax.staging.resume import trained_on
from kidseg_jax.staging.simulated import correct_kidney, require_unchanged, surfaces_of
from kidseg_jax.staging.told import require_as_told, require_same_hand_labels, write_metrics
from kidseg_jax.stops import at_a_step

if TYPE_CHECKING:
    from kidseg_jax.staging.people import People


class Loop:
    """One run: its cases, plan and directory. Every method leaves the directory in a state to go on from."""

    def __init__(self, run: RunDirectory, config: Config, cases: Sequence[Case], n_stages: int, threads: int):
        self.run, self.config, self.n_stages, self.threads = run, config, n_stages, threads
        self.index = {case: i for i, case in enumerate(names_of(cases))}
        self.cases = cases
        self.kidneys: dict[str, tuple[Kidney, ...]] = {}
        self.plan = Plan((), ())
        self.hand: AnnotatorConfig | None = config.annotator  # who made the labels of stage 1

    def survey(self, reporter: Reporter) -> None:
        """Find every kidney of the cohort, and deal the patients to test set and stages."""
        for case in reporter.over(self.cases, len(self.cases), "kidneys"):
            labelled(case)
            self.kidneys[case.name] = kidneys_of(case)
        everyone = [kidney for kidneys in self.kidneys.values() for kidney in kidneys]
        self.plan = make_plan(everyone, self.n_stages, self.config.seed)

    def training_set(self, index: int, reporter: Reporter) -> TrainingSet:
        """What the new cases of stage `index` teach: hand labels in stage 1, corrected ones after it."""
        training_set = TrainingSet()
        new = self.plan.new[index - 1]
        known = read_ledger(self.run.ledger).events(MapEvent)
        for name in reporter.over(new, len(new), f"stage {index}: samples"):
            case = self.cases[self.index[name]]
            if index == 1:
                labels = labelled(case)
                lines = manual_events(case, self.kidneys[name], labels, self.hand)
                require_same_hand_labels(read_ledger(self.run.ledger), lines)
                append(self.run.ledger, lines, once=True)
            else:
                labels = self.corrected(index - 1, case, known)
            training_set = training_set.and_also(teach(case, labels, self.config, self.threads))
        return training_set

    def stage(self, state: StageState, reporter: Reporter) -> StageState:
        """Train, test and, unless it is the last stage, label the next one's cases; or load what is done."""
        index = state.index + 1
        directory = self.run.stage(index)
        new = self.training_set(index, reporter)
        if directory.metrics.exists():
            try:
                return StageState(index, state.training_set.and_also(new), load_models(directory.models))
            except (ValueError, FileNotFoundError) as error:
                print(f"kidseg_jax: {error}; training stage {index} again", file=sys.stderr)
        began = time.monotonic()
        watch = TrainingWatch(reporter, index, directory.checkpoints)
        with at_a_step():
            state = run_stage(state, new, self.config, watch)
        assert state.models is not None
        learned_from = trained_on(self.run.path, index)
        model = save_models(directory.models, state.models._replace(trained_on=learned_from))
        watch.clear()
        seconds = time.monotonic() - began
        test = self.test(directory, state.models, reporter, index)
        labelling, surfaces = self.label_next(directory, state.models, model, reporter, index)
        record = StageRecord(
            stage=index,
            train_kidneys=len(state.training_set.fine),
            steps=watch.total["fine"],
            coarse_steps=watch.total["coarse"],
            seconds=round(seconds, 1),
            losses=watch.losses,
            test=tuple(test),
            labelling=tuple(labelling),
            surfaces=tuple(surfaces),
        )
        write_metrics(self.run, directory, model, stage_json(record))
        return state

    def test(
        self, directory: StageDirectory, models: Models, reporter: Reporter, index: int
    ) -> list[TestRecord]:
        """Metrics of every held-out kidney and structure; the predictions are written down."""
        from kidseg_jax.evaluation.metrics import measure_kidney
        from kidseg_jax.report.snapshot import write_snapshot

        records: list[TestRecord] = []
        for name in reporter.over(self.plan.test, len(self.plan.test), f"stage {index}: test"):
            case = self.cases[self.index[name]]
            prediction = predict(models, case.ct, self.threads)
            directory.write_labels("predictions", name, prediction.labels)
            ct = canonical(case.ct)
            for pair in pair_kidneys(case, self.kidneys[name], prediction):
                measured = measure_kidney(pair.truth, pair.predicted, ct.spacing_mm, threads=self.threads)
                told = [record for record in measured if record["structure"] in case.structures]
                records += [TestRecord(**pair.name, **record) for record in told]
                kidney = pair.kidney.name
                write_snapshot(directory.path, kidney, "test", ct, pair.box, pair.truth, pair.predicted)
        return records

    def label_next(
        self, directory: StageDirectory, models: Models, model: str, reporter: Reporter, index: int
    ) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
        """Predict the next stage's cases, let the simulated annotator correct them, and write it all down."""
        labelling: list[LabellingRecord] = []
        surfaces: list[SurfaceRecord] = []
        new = self.plan.new[index] if index < self.n_stages else ()
        for name in reporter.over(new, len(new), f"stage {index}: correct"):
            records, measured = self.label(directory, models, model, name, index)
            labelling += records
            surfaces += measured
        return labelling, surfaces

    def label(
        self, directory: StageDirectory, models: Models, model: str, name: str, index: int
    ) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
        """One case predicted and corrected, a function of the models; its files are written."""
        from kidseg_jax.report.snapshot import write_snapshot

        labelling: list[LabellingRecord] = []
        surfaces: list[SurfaceRecord] = []
        case = self.cases[self.index[name]]
        prediction = predict(models, case.ct, self.threads)
        directory.write_labels("predictions", name, prediction.labels)
        corrected, events = [], []
        ct = canonical(case.ct)
        for pair in pair_kidneys(case, self.kidneys[name], prediction):
            kidney = pair.kidney
            rng = np.random.default_rng([self.config.seed, self.index[name], kidney.side == "left"])
            labels, records, lines = correct_kidney(pair, case, self.config.annotator, rng, model, index)
            corrected.append((pair.box, labels))
            labelling += records
            events += lines
            surfaces += surfaces_of(pair, labels, case)
            write_snapshot(
                directory.path, kidney.name, "new", ct, pair.box, pair.truth, pair.predicted, labels
            )
        labels = merged(case, corrected)
        directory.write_labels("corrected", name, labels)
        filed = MapEvent(name, index, content_hash(labels.array))
        append(self.run.ledger, [*events, filed], once=True)
        return labelling, surfaces

    def corrected(self, index: int, case: Case, known: Sequence[MapEvent]) -> Volume:
        """The corrected labels of a case of stage `index`; where its file is lost or broken, made again.

        Raises ValueError where someone has changed them since the ledger heard of them.
        """
        directory, name = self.run.stage(index), case.name
        try:
            labels = directory.read_labels("corrected", name)
        except (ValueError, OSError) as error:
            print(f"kidseg_jax: stage {index}: {error}; correcting {name} again", file=sys.stderr)
            models, model = load_models(directory.models), checkpoint.about(directory.models)["sha256"]
            self.label(directory, models, model, name, index)
            return directory.read_labels("corrected", name)
        require_unchanged(directory.labels("corrected", name), labels, case, index, known)
        return labels


def names_of(cases: Sequence[Case]) -> tuple[str, ...]:
    """Case names, without reading the images of a cohort on disk."""
    known = getattr(cases, "names", None)
    return tuple(known) if known is not None else tuple(case.name for case in cases)


def run_loop(
    out: Path,
    config: Config,
    n_stages: int,
    data: Path | None,
    label_map: str,
    threads: int,
    people: "People | None" = None,
) -> int:
    """Run or go on with `n_stages` stages in the directory `out`; returns the exit code.

    people: who corrects; None is the simulated annotator. 3 is the code of a run that waits for people.
    """
    from kidseg_jax.staging.people import PeopleLoop, WaitsForPeople

    take_device()
    keep_compiled()
    run = RunDirectory(out)
    reporter = Reporter()
    began = time.monotonic()
    with run.held(), reporter.shown():
        cases = load_cohort(data, label_map=label_map) if data else None
        if cases is None:
            stage_sizes(n_stages, config.cohort.kidneys)  # refused before the cohort is made
        how = {"annotator": "human" if people else "simulated", "blind": people.blind if people else 0.0}
        asked = asked_for(config, n_stages, data, label_map=label_map, **how)
        run.go_on(asked)
        require_as_told(run)
        if all(run.stage(k).metrics.exists() for k in range(1, n_stages + 1)):
            print(f"{run.path}: all {n_stages} stages were done before.")
            return finish(run, time.monotonic() - began)
        cases = phantoms(config, threads, reporter) if cases is None else cases
        loop = (
            PeopleLoop(run, config, cases, n_stages, threads, people)
            if people
            else Loop(run, config, cases, n_stages, threads)
        )
        loop.survey(reporter)
        run.begin(asked, describe_device())  # a cohort that is refused leaves nothing
        state = StageState()
        try:
            for _ in range(n_stages):
                state = loop.stage(state, reporter)
        except WaitsForPeople as waits:
            print(waits)
            return 3
    return finish(run, time.monotonic() - began)


def phantoms(config: Config, threads: int, reporter: Reporter) -> Sequence[Case]:
    """The embedded cohort."""
    from kidseg_jax.phantom.cohort import make_cohort

    bar = reporter.bars.add_task("phantoms", total=config.cohort.patients)
    began = time.monotonic()

    def made(done: int) -> None:
        reporter.bars.update(bar, completed=done)
        reporter.log("phantoms", done, config.cohort.patients, began)

    return make_cohort(config.cohort, config.seed, threads, made)


def finish(run: RunDirectory, seconds: float) -> int:
    """Tables and report of a finished run, and a short summary that says where they are."""
    from kidseg_jax.report.report import write_report

    print(write_report(run.path))
    minutes, rest = divmod(round(seconds), 60)
    print(f"{run.path}: done in {minutes} min {rest} s; see tables.md, tables.csv and report.html there.")
    return 0
