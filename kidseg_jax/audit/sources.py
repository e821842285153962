"""Where the cases of an audit come from: a folder of cases, or a run with the predictions that it kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import Cohort, load_cohort
from kidseg_jax.formats.volumes import read_labels
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.imaging.volume import Volume, on_grid
from kidseg_jax.labelling.corrected import read_corrected, versions
from kidseg_jax.phantom.cohort import make_case
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.resume import settings_of


class Look(NamedTuple):
    """A case with its labels, and what a network that did not see it predicts (None: there is none).

    who: that network, in words; known: the structures that it can tell.
    """

    case: Case
    predicted: Volume | None = None
    who: str = ""
    known: frozenset[str] = frozenset(NAMES)


class Source:
    """The labelled cases of a run or of a folder, by name, each read when it is asked for."""

    def __init__(self, path: Path, label_map: str | None = None):
        self.path = path
        self.run = RunDirectory(path) if (path / "run.json").is_file() else None
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: no such run or folder of cases")
        self.phantoms = None
        self.cohort: Cohort | None = None
        if self.run is None:
            self.cohort = load_cohort(path, label_map or "kidseg")
        else:
            settings = settings_of(path)
            if settings["data"] is None:
                self.phantoms = settings["config"]
            else:
                self.cohort = load_cohort(settings["data"], label_map or settings["label_map"])

    @property
    def names(self) -> Sequence[str]:
        """Names of all cases that have labels, or may have them."""
        if self.cohort is not None:
            return [
                one.name for one in self.cohort.files if one.labels is not None or self._corrected(one.name)
            ]
        assert self.phantoms is not None
        return [f"case_{index:05d}" for index in range(self.phantoms.cohort.patients)]

    @property
    def patients(self) -> dict[str, str]:
        """The patient of each case."""
        if self.cohort is not None:
            return {one.name: one.patient for one in self.cohort.files}
        return {name: name for name in self.names}

    def look(self, name: str) -> Look:
        """One case as it stands: its newest label, and the run's prediction of it where there is one.

        A stage predicts the cases that the next one learns from, and the test cases, so its prediction is
        that of networks that had not seen the case.
        """
        if self.cohort is not None:
            case = self.cohort[list(self.cohort.names).index(name)]
        else:
            assert self.phantoms is not None
            case = make_case(self.phantoms.cohort, self.phantoms.seed, self.names.index(name))
        if (path := self._corrected(name)) is not None:
            labels = read_corrected(path, case.ct.geometry)
            case = replace(case, labels=labels)
        if case.labels is None:
            raise ValueError(f"{name}: has no label map")
        if self.run is None:
            return Look(case)
        for stage in reversed(self.run.stages()):
            if (path := stage.prediction(name)).is_file():
                predicted = on_grid(path.name, read_labels(path), case.ct.geometry)
                return Look(case, predicted, f"stage {stage.index}")
        return Look(case)

    def _corrected(self, name: str) -> Path | None:
        """The newest label that the run's stages got for a case."""
        for stage in reversed(self.run.stages() if self.run else ()):
            if found := versions(stage.corrected, name):
                return found[-1]
        return None
