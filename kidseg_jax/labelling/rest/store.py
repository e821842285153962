"""The routes of the datastore: images and labels to fetch, what there is, and everything in one file."""

import hashlib
from pathlib import Path

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from kidseg_jax.labelling.rest.answers import answers
from kidseg_jax.labelling.rest.archive import dataset_zip, datastore_json, stats, train_list
from kidseg_jax.labelling.rest.state import Server


@answers
async def get_image(server: Server, request: Request) -> Response:
    stage, case = server.case(request)
    path = stage.image(case)
    expected = request.query_params.get("check_sum")
    if expected and not await anyio.to_thread.run_sync(has_checksum, path, expected):
        raise HTTPException(404, f"{case}: the checksum does not hold")
    return _file(path)


@answers
async def get_label(server: Server, request: Request) -> Response:
    stage, case = server.case(request, "label" if "label" in request.query_params else "image")
    tag = request.query_params.get("tag") or "final"
    if tag == "original":
        path = stage.prediction(case)
    else:
        path = next(reversed(stage.labels(case)), None) if tag == "final" else None
    if path is None:
        raise HTTPException(404, f"{case}: no label with the tag {tag[:40]!r}")
    return _file(path)


@answers
async def image_info(server: Server, request: Request) -> Response:
    stage, case = server.case(request)
    work = stage.works[case]
    return JSONResponse({"blind": work.blind, "expected_s": work.score.effort_s, "checksum": work.image})


@answers
async def label_info(server: Server, request: Request) -> Response:
    stage, case = server.case(request, "label" if "label" in request.query_params else "image")
    return JSONResponse({"versions": [path.name for path in stage.labels(case)]})


@answers
async def datastore(server: Server, request: Request) -> Response:
    output = request.query_params.get("output") or "stats"
    made = {"stats": stats, "all": datastore_json, "train": train_list}.get(output)
    if made is None:
        raise ValueError(f"output: need stats, train or all, got {output[:40]!r}")
    return JSONResponse(await anyio.to_thread.run_sync(lambda: made(server.stage)))


@answers
async def dataset(server: Server, request: Request) -> Response:
    limit = int(request.query_params.get("limit_cases") or 0)
    if limit < 0:
        raise ValueError(f"limit_cases: must not be negative, got {limit}")
    async with server.segmenting:
        return await anyio.to_thread.run_sync(dataset_zip, server.stage, server.uploads, limit)


async def refused(server: Server, request: Request) -> Response:
    """Cases belong to the plan of a run and labels are kept: neither is added or removed over the network."""
    raise HTTPException(
        403, "the cases of a run are fixed, and its labels are kept: nothing is added or removed here"
    )


def _file(path: Path) -> FileResponse:
    """A file to download; 404 where it was moved away since the list was made."""
    if not path.is_file():
        raise HTTPException(404, f"{path.name} is not there any more")
    return FileResponse(path, filename=path.name)


def has_checksum(path: Path, expected: str) -> bool:
    """Whether a file has a checksum as clients write it: `SHA256:` and hex digits, or digits alone."""
    kind, _, digits = expected.rpartition(":")
    if kind.upper() not in ("", "SHA256"):
        raise ValueError(f"check_sum: need SHA256, got {kind[:20]!r}")
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digits.lower()
