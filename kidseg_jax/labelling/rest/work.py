"""The routes of a person's work: what is on offer, the next case, its prediction, the corrected label."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.volume import Volume
from kidseg_jax.labelling.query import DEFAULT, STRATEGIES, Strategy, order
from kidseg_jax.labelling.rest import wire
from kidseg_jax.labelling.rest.access import is_own
from kidseg_jax.labelling.rest.answers import answers
from kidseg_jax.labelling.rest.archive import stats
from kidseg_jax.labelling.rest.segment import segmented
from kidseg_jax.labelling.rest.stage import WaitingStage, ending_of
from kidseg_jax.labelling.rest.state import LABELS, MODEL, Server


@answers
async def info(server: Server, request: Request) -> Response:
    stage = await anyio.to_thread.run_sync(lambda: server.stage)
    offered = sorted((s for s in STRATEGIES if _can_order(stage, s)), key=lambda s: s != DEFAULT)
    counts = await anyio.to_thread.run_sync(stats, stage)
    return JSONResponse(
        {
            "name": "kidseg_jax",
            "description": f"Kidney structures in abdominal CT, stage {stage.work_list.stage}",
            "version": "1",
            "labels": list(LABELS),
            "models": {
                MODEL: {
                    "type": "segmentation",
                    "labels": LABELS,
                    "dimension": 3,
                    "description": f"Prediction of stage {stage.work_list.stage}",
                    "config": {},
                }
            },
            "trainers": {MODEL: {"description": "The next stage, on all corrected labels", "config": {}}},
            "strategies": {
                s: {"description": f"Next case by {s}" + " (default)" * (s == DEFAULT), "config": {}}
                for s in offered
            },
            "scoring": {},
            "train_stats": {},
            "datastore": counts,
        }
    )


@answers
async def next_sample(server: Server, request: Request) -> Response:
    strategy = request.path_params["strategy"]
    params = wire.params_of(await request.body())
    stage = await anyio.to_thread.run_sync(lambda: server.stage)
    offered: dict[str, Strategy] = {s: s for s in STRATEGIES if _can_order(stage, s)}
    if strategy not in offered:
        raise HTTPException(404, f"no strategy {strategy[:80]!r} for this stage")
    waiting = await anyio.to_thread.run_sync(stage.waiting)
    client = wire.client_of(params)
    scores = {case: work.score for case, work in stage.works.items()}
    ranked = order(sorted(waiting), scores, offered[strategy], np.random.default_rng())

    def is_waiting(case: str) -> bool:
        return not stage.labels(case)

    case = await anyio.to_thread.run_sync(server.presence.take_next, client, ranked, is_waiting)
    if case is None:
        return JSONResponse({})
    is_local = request.client is not None and is_own(request.client.host)
    path = str(stage.image(case).resolve()) if is_local else ""
    ts = int(time.time())
    strategies = {strategy: {"ts": ts, "client_id": client}}
    return JSONResponse(
        {"id": case, "ts": ts, "name": f"{case}.nii.gz", "path": path, "strategy": strategies}
    )


@answers
async def infer(server: Server, request: Request) -> Response:
    began = time.monotonic()
    if request.path_params["model"] != MODEL:
        raise HTTPException(404, f"no model {request.path_params['model'][:80]!r}")
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with wire.form_of(request) as form:
            params, file = wire.params_of(form.get("params")), form.get("file")
            ending = _result_ending(params)
            if isinstance(file, UploadFile):
                image = await segmented(server, file, ending)
                return _labelled(request, "upload", ending, image, began)
    else:
        params = {}
        ending = _result_ending(params)
    stage, case = server.case(request)
    await anyio.to_thread.run_sync(server.presence.touch, wire.client_of(params), case)
    image = await anyio.to_thread.run_sync(
        _predicted, stage, case, ending, server.uploads, limiter=server.reading
    )
    return _labelled(request, case, ending, image, began)


@answers
async def save_label(server: Server, request: Request) -> Response:
    stage, case = server.case(request)
    tag = request.query_params.get("tag") or "final"
    if not (tag.isascii() and tag.replace("_", "").isalnum() and len(tag) <= 32):
        raise ValueError(f"tag: need up to 32 letters and digits, got {tag[:40]!r}")
    async with wire.form_of(request) as form:
        params, label = wire.params_of(form.get("params")), form.get("label")
        if not isinstance(label, UploadFile):
            raise ValueError("label: needs a file in the part named label, got none")
        ending, names, client = ending_of(label.filename or ""), wire.names_of(params), wire.client_of(params)
        worked = server.presence.worked(client, case) if tag == "final" else None

        def submit() -> Path:
            with wire.on_disk(label, ending, server.uploads, server.most_bytes) as path:
                return stage.submit(
                    case, path, tag=tag, annotator=client, tool="monailabel", names=names, worked=worked
                )

        path = await anyio.to_thread.run_sync(submit, limiter=server.reading)
    if tag == "final":
        await anyio.to_thread.run_sync(server.presence.leave, client, case)
    return JSONResponse({"image": case, "label": case, "version": path.name})


def _result_ending(params: Mapping[str, Any]) -> str:
    ending = str(params.get("result_extension") or ".nrrd")
    if ending not in (".nrrd", ".nii.gz", ".nii", ".seg.nrrd", ".mha"):
        raise ValueError(
            f"result_extension: need .nrrd, .nii.gz, .nii, .seg.nrrd or .mha, got {ending[:20]!r}"
        )
    return ending


def _labelled(request: Request, name: str, ending: str, image: bytes | None, began: float) -> Response:
    """The answer to a request for labels: in parts, or the file or the parameters alone as `output` asks."""
    params = {
        "label_names": LABELS,
        "model": MODEL,
        "latencies": {"total": round(time.monotonic() - began, 3)},
    }
    output = request.query_params.get("output", "")
    if image is None or output == "json":
        if image is None:
            params["blind"] = "labelled from nothing: its prediction is kept back, or no kidney was found"
        return JSONResponse(params)
    if output == "image":
        disposition = {"Content-Disposition": f'attachment; filename="{name}{ending}"'}
        return Response(image, media_type="application/octet-stream", headers=disposition)
    return wire.multipart(params, f"{name}{ending}", image)


def _can_order(stage: WaitingStage, strategy: str) -> bool:
    """Whether every case has what a strategy goes by."""
    field = {"effort": "effort_s", "stratified": "structures"}.get(strategy, strategy)
    return field in ("listed", "random") or all(
        getattr(work.score, field) is not None for work in stage.works.values()
    )


def _predicted(stage: WaitingStage, case: str, ending: str, folder: Path) -> bytes | None:
    """The prediction of a case as a file of this format; None for a blind case."""
    path = stage.prediction(case)
    if path is None:
        return None
    return path.read_bytes() if ending == ".seg.nrrd" else _file_bytes(read_labels(path), ending, folder)


def _file_bytes(labels: Volume, ending: str, folder: Path) -> bytes:

    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / f"labels{ending}"
        write_volume(path, labels)
        return path.read_bytes()
