"""Where the cases of an audit come from: a folder of cases, or a run with the predictions that it kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import Cohort, load_cohort
from kidseg_jax.cohort.label_maps import label_map as label_map_named
from kidseg_jax.cohort.label_maps import read_structures
from kidseg_jax.evaluation.folders import label_maps
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
    has_ct: bool = True


class Source:
    """The labelled cases of a run or of a folder, by name, each read when it is asked for.

    A folder that holds label maps alone is one of cases without a CT.
    """

    def __init__(self, path: Path, label_map: str | None = None):
        self.path = path
        self.run = RunDirectory(path) if (path / "run.json").is_file() else None
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: no such run or folder of cases")
        self.phantoms = None
        self.cohort: Cohort | None = None
        self.maps: dict[str, Path] = {}
        if self.run is None:
            self._of_folder(path, label_map or "kidseg")
        else:
            settings = settings_of(path)
            if settings["data"] is None:
                self.phantoms = settings["config"]
            else:
                self.cohort = load_cohort(settings["data"], label_map or settings["label_map"])

    @property
    def names(self) -> Sequence[str]:
        """Names of all cases that have labels, or may have them."""
        if self.maps:
            return list(self.maps)
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
        if self.maps:
            return self._map_alone(name)
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

    def _of_folder(self, path: Path, label_map: str) -> None:
        try:
            self.cohort = load_cohort(path, label_map)
        except ValueError as no_cases:
            if (path / "dataset.json").exists() or not any(p.is_file() for p in path.iterdir()):
                raise
            try:
                self.maps = label_maps(path)
            except ValueError:
                raise no_cases from None
            self.values = label_map_named(label_map, path)

    def _map_alone(self, name: str) -> Look:
        labels = read_structures(self.maps[name], self.values)
        nothing = labels.with_array(np.broadcast_to(np.int16(0), labels.array.shape))
        return Look(Case(name, name, nothing, labels, self.values.structures), has_ct=False)

    def _corrected(self, name: str) -> Path | None:
        """The newest label that the run's stages got for a case."""
        for stage in reversed(self.run.stages() if self.run else ()):
            if found := versions(stage.corrected, name):
                return found[-1]
        return None
