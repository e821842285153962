"""A study as MONAI Label's clients see a datastore: counts, objects, training pairs, one zip of all."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from kidseg_jax.labelling.rest.study import Study


def stats(study: Study) -> dict[str, Any]:
    """How many cases there are, how many have a final label, and how many labels each tag has."""
    final = len(study.works) - len(study.waiting())
    original = sum(study.prediction(case) is not None for case in study.works)
    return {
        "total": len(study.works),
        "completed": final,
        "label_tags": {"final": final, "original": original},
    }


def datastore_json(study: Study) -> dict[str, Any]:
    """Every case with its image and the labels that exist for it."""
    objects = {}
    for case, work in study.works.items():
        labels = {}
        if study.prediction(case) is not None:
            labels["original"] = {"ext": ".seg.nrrd", "info": {"model": study.work_list.model}}
        submitted = study.labels(case)
        if submitted:
            ending = submitted[-1].name[len(case) :]
            labels["final"] = {"ext": ending, "info": {"versions": [path.name for path in submitted]}}
        info = {"blind": work.blind, "expected_s": work.score.effort_s}
        objects[case] = {"image": {"ext": ".nii.gz", "info": info}, "labels": labels}
    return {
        "name": f"stage {study.work_list.stage}",
        "description": "Cases that wait for a person, and those that are done",
        "images_dir": "to_correct",
        "labels_dir": "corrected",
        "objects": objects,
    }


def train_list(study: Study) -> list[dict[str, str]]:
    """File names, inside the stage's folder, of the images and newest final labels of all cases done."""
    pairs = []
    for case in study.works:
        submitted = study.labels(case)
        if submitted:
            image, label = (path.relative_to(study.folder) for path in (study.image(case), submitted[-1]))
            pairs.append({"image": str(image), "label": str(label)})
    return pairs


def dataset_zip(study: Study, limit_cases: int = 0) -> FileResponse:
    """A zip of image/ and label/ of the cases that are done, of the first limit_cases when it is not 0.

    Built in a temporary file that is removed when it has been sent. ValueError when no case is done.
    """
    pairs = train_list(study)[: limit_cases or None]
    if not pairs:
        raise ValueError("dataset: no case has a final label yet")
    handle, name = tempfile.mkstemp(prefix="kidseg_", suffix=".zip")
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for pair in pairs:
                for kind, path in pair.items():
                    archive.write(study.folder / path, f"{kind}/{Path(path).name}")
    except BaseException:
        os.unlink(name)
        raise
    return FileResponse(name, filename="dataset.zip", background=BackgroundTask(os.unlink, name))
