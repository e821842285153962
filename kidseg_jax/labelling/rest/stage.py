"""The cases that a server shows: where their files are, and what a submitted label becomes."""

import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kidseg_jax.atomic import sync_folder
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.labelling.corrected import ENDINGS, add_version, read_corrected, versions
from kidseg_jax.labelling.events import LabelEvent, TimeEvent, content_hash
from kidseg_jax.labelling.ledger import append
from kidseg_jax.labelling.returned import Corrected, check_one, label_events
from kidseg_jax.labelling.worklist import LIST, ToCorrect, WorkList, read_list
from kidseg_jax.rundir import RunDirectory, StageDirectory

_SUBMITTING = threading.Lock()  # one server serves a run


@dataclass(frozen=True)
class Worked:
    """Wall-clock times (ISO 8601) and active seconds between a case's opening and its submission."""

    opened: str
    submitted: str
    active_s: float


@dataclass(frozen=True)
class WaitingStage:
    """One stage of a run that waits for people. Nothing outside its folder is ever named by a request."""

    folder: Path
    work_list: WorkList

    @property
    def directory(self) -> StageDirectory:
        return StageDirectory(self.folder)

    @property
    def ledger(self) -> Path:
        return self.directory.run.ledger

    @property
    def models(self) -> Path:
        return self.directory.models

    @property
    def works(self) -> dict[str, ToCorrect]:
        return {work.case: work for work in self.work_list.cases}

    def image(self, case: str) -> Path:
        """The CT of a case; KeyError for a name that is not on the list."""
        return self.directory.to_correct / f"{self.works[case].case}.nii.gz"

    def prediction(self, case: str) -> Path | None:
        """The prediction a person may see; None for a case that is labelled from nothing."""
        work = self.works[case]
        return None if work.prediction is None else self.directory.to_correct / f"{case}.seg.nrrd"

    def labels(self, case: str, tag: str = "final") -> tuple[Path, ...]:
        """Submitted versions of a case, oldest first."""
        return versions(self._tagged(tag), self.works[case].case)

    def waiting(self) -> tuple[str, ...]:
        """Cases without a final label, in the order of the list."""
        return tuple(case for case in self.works if not self.labels(case))

    def submit(
        self,
        case: str,
        upload: Path,
        *,
        tag: str,
        annotator: str,
        tool: str,
        names: Mapping[int, str] | None = None,
        worked: Worked | None = None,
    ) -> Path:
        """A person's label becomes the next version of a case, and the ledger says so.

        upload: a finished file; what counts is its ending and its voxels, renumbered by names. The ledger
        is written after the file, so that a kill between the two leaves a file that the stage finds by
        itself; where it cannot be written the file goes again, and the same upload may be tried again. A
        label other than final is kept beside them and not in the ledger. Raises ValueError for a label that
        cannot be used, OSError where the disk is full.
        """
        work = self.works[case]
        labels = read_corrected(upload, work.grid, names)
        folder = self._tagged(tag)
        temporary = self.directory.run.uploads / f"{secrets.token_hex(8)}.seg.nrrd"
        try:
            write_volume(temporary, labels)
            if tag != "final":
                return add_version(folder, case, temporary)
            checked = check_one(self.directory.to_correct, work, temporary, accept_unchanged=True)
            with _SUBMITTING:
                known = self._same_as_newest(case, checked)
                path = known or add_version(folder, case, temporary)
                try:
                    self._record(checked, annotator, tool, worked)
                except BaseException:
                    if known is None:
                        path.unlink()
                        sync_folder(folder)
                    raise
            return path
        finally:
            temporary.unlink(missing_ok=True)

    def _same_as_newest(self, case: str, checked: Corrected) -> Path | None:
        """The newest version when it holds the same labels already: a request that was sent twice."""
        newest = self.labels(case)[-1:]
        for path in newest:
            if content_hash(read_corrected(path, checked.work.grid).array) == checked.label:
                return path
        return None

    def _record(self, checked: Corrected, annotator: str, tool: str, worked: Worked | None) -> None:
        times = {"opened": worked.opened, "submitted": worked.submitted} if worked else {}
        stage, model = self.work_list.stage, self.work_list.model
        lines: list[LabelEvent | TimeEvent] = [
            *label_events(checked, stage, model, annotator=annotator, tool=tool, **times)
        ]
        if worked:
            origin = "manual" if checked.work.prediction is None else "cnn_corrected"
            lines.append(
                TimeEvent(
                    case=checked.work.case,
                    origin=origin,
                    stage=stage,
                    annotator=annotator,
                    source="server",
                    active_s=worked.active_s,
                    **times,
                )
            )
        append(self.ledger, lines, once=True)

    def _tagged(self, tag: str) -> Path:
        folder = self.directory.corrected if tag == "final" else self.directory.saved(tag)
        folder.mkdir(exist_ok=True)
        return folder


def open_stage(run: str | os.PathLike[str]) -> WaitingStage:
    """The newest stage of a run that waits for people. ValueError when the run has none."""
    waiting = [stage for stage in RunDirectory(Path(run)).stages() if (stage.to_correct / LIST).exists()]
    if not waiting:
        raise ValueError(
            f"{run}: needs a stage with a list of cases to correct, got none; "
            "train one with python -m kidseg_jax.stage --annotator human"
        )
    return WaitingStage(waiting[-1].path, read_list(waiting[-1].to_correct))


def ending_of(file_name: str) -> str:
    """The ending of an uploaded file's name, whatever folder it is in; ValueError for one not read here."""
    name = file_name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    for ending in ENDINGS:
        if name.endswith(ending) and ending != ".npz":
            return ending
    raise ValueError(
        f"label: need a file ending in {', '.join(e for e in ENDINGS if e != '.npz')}, got {name!r}"
    )
