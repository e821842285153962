"""The list of cases that wait for a person, laid out for 3D Slicer and ITK-SNAP."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.atomic import write_text
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import STRUCTURES, structures_in
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.events import content_hash
from kidseg_jax.labelling.query import UNSCORED, Score
from kidseg_jax.rundir import StageDirectory

LIST = "list.json"


@dataclass(frozen=True)
class ToCorrect:
    """One case that waits for a person.

    image and prediction: content hashes; prediction is None where the case is labelled from nothing. blind:
    so on purpose, the prediction is kept back. score: what `query.order` may go by.
    """

    case: str
    patient: str
    grid: Geometry
    image: str
    prediction: str | None
    blind: bool = False
    score: Score = UNSCORED

    def __str__(self) -> str:
        """What is asked of the person, and the expected minutes where they are known."""
        asked = (
            [] if self.prediction else [f"{'blind' if self.blind else 'no kidney found'}: label from nothing"]
        )
        effort_s = self.score.effort_s
        known = [] if effort_s is None else [f"about {effort_s / 60:.0f} min expected"]
        return ", ".join(asked + known)


@dataclass(frozen=True)
class WorkList:
    """What a stage asks of people: its number, the hash of its model, and the cases, most work first."""

    stage: int
    model: str
    cases: tuple[ToCorrect, ...]


def choose_blind(cases: Sequence[str], share: float, rng: np.random.Generator) -> frozenset[str]:
    """The cases to label from nothing: the share of 0..1 of all, rounded, at least one when it is not 0."""
    if not 0 <= share <= 1:
        raise ValueError(f"choose_blind: the share must be 0 to 1, got {share}")
    n = max(round(share * len(cases)), 1) if share > 0 and cases else 0
    return frozenset(cases[int(i)] for i in rng.choice(len(cases), n, replace=False)) if n else frozenset()


def write_to_correct(
    folder: Path,
    case: str,
    patient: str,
    ct: Volume,
    prediction: Volume,
    *,
    ct_path: Path | None = None,
    blind: bool = False,
    score: Score | None = None,
) -> ToCorrect:
    """Lay out one case for a person: CASE.nii.gz (the CT), CASE.seg.nrrd (the prediction).

    There is no prediction to see for a blind case, or where no kidney was found.
    ct_path: where the CT lies already as .nii.gz; it is linked to, not copied. Files are written whole; the
    case is asked of people once `write_list` has named it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{case}.nii.gz"
    if ct_path is not None and ct_path.name.endswith(".nii.gz"):
        temporary = image.with_name(f".{os.getpid()}.{image.name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(ct_path.resolve())
        os.replace(temporary, image)
    else:
        write_volume(image, ct)
    offered = not blind and bool(prediction.array.any())
    if offered:
        write_volume(folder / f"{case}.seg.nrrd", prediction)
    return ToCorrect(
        case=case,
        patient=patient,
        grid=ct.geometry,
        image=content_hash(ct.array),
        prediction=content_hash(prediction.array) if offered else None,
        blind=blind,
        score=score or Score(structures=structures_in(prediction.array)),
    )


def write_list(folder: Path, stage: int, model: str, cases: Sequence[ToCorrect]) -> WorkList:
    """Write the list of a stage, most expected work first, and ITK-SNAP's label names; opens the work."""
    ranked = sorted(cases, key=lambda work: (-(work.score.effort_s or 0.0), work.case))
    work_list = WorkList(stage, model, tuple(ranked))
    write_text(folder / "labels.txt", snap_labels())
    write_text(folder / LIST, json.dumps(asdict(work_list), indent=1, default=sorted) + "\n")
    return work_list


def read_list(folder: Path) -> WorkList:
    """The list in a to_correct folder. FileNotFoundError when there is none, ValueError when it is broken."""
    path = folder / LIST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        cases = tuple(_work(record) for record in data["cases"])
        return WorkList(int(data["stage"]), str(data["model"]), cases)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a list of cases to correct ({error})") from error


def describe(folder: Path, work_list: WorkList) -> str:
    """What to tell the person: where the files are, and the cases with their expected minutes."""
    corrected = StageDirectory(folder.parent).corrected
    lines = [
        f"stage {work_list.stage}: {len(work_list.cases)} cases to correct in {folder}",
        f"save each as {corrected}/CASE.seg.nrrd, then give the same command again",
    ]
    for work in work_list.cases:
        lines.append(f"  {work.case}  {work}".rstrip())
    return "\n".join(lines)


def snap_labels() -> str:
    """ITK-SNAP's label description file with the five structures."""
    head = "# ITK-SnAP Label Description File\n# File format: IDX -R- -G- -B- -A-- VIS MSH LABEL\n"
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    for s in STRUCTURES:
        rows.append(f'{s.label:5} {s.rgb[0]:5} {s.rgb[1]:4} {s.rgb[2]:4}        1  1  1    "{s.name}"')
    return head + "\n".join(rows) + "\n"


def _work(record: dict[str, Any]) -> ToCorrect:
    grid = record["grid"]
    geometry = Geometry(
        shape=tuple(grid["shape"]),
        spacing_mm=tuple(grid["spacing_mm"]),
        origin_mm=tuple(grid["origin_mm"]),
        direction=tuple(map(tuple, grid["direction"])),
    )
    score = dict(record["score"])
    if score["structures"] is not None:
        score["structures"] = frozenset(score["structures"])
    return ToCorrect(**{**record, "grid": geometry, "score": Score(**score)})
