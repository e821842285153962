"""What the simulated annotator makes of one kidney: labels, records, ledger lines, surfaces."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.volume import Volume, canonical
from kidseg_jax.labelling.events import LabelEvent, MapEvent, content_hash
from kidseg_jax.labelling.simulated_annotator import correct, manual_seconds
from kidseg_jax.report.records import LabellingRecord, SurfaceRecord
from kidseg_jax.staging.case_work import KidneyPair
from kidseg_jax.staging.events import cnn_events

ANNOTATOR = "simulated annotator"


def correct_kidney(
    pair: KidneyPair,
    case: Case,
    annotator: AnnotatorConfig,
    rng: np.random.Generator,
    model: str,
    index: int,
) -> tuple[np.ndarray, list[LabellingRecord], list[LabelEvent]]:
    """One kidney's corrected labels, with a record and a ledger line for each of its structures."""
    kidney = pair.kidney
    spacing_mm = canonical(case.ct).spacing_mm
    done = correct(pair.truth, pair.predicted, spacing_mm, annotator, rng)
    by_hand = manual_seconds(pair.truth, spacing_mm, annotator)
    image = content_hash(case.ct.array)
    records, events = [], cnn_events(case, kidney.side, pair.predicted, model, index, image)
    for structure, seconds in done.seconds.items():
        changed: dict[str, Any] = {
            "voxels_added": done.voxels_added[structure],
            "voxels_removed": done.voxels_removed[structure],
        }
        records.append(
            LabellingRecord(
                **pair.name,
                structure=structure,
                manual_seconds=by_hand.get(structure),
                corrected_seconds=seconds,
                simulated=True,
                **changed,
            )
        )
        events.append(
            LabelEvent(
                case=case.name,
                structure=structure,
                origin="cnn_corrected",
                stage=index,
                label=content_hash(done.labels),
                annotator=ANNOTATOR,
                tool="kidseg_jax",
                simulated=True,
                patient=kidney.patient,
                kidney=kidney.side,
                parent=content_hash(pair.predicted),
                model=model,
                image=image,
                active_s=seconds,
                **changed,
            )
        )
    return done.labels, records, events


def require_unchanged(
    path: Path, labels: Volume, case: Case, stage: int, known: Collection[MapEvent]
) -> None:
    """ValueError unless the labels read from a corrected file are those that the ledger knows of the case.

    known: all of the ledger. An older version wrote no such lines: its files are taken as they are.
    """
    hashes = {event.label for event in known if (event.case, event.stage) == (case.name, stage)}
    same = labels.geometry.is_close(case.ct.geometry) and content_hash(labels.array) in hashes
    if hashes and not same:
        raise ValueError(
            f"{path}: not the labels that the ledger knows; put them back, or remove the file to have them "
            "made again"
        )


def surfaces_of(pair: KidneyPair, corrected: np.ndarray, case: Case) -> list[SurfaceRecord]:
    """Surface RMS of one kidney's manual, CNN and CNN-corrected labels; none without Open3D."""
    try:
        from kidseg_jax.evaluation.meshes import compare_kidney
    except ImportError:
        return []
    found = compare_kidney(pair.truth, pair.predicted, corrected, canonical(case.ct).spacing_mm)
    return [
        SurfaceRecord(**pair.name, pair=compared, **asdict(measure))
        for compared, measures in found.items()
        for measure in measures
    ]
