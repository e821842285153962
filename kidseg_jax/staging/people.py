"""The loop with people in it: stages stop with a list of cases, and go on from what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kidseg_jax.cohort.case import Case, Kidney
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import Config
from kidseg_jax.labelling.corrected import read_corrected, versions
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
from kidseg_jax.rundir import RunDirectory, StageDirectory, read_json
from kidseg_jax.staging.case_work import teach
from kidseg_jax.staging.events import cnn_events
from kidseg_jax.staging.expect import expected, look, yardstick
from kidseg_jax.staging.learning import StageState, TrainingSet
from kidseg_jax.staging.loop import Loop
from kidseg_jax.staging.plan import TEST_SHARE, Plan, make_plan
from kidseg_jax.staging.progress import Reporter
from kidseg_jax.staging.told import write_told


class WaitsForPeople(Exception):
    """A stage cannot begin before people have corrected the cases that the message names."""


@dataclass(frozen=True)
class People:
    """How a run treats the people who correct for it."""

    accept_partial: bool = False
    accept_unchanged: bool = False
    blind: float = 0.0
    approver: str | None = None


class PeopleLoop(Loop):
    """A run whose new cases are corrected by people. Cases without labels wait in the pool for them."""

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        cases: Sequence[Case],
        n_stages: int,
        threads: int,
        people: People,
    ):
        super().__init__(run, config, cases, n_stages, threads)
        self.people = people
        self.hand = None
        self.listed_now = 0  # the stage whose list this call has written: nobody has seen it yet

    def survey(self, reporter: Reporter) -> None:
        """Find the kidneys of the labelled cases; where some have none, those with labels come first."""
        unlabelled: dict[str, str] = {}
        for case in reporter.over(self.cases, len(self.cases), "kidneys"):
            if case.labels is None:
                unlabelled[case.name] = case.patient
            else:
                self.kidneys[case.name] = kidneys_of(case)
        everyone = [kidney for kidneys in self.kidneys.values() for kidney in kidneys]
        if unlabelled:
            self.plan = people_plan(everyone, unlabelled, self.n_stages, self.config.seed)
        else:
            self.plan = make_plan(everyone, self.n_stages, self.config.seed)

    def stage(self, state: StageState, reporter: Reporter) -> StageState:
        """One stage, once people have done their part of the one before; raises WaitsForPeople until then."""
        if state.index > 0:
            self.accept(state.index)
        return super().stage(state, reporter)

    def accept(self, index: int) -> None:
        """Take in what people corrected after stage `index`; what is accepted is used by every later call.

        Cases that are left out stay in the plan for the stage after.
        """
        folder = self.run.stage(index).path
        accepted = folder / "accepted.json"
        if not accepted.exists():
            chain = read_ledger(self.run.ledger)
            unchanged = True if self.people.accept_unchanged else accepted_in(chain, index)
            checked = check_corrected(
                folder / "to_correct", folder / "corrected", accept_unchanged=unchanged, threads=self.threads
            )
            work_list = read_list(folder / "to_correct")
            partly = self.people.accept_partial and checked.done and index != self.listed_now
            if not (checked.is_complete or partly):
                raise WaitsForPeople(f"{describe(folder / 'to_correct', work_list)}\n{checked}")
            print(checked)
            events = events_to_append(checked, work_list, chain, approver=self.people.approver)
            append(self.run.ledger, events, once=True)
            write_told(self.run, accepted, {case.work.case: case.label for case in checked.done})
        left = tuple(name for name in self.plan.new[index] if name not in read_json(accepted))
        new = list(self.plan.new)
        new[index] = tuple(name for name in new[index] if name not in left)
        if index + 1 < len(new):
            new[index + 1] = (*left, *new[index + 1])
        self.plan = replace(self.plan, new=tuple(new))

    def training_set(self, index: int, reporter: Reporter) -> TrainingSet:
        """What the new cases of stage `index` teach: hand labels in stage 1, corrected ones after it."""
        if index == 1:
            return super().training_set(index, reporter)
        folder = self.run.stage(index - 1).path
        accepted = read_json(folder / "accepted.json")
        training_set = TrainingSet()
        for name in reporter.over(self.plan.new[index - 1], len(accepted), f"stage {index}: samples"):
            case = self.cases[self.index[name]]
            labels = accepted_labels(folder / "corrected", name, case.ct.geometry, accepted[name])
            training_set = training_set.and_also(teach(case, labels, self.config, self.threads))
        return training_set

    def label_next(
        self, directory: StageDirectory, models: Models, model: str, reporter: Reporter, index: int
    ) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
        """Predict the next stage's cases and lay them out for people; nothing is measured yet."""
        new = self.plan.new[index] if index < self.n_stages else ()
        folder = directory.path / "to_correct"
        if not new or (folder / LIST).exists():
            return [], []
        annotator = self.config.annotator
        known = [(self.cases[self.index[name]], self.kidneys[name]) for name in self.plan.test]
        by = yardstick(models, known, annotator, self.threads)
        rng = np.random.default_rng([self.config.seed, index])
        blind = choose_blind(new, self.people.blind, rng)
        waiting = []
        for name in reporter.over(new, len(new), f"stage {index}: predict"):
            case = self.cases[self.index[name]]
            prediction = predict(models, case.ct, self.threads)
            labels = prediction.labels
            directory.write_labels("predictions", name, labels)
            seen = look(models, case.ct, annotator, self.threads)
            waiting.append(
                write_to_correct(
                    folder,
                    name,
                    case.patient,
                    case.ct,
                    labels,
                    ct_path=self.image_path(name),
                    blind=name in blind,
                    score=expected(seen, prediction, name in blind, by),
                )
            )
            append(self.run.ledger, cnn_events(case, None, labels.array, model, index), once=True)
        self.bring_late(index, set(new))
        write_list(folder, index, model, waiting)
        self.listed_now = index
        return [], []

    def bring_late(self, index: int, cases: set[str]) -> None:
        """Labels that came after the stage before had gone on without these cases count for this one."""
        before = self.run.stage(index - 1).path
        if index < 2 or not (before / "to_correct" / LIST).exists():
            return
        chain, work_list = read_ledger(self.run.ledger), read_list(before / "to_correct")
        late = check_corrected(
            before / "to_correct",
            before / "corrected",
            only=cases,
            accept_unchanged=accepted_in(chain, index - 1),
            threads=self.threads,
        )
        lines = events_to_append(late, work_list, chain, approver=self.people.approver)
        append(self.run.ledger, lines, once=True)
        for case in late.done:
            if not versions(self.run.stage(index).path / "corrected", case.work.case):
                labels = read_corrected(case.path, case.work.grid)
                self.run.stage(index).write_labels("corrected", case.work.case, labels)

    def image_path(self, name: str) -> Path | None:
        """Where the CT of a case on disk lies."""
        files = getattr(self.cases, "files", None)
        return files[self.index[name]].image if files else None


def people_plan(
    labelled_kidneys: Sequence[Kidney], unlabelled: dict[str, str], n_stages: int, seed: int
) -> Plan:
    """A fifth of the labelled kidneys for testing, the rest for stage 1, the cases without labels after it.

    unlabelled: patient of each case name. Patients stay on one side: cases of test patients are left out.
    Raises ValueError when fewer than two patients have labels or a later stage would get no case.
    """
    of_patient: dict[str, list[Kidney]] = {}
    for kidney in labelled_kidneys:
        of_patient.setdefault(kidney.patient, []).append(kidney)
    patients = sorted(of_patient)
    if len(patients) < 2:
        raise ValueError(f"people_plan: need labelled cases of 2 patients or more, got {len(patients)}")
    wanted = max(1, round(TEST_SHARE * len(labelled_kidneys)))
    test: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(patients)).tolist():
        if sum(len(of_patient[patient]) for patient in test) < wanted and len(test) < len(patients) - 1:
            test.add(patients[i])
    pool = [case for case, patient in unlabelled.items() if patient not in test]
    if len(pool) < n_stages - 1:
        raise ValueError(
            f"people_plan: {n_stages} stages need {n_stages - 1} cases without labels, got {len(pool)}"
        )
    tested = tuple(sorted({k.case for k in labelled_kidneys if k.patient in test}))
    first = tuple(sorted({k.case for k in labelled_kidneys if k.patient not in test}))
    later = [tuple(map(str, part)) for part in np.array_split(pool, n_stages - 1)] if n_stages > 1 else []
    return Plan(tested, (first, *later))
