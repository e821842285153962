"""Ledger events for the labels that no annotator of this run makes: those it begins with, and predictions."""

from collections.abc import Sequence

import numpy as np

from kidseg_jax.cohort.case import Case, LabelledKidney, Side
from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Labels, canonical
from kidseg_jax.labelling.events import LabelEvent, content_hash
from kidseg_jax.labelling.simulated_annotator import manual_seconds


def manual_events(
    case: Case, kidneys: Sequence[LabelledKidney], config: AnnotatorConfig | None
) -> list[LabelEvent]:
    """One event a structure of each kidney for labels made by hand before the first stage (stage 0).

    config: the simulated annotator, whose minutes from nothing they get; None: people made them, in a time
    that is not known here.
    """
    assert case.labels is not None  # its kidneys were found in them
    image, label = content_hash(case.ct.array), content_hash(case.labels.array)
    spacing_mm = canonical(case.labels).spacing_mm
    events = []
    for kidney in kidneys:
        own = kidney.labels
        counts = np.bincount(own.ravel(), minlength=len(STRUCTURES) + 1)
        seconds = manual_seconds(own, spacing_mm, config) if config else {}
        events += [
            LabelEvent(
                case=case.name,
                structure=structure.name,
                origin="manual",
                stage=0,
                label=label,
                annotator="simulated annotator" if config else "unknown",
                tool="kidseg_jax" if config else "file",
                simulated=config is not None,
                patient=case.patient,
                kidney=kidney.side,
                image=image,
                active_s=seconds.get(structure.name),
                voxels_added=int(counts[structure.label]),
            )
            for structure in STRUCTURES
            if counts[structure.label]
        ]
    return events


def cnn_events(
    case: Case, side: Side | None, predicted: Labels, model: str, stage: int, image: str
) -> list[LabelEvent]:
    """One event a structure of a prediction; corrected labels name its hash as their parent.

    predicted: of one kidney where `side` says which, else of the whole case; image: the hash of the CT.
    """
    counts = np.bincount(predicted.ravel(), minlength=len(STRUCTURES) + 1)
    label = content_hash(predicted)
    return [
        LabelEvent(
            case=case.name,
            structure=structure.name,
            origin="cnn",
            stage=stage,
            label=label,
            annotator="network",
            tool="kidseg_jax",
            simulated=False,
            patient=case.patient,
            kidney=side,
            model=model,
            image=image,
            voxels_added=int(counts[structure.label]),
        )
        for structure in STRUCTURES
        if counts[structure.label]
    ]
