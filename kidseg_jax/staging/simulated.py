"""The simulated annotator of a run: what it makes of each case and kidney, in labels, records and events."""

import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.volume import Volume, canonical, pasted
from kidseg_jax.labelling.events import LabelEvent, MapEvent, content_hash
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.simulated_annotator import correct, manual_seconds
from kidseg_jax.network import checkpoint
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import Models, load_models
from kidseg_jax.report.records import LabellingRecord, SurfaceRecord
from kidseg_jax.report.snapshot import write_snapshot
from kidseg_jax.staging.annotator import Job
from kidseg_jax.staging.case_work import KidneyPair, pair_kidneys
from kidseg_jax.staging.events import cnn_events, manual_events
from kidseg_jax.staging.plan import Plan

ANNOTATOR = "simulated annotator"


class Simulated:
    """Corrects every case at once, from its own labels, in minutes that are a model's."""

    by_people = False
    blind = 0.0

    def accept(self, job: Job, plan: Plan, index: int) -> Plan:
        """The plan as it is: nobody is waited for."""
        return plan

    def corrected(self, job: Job, index: int, names: Iterable[str]) -> Iterator[Case]:
        """The corrected labels of cases of stage `index`; where a file is lost or broken, made again.

        Raises ValueError where someone has changed them since the ledger heard of them.
        """
        directory, known = job.run.stage(index), read_ledger(job.run.ledger).events(MapEvent)
        for name in names:
            case, path = job.case(name), directory.correction(name)
            try:
                labels = read_labels(path)
            except (ValueError, OSError) as error:
                print(f"kidseg_jax: stage {index}: {error}; correcting {name} again", file=sys.stderr)
                models, model = load_models(directory.models), checkpoint.about(directory.models)["sha256"]
                correct_case(job, index, models, model, name)
                labels = read_labels(path)
            else:
                require_unchanged(path, labels, case, index, known)
            yield replace(case, labels=labels)

    def label(
        self, job: Job, plan: Plan, index: int, models: Models, model: str
    ) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
        """Predict and correct the next stage's cases, and write it all down."""
        labelling: list[LabellingRecord] = []
        surfaces: list[SurfaceRecord] = []
        new = plan.to_correct(index)
        for name in job.reporter.over(new, len(new), f"stage {index}: correct"):
            records, measured = correct_case(job, index, models, model, name)
            labelling += records
            surfaces += measured
        return labelling, surfaces


def correct_case(
    job: Job, index: int, models: Models, model: str, name: str
) -> tuple[list[LabellingRecord], list[SurfaceRecord]]:
    """One case predicted and corrected, a function of the models; its files are written."""
    labelling: list[LabellingRecord] = []
    surfaces: list[SurfaceRecord] = []
    case, directory, annotator = job.case(name), job.run.stage(index), job.config.annotator
    prediction = predict(models, case.ct, job.threads)
    write_volume(directory.prediction(name), prediction.labels)
    parts, events = [], []
    ct = canonical(case.ct)
    for pair in pair_kidneys(case, job.kidneys[name], prediction):
        kidney = pair.kidney
        rng = np.random.default_rng([job.config.seed, job.index[name], kidney.side == "left"])
        labels, records, more = correct_kidney(pair, case, annotator, rng, model, index)
        parts.append((pair.box.lo, labels))
        labelling += records
        events += more
        surfaces += surfaces_of(pair, labels, case)
        write_snapshot(directory.path, kidney.name, "new", ct, pair.box, pair.truth, pair.predicted, labels)
    labels = pasted(parts, case.ct)
    write_volume(directory.correction(name), labels)
    filed = MapEvent(name, index, content_hash(labels.array))
    append(job.run.ledger, [*events, filed], once=True)
    return labelling, surfaces


def correct_kidney(
    pair: KidneyPair,
    case: Case,
    annotator: AnnotatorConfig,
    rng: np.random.Generator,
    model: str,
    index: int,
) -> tuple[np.ndarray, list[LabellingRecord], list[LabelEvent]]:
    """One kidney's corrected labels, with a record and a ledger event for each of its structures.

    One that the start model did not find is drawn by hand, and its events say so.
    """
    kidney = pair.kidney
    spacing_mm = canonical(case.ct).spacing_mm
    by_hand = manual_seconds(pair.truth, spacing_mm, annotator)
    if not index and not pair.predicted.any():
        drawn = manual_events(case, [kidney], annotator)
        records = [
            LabellingRecord(
                **pair.name,
                structure=event.structure,
                manual_seconds=event.active_s,
                corrected_seconds=event.active_s,
                voxels_added=event.voxels_added,
                voxels_removed=0,
            )
            for event in drawn
        ]
        return pair.truth, records, drawn
    done = correct(pair.truth, pair.predicted, spacing_mm, annotator, rng)
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
    compared = compare_kidney(pair.truth, pair.predicted, corrected, canonical(case.ct).spacing_mm)
    return [
        SurfaceRecord(**pair.name, pair=pair_name, **asdict(measure))
        for pair_name, measures in compared.items()
        for measure in measures
    ]
