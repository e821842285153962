"""People as the annotators of a run: it stops with a list of cases, and goes on from what comes back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.labelling.corrected import read_corrected, versions
from kidseg_jax.labelling.events import content_hash
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.returned import accepted_in, accepted_labels, check_corrected, events_to_append
from kidseg_jax.labelling.worklist import (
    LIST,
    choose_blind,
    describe,
    read_list,
    write_list,
    write_to_correct,
)
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import Models
from kidseg_jax.report.records import LabellingRecord, SurfaceRecord
from kidseg_jax.rundir import read_json
from kidseg_jax.staging.annotator import Job, WaitsForPeople
from kidseg_jax.staging.events import cnn_events
from kidseg_jax.staging.expect import expected, look, yardstick
from kidseg_jax.staging.file_hashes import write_known
from kidseg_jax.staging.plan import Plan


@dataclass
class People:
    """People correct; the run stops with a list of cases for them, and goes on from what comes back.

    Cases without labels wait in the pool for them.
    """

    accept_partial: bool = False
    accept_unchanged: bool = False
    blind: float = 0.0
    approver: str | None = None
    listed_now: int = field(default=0, init=False)  # the stage whose list this call wrote: nobody saw it yet
    by_people = True

    def accept(self, job: Job, plan: Plan, index: int) -> Plan:
        """Take in what people corrected after stage `index`; what is accepted is used by every later call.

        Cases that are left out stay in the plan for the stage after. Raises WaitsForPeople until enough came.
        """
        directory = job.run.stage(index)
        if not directory.accepted.exists():
            chain = read_ledger(job.run.ledger)
            unchanged = True if self.accept_unchanged else accepted_in(chain, index)
            checked = check_corrected(
                directory.to_correct, directory.corrected, accept_unchanged=unchanged, threads=job.threads
            )
            work_list = read_list(directory.to_correct)
            partly = self.accept_partial and checked.done and index != self.listed_now
            if not (checked.is_complete or partly):
                raise WaitsForPeople(f"{describe(directory.to_correct, work_list)}\n{checked}")
            print(checked)
            events = events_to_append(checked, work_list, chain, approver=self.approver)
            append(job.run.ledger, events, once=True)
            write_known(job.run, directory.accepted, {case.work.case: case.label for case in checked.done})
        accepted = read_json(directory.accepted)
        left = tuple(name for name in plan.to_correct(index) if name not in accepted)
        new = list(plan.new)
        new[index] = tuple(name for name in new[index] if name not in left)
        if index + 1 < len(new):
            new[index + 1] = (*left, *new[index + 1])
        return replace(plan, new=tuple(new))

    def corrected(self, job: Job, index: int, names: Iterable[str]) -> Iterator[Case]:
        """Cases with the labels that were accepted after stage `index`."""
        directory = job.run.stage(index)
        accepted = read_json(directory.accepted)
        for name in names:
            case = job.case(name)
            labels = accepted_labels(directory.corrected, name, case.ct.geometry, accepted[name])
            yield replace(case, labels=labels)

    def label(
        self, job: Job, plan: Plan, index: int, models: Models, model: str
    ) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
        """Predict the next stage's cases and lay them out for people; nothing is measured yet."""
        new = plan.to_correct(index)
        directory, annotator = job.run.stage(index), job.config.annotator
        if not new or (directory.to_correct / LIST).exists():
            return [], []
        known = [(job.case(name), job.kidneys[name]) for name in plan.test]
        by = yardstick(models, known, annotator, job.threads)
        rng = np.random.default_rng([job.config.seed, index])
        blind = choose_blind(new, self.blind, rng)
        waiting = []
        for name in job.reporter.over(new, len(new), f"stage {index}: predict"):
            case = job.case(name)
            prediction = predict(models, case.ct, job.threads)
            labels = prediction.labels
            write_volume(directory.prediction(name), labels)
            seen = look(models, case.ct, annotator, job.threads)
            waiting.append(
                write_to_correct(
                    directory.to_correct,
                    name,
                    case.patient,
                    case.ct,
                    labels,
                    ct_path=image_path(job, name),
                    blind=name in blind,
                    score=expected(seen, prediction, name in blind, by),
                )
            )
            events = cnn_events(case, None, labels.array, model, index, content_hash(case.ct.array))
            append(job.run.ledger, events, once=True)
        self._bring_late(job, index, set(new))
        write_list(directory.to_correct, index, model, waiting)
        self.listed_now = index
        return [], []

    def _bring_late(self, job: Job, index: int, cases: set[str]) -> None:
        """Labels that came after the stage before had gone on without these cases count for this one."""
        before, now = job.run.stage(index - 1), job.run.stage(index)
        if not index or not (before.to_correct / LIST).exists():
            return
        chain, work_list = read_ledger(job.run.ledger), read_list(before.to_correct)
        late = check_corrected(
            before.to_correct,
            before.corrected,
            only=cases,
            accept_unchanged=accepted_in(chain, index - 1),
            threads=job.threads,
        )
        append(job.run.ledger, events_to_append(late, work_list, chain, approver=self.approver), once=True)
        for case in late.done:
            if not versions(now.corrected, case.work.case):
                write_volume(now.correction(case.work.case), read_corrected(case.path, case.work.grid))


def image_path(job: Job, name: str) -> Path | None:
    """Where the CT of a case on disk lies."""
    files = getattr(job.cases, "files", None)
    return files[job.index[name]].image if files else None
