"""Who labels the new cases of a run: what the loop asks of an annotator, and what it gives to work on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from kidseg_jax.cohort.case import Case, LabelledKidney
from kidseg_jax.config import Config
from kidseg_jax.network.models import Models
from kidseg_jax.report.records import LabellingRecord, SurfaceRecord
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.plan import Plan
from kidseg_jax.staging.progress import Reporter
from kidseg_jax.staging.team import Team


class WaitsForPeople(Exception):
    """A stage cannot begin before people have corrected the cases that the message names."""


@dataclass(frozen=True)
class Job:
    """A run's directory, settings and cases; kidneys: those of each case with labels, once it is surveyed."""

    run: RunDirectory
    config: Config
    cases: Sequence[Case]
    n_stages: int
    threads: int
    reporter: Reporter
    team: Team = field(default_factory=Team)
    kidneys: dict[str, tuple[LabelledKidney, ...]] = field(default_factory=dict)

    @cached_property
    def index(self) -> dict[str, int]:
        """The place of each case by its name, without reading the images of a cohort on disk."""
        names = getattr(self.cases, "names", None)
        return {name: i for i, name in enumerate(names or [case.name for case in self.cases])}

    def case(self, name: str) -> Case:
        return self.cases[self.index[name]]


class Annotator(Protocol):
    """Who corrects what each stage predicts: `simulated.Simulated` or `people.People`.

    by_people: labels of stage 1 came from people too, and cases without labels may wait for them; blind: the
    share of the cases that are labelled from nothing.
    """

    @property
    def by_people(self) -> bool: ...

    @property
    def blind(self) -> float: ...

    def accept(self, job: Job, plan: Plan, index: int) -> Plan:
        """The plan with what was labelled after stage `index`; WaitsForPeople where too little was."""
        ...

    def corrected(self, job: Job, index: int, names: Iterable[str]) -> Iterator[Case]:
        """Those cases with the labels that they were given after stage `index`."""
        ...

    def label(
        self, job: Job, plan: Plan, index: int, models: Models, model: str
    ) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
        """Predict the next stage's cases and label them, or lay them out for that; what was measured.

        model: the hash of the models of stage `index`.
        """
        ...
