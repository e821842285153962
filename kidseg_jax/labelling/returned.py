"""What came back from people: can it be learned from, what was changed, and what goes to the ledger."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.corrected import Change, changes, read_corrected, versions
from kidseg_jax.labelling.events import ApprovalEvent, LabelEvent, content_hash
from kidseg_jax.labelling.ledger import Chain
from kidseg_jax.labelling.worklist import ToCorrect, WorkList, read_list


@dataclass(frozen=True)
class Corrected:
    """One case as it came back: the file that counts, the hash of its labels, and what was changed."""

    work: ToCorrect
    path: Path
    label: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Checked:
    """Every case of a list: done, missing (no file yet) or refused, with the reason."""

    done: tuple[Corrected, ...]
    missing: tuple[str, ...]
    refused: dict[str, str]

    @property
    def is_complete(self) -> bool:
        return not (self.missing or self.refused)

    def __str__(self) -> str:
        lines = []
        for case in self.done:
            lines.append(f"{case.work.case} ({case.path.name}):")
            lines += [
                f"  {change}" for change in case.changes if change.voxels_added or change.voxels_removed
            ]
        lines += [f"{case}: refused: {reason}" for case, reason in self.refused.items()]
        lines += [f"{case}: no corrected file yet" for case in self.missing]
        return "\n".join(lines)


def check_corrected(
    to_correct: Path,
    corrected: Path,
    *,
    accept_unchanged: bool | Collection[str] = False,
    only: Collection[str] | None = None,
    threads: int = 1,
) -> Checked:
    """Every case of a list, or `only` those, against the newest file that came back for it.

    A file is refused when it cannot be read, does not lie on its CT's grid, holds other labels than the
    five structures, is empty, or equals the prediction (unless accept_unchanged is True or names the case).
    One bad file never hides the others.
    """
    done, missing, refused = [], [], {}
    for work in read_list(to_correct).cases:
        if only is not None and work.case not in only:
            continue
        try:
            files = versions(corrected, work.case)
            if not files:
                missing.append(work.case)
                continue
            unchanged_too = accept_unchanged is True or (
                not isinstance(accept_unchanged, bool) and work.case in accept_unchanged
            )
            done.append(
                check_one(to_correct, work, files[-1], accept_unchanged=unchanged_too, threads=threads)
            )
        except (ValueError, TypeError, OSError) as error:
            refused[work.case] = " ".join(str(error).split())
    return Checked(tuple(done), tuple(missing), refused)


def check_one(
    to_correct: Path, work: ToCorrect, path: Path, *, accept_unchanged: bool = False, threads: int = 1
) -> Corrected:
    """One file that came back for one case; raises ValueError with the reason when it cannot be used."""
    labels = read_corrected(path, work.grid)
    if not labels.array.any():
        raise ValueError(f"{path.name}: holds no structure")
    label = content_hash(labels.array)
    if label == work.prediction and not accept_unchanged:
        raise ValueError(f"{path.name}: equals the prediction; accept it by name if nothing was wrong")
    return Corrected(work, path, label, changes(prediction_of(to_correct, work), labels, threads))


def prediction_of(to_correct: Path, work: ToCorrect) -> Volume:
    """The prediction that a person was given, empty when there was none; ValueError when it was changed."""
    if work.prediction is None:
        return Volume(np.zeros(work.grid.shape, np.uint8), work.grid)
    path = to_correct / f"{work.case}.seg.nrrd"
    labels = read_corrected(path, work.grid)
    if content_hash(labels.array) != work.prediction:
        raise ValueError(f"{path}: not the prediction any more; save corrections in the folder corrected")
    return labels


def label_events(
    case: Corrected, stage: int, model: str, *, annotator: str, tool: str, **times: Any
) -> tuple[LabelEvent, ...]:
    """Ledger events of one case from a person, one a structure; times: opened, submitted, active_s."""
    work = case.work
    return tuple(
        LabelEvent(
            case=work.case,
            structure=change.structure,
            origin="manual" if work.prediction is None else "cnn_corrected",
            stage=stage,
            label=case.label,
            annotator=annotator,
            tool=tool,
            simulated=False,
            patient=work.patient,
            parent=work.prediction,
            model=None if work.prediction is None else model,
            image=work.image,
            voxels_added=change.voxels_added,
            voxels_removed=change.voxels_removed,
            blind=work.blind,
            **times,
        )
        for change in case.changes
    )


def events_to_append(
    checked: Checked, work_list: WorkList, chain: Chain, *, approver: str | None = None
) -> list[LabelEvent | ApprovalEvent]:
    """Ledger events for the cases that are done.

    Labels that the ledger does not hold yet get an event a structure; those that it holds (the server writes
    its own events) get one with the name of the approver, where there is one.
    """
    known = {(e.case, e.label) for e in by_people(chain)}
    events: list[LabelEvent | ApprovalEvent] = []
    for case in checked.done:
        name, stage, model = case.work.case, work_list.stage, work_list.model
        if (name, case.label) not in known:
            made = label_events(case, stage, model, annotator="unknown", tool="file")
            events += [replace(event, approver=approver) for event in made]
        elif approver is not None:
            events.append(ApprovalEvent(name, stage, case.label, approver))
    return events


def by_people(chain: Chain) -> list[LabelEvent]:
    """The label events of a ledger that are the work of people."""
    return [e for e in chain.events(LabelEvent) if e.origin != "cnn" and not e.simulated]


def accepted_in(chain: Chain, stage: int) -> frozenset[str]:
    """Cases of a stage that a person has submitted through the server: unchanged labels count for them."""
    return frozenset(e.case for e in by_people(chain) if e.stage == stage)


def accepted_labels(corrected: Path, case: str, grid: Geometry, label: str) -> Volume:
    """The newest version of a case whose labels have this hash: what an earlier call accepted.

    Versions that are broken or were changed since are passed over; ValueError when none is left.
    """
    for path in reversed(versions(corrected, case)):
        try:
            labels = read_corrected(path, grid)
        except (ValueError, OSError):
            continue
        if content_hash(labels.array) == label:
            return labels
    raise ValueError(f"{corrected}: no file of {case} holds the labels that were accepted; put one back")
