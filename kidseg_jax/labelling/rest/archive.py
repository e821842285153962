"""A stage as MONAI Label's clients see a datastore: counts, objects, training pairs, one zip of all."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from kidseg_jax.labelling.rest.stage import WaitingStage


def stats(stage: WaitingStage) -> dict[str, Any]:
    """How many cases there are, how many have a final label, and how many labels each tag has."""
    final = len(stage.works) - len(stage.waiting())
    original = sum(stage.prediction(case) is not None for case in stage.works)
    return {
        "total": len(stage.works),
        "completed": final,
        "label_tags": {"final": final, "original": original},
    }


def datastore_json(stage: WaitingStage) -> dict[str, Any]:
    """Every case with its image and the labels that exist for it."""
    objects = {}
    for case, work in stage.works.items():
        labels = {}
        if stage.prediction(case) is not None:
            labels["original"] = {"ext": ".seg.nrrd", "info": {"model": stage.work_list.model}}
        submitted = stage.labels(case)
        if submitted:
            ending = submitted[-1].name[len(case) :]
            labels["final"] = {"ext": ending, "info": {"versions": [path.name for path in submitted]}}
        info = {"blind": work.blind, "expected_s": work.score.effort_s}
        objects[case] = {"image": {"ext": ".nii.gz", "info": info}, "labels": labels}
    return {
        "name": f"stage {stage.work_list.stage}",
        "description": "Cases that wait for a person, and those that are done",
        "images_dir": stage.directory.to_correct.name,
        "labels_dir": stage.directory.corrected.name,
        "objects": objects,
    }


def train_list(stage: WaitingStage) -> list[dict[str, str]]:
    """File names, inside the stage's folder, of the images and newest final labels of all cases done."""
    pairs = []
    for case in stage.works:
        submitted = stage.labels(case)
        if submitted:
            image, label = (path.relative_to(stage.folder) for path in (stage.image(case), submitted[-1]))
            pairs.append({"image": str(image), "label": str(label)})
    return pairs


def dataset_zip(stage: WaitingStage, folder: Path, limit_cases: int = 0) -> FileResponse:
    """A zip of image/ and label/ of the cases that are done, of the first limit_cases when it is not 0.

    Built in a file below `folder` that is removed when it has been sent. ValueError when no case is done.
    """
    pairs = train_list(stage)[: limit_cases or None]
    if not pairs:
        raise ValueError("dataset: no case has a final label yet")
    handle, name = tempfile.mkstemp(suffix=".zip", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for pair in pairs:
                for kind, path in pair.items():
                    archive.write(stage.folder / path, f"{kind}/{Path(path).name}")
    except BaseException:
        os.unlink(name)
        raise
    return FileResponse(name, filename="dataset.zip", background=BackgroundTask(os.unlink, name))
