"""The loop over stages: the one place that knows the order of things, and that writes what a stage made."""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.evaluation.metrics import measure_kidney
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.volume import canonical
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.checkpoint import about
from kidseg_jax.network.models import Models, load_models, save_models
from kidseg_jax.report.records import StageRecord, TestRecord
from kidseg_jax.report.snapshot import write_snapshot
from kidseg_jax.staging.annotator import Annotator, Job
from kidseg_jax.staging.case_work import pair_kidneys, teach
from kidseg_jax.staging.events import manual_events
from kidseg_jax.staging.file_hashes import require_same_hand_labels, write_metrics
from kidseg_jax.staging.learning import StageState, TrainingSet, run_stage
from kidseg_jax.staging.plan import Plan, make_plan, people_plan
from kidseg_jax.staging.progress import TrainingWatch
from kidseg_jax.staging.resume import trained_on
from kidseg_jax.stops import at_a_step


class Loop:
    """One run: its job, annotator and plan. Every method leaves the directory in a state to go on from.

    started: a start model lies in the folder of stage 0; its predictions of the first stage's cases are
    corrected.
    """

    def __init__(self, job: Job, annotator: Annotator, started: bool = False):
        self.job, self.annotator, self.started = job, annotator, started
        self.plan = Plan((), ())

    def survey(self) -> None:
        """Find every kidney of the cohort, and deal the patients to test set and stages.

        Where people correct and some cases have no labels, those with labels come first.
        """
        job, unlabelled = self.job, dict[str, str]()
        for case in job.reporter.over(job.cases, len(job.cases), "kidneys"):
            if self.annotator.by_people and case.labels is None:
                unlabelled[case.name] = case.patient
            else:
                job.kidneys[case.name] = kidneys_of(case, job.threads)
        everyone = [kidney for kidneys in job.kidneys.values() for kidney in kidneys]
        if unlabelled:
            self.plan = people_plan(everyone, unlabelled, job.n_stages, job.config.seed, self.started)
        else:
            self.plan = make_plan(everyone, job.n_stages, job.config.seed, self.started)

    def begin(self) -> StageState:
        """Stage 0: the start model is tested, and its predictions of the first stage's cases are corrected.

        Without one an empty state.
        """
        directory = self.job.run.stage(0)
        if not self.started:
            return StageState()
        models = load_models(directory.models)
        if not directory.metrics.exists():
            self._end_stage(0, models, about(directory.models)["sha256"])
        return StageState(models=models, start=models)

    def training_set(self, index: int) -> TrainingSet:
        """What the new cases of stage `index` teach: hand labels before the first prediction, corrected ones
        after it.
        """
        job, corrected = self.job, self.plan.to_correct(index - 1)
        by_hand = [name for name in self.plan.new[index - 1] if name not in corrected]
        names = job.reporter.over(
            [*by_hand, *corrected], len(by_hand) + len(corrected), f"stage {index}: samples"
        )
        training_set = TrainingSet()
        for case in self._by_hand(islice(names, len(by_hand))):
            kidneys = job.kidneys[case.name]
            training_set = training_set.and_also(teach(case, kidneys, job.config, job.threads))
        for case in self.annotator.corrected(job, index - 1, names) if corrected else ():
            kidneys = kidneys_of(case, job.threads)
            training_set = training_set.and_also(teach(case, kidneys, job.config, job.threads))
        return training_set

    def _by_hand(self, names: Iterable[str]) -> Iterator[Case]:
        """Cases with the labels that they came with, once the ledger knows of them."""
        job = self.job
        hand = None if self.annotator.by_people else job.config.annotator
        for name in names:
            case = job.case(name)
            events = manual_events(case, job.kidneys[name], hand)
            require_same_hand_labels(read_ledger(job.run.ledger), events)
            append(job.run.ledger, events, once=True)
            yield case

    def stage(self, state: StageState) -> StageState:
        """Train, test and, unless it is the last stage, have the next one's cases labelled; or load what is
        done. Raises WaitsForPeople until people have done their part of the stage before.
        """
        job, index = self.job, state.index + 1
        if state.models is not None:
            self.plan = self.annotator.accept(job, self.plan, state.index)
        directory = job.run.stage(index)
        new = self.training_set(index)
        if directory.metrics.exists():
            try:
                models = load_models(directory.models)
                return StageState(index, state.training_set.and_also(new), models, state.start)
            except (ValueError, FileNotFoundError) as error:
                print(f"kidseg_jax: {error}; training stage {index} again", file=sys.stderr)
        began = time.monotonic()
        watch = TrainingWatch(job.reporter, index, directory.checkpoints)
        with at_a_step():
            job.team.begin(directory, state.training_set.and_also(new))
            state = run_stage(state, new, job.config, watch, job.team.mesh)
            job.team.cease(directory)
        assert state.models is not None
        learned_from = trained_on(job.run.path, index)
        model = save_models(directory.models, state.models._replace(trained_on=learned_from))
        watch.clear()
        seconds = time.monotonic() - began
        self._end_stage(
            index,
            state.models,
            model,
            train_kidneys=len(state.training_set.fine),
            steps=watch.total["fine"],
            coarse_steps=watch.total["coarse"],
            seconds=round(seconds, 1),
            losses=watch.losses,
        )
        return state

    def _end_stage(self, index: int, models: Models, model: str, **trained: Any) -> None:
        """Test a stage's models, have the next one's cases labelled, and write down what was measured."""
        test = self.test(index, models)
        labelling, surfaces = self.annotator.label(self.job, self.plan, index, models, model)
        measured = {"test": tuple(test), "labelling": tuple(labelling), "surfaces": tuple(surfaces)}
        record = StageRecord(stage=index, **trained, **measured)
        write_metrics(self.job.run, self.job.run.stage(index), model, record)

    def test(self, index: int, models: Models) -> list[TestRecord]:
        """Metrics of every held-out kidney and structure; the predictions are written down."""
        job, directory = self.job, self.job.run.stage(index)
        records: list[TestRecord] = []
        for name in job.reporter.over(self.plan.test, len(self.plan.test), f"stage {index}: test"):
            case = job.case(name)
            prediction = predict(models, case.ct, job.threads)
            write_volume(directory.prediction(name), prediction.labels)
            ct = canonical(case.ct)
            for pair in pair_kidneys(case, job.kidneys[name], prediction):
                measured = measure_kidney(pair.truth, pair.predicted, ct.spacing_mm, threads=job.threads)
                labelled_ones = [record for record in measured if record["structure"] in case.structures]
                records += [TestRecord(**pair.name, **record) for record in labelled_ones]
                kidney = pair.kidney.name
                write_snapshot(directory.path, kidney, "test", ct, pair.box, pair.truth, pair.predicted)
        return records
