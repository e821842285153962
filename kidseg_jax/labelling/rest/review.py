"""The routes of a review: what waits, its picture, its files, and what a person decides."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.preview import overlay, png
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.labelling.events import DECISIONS, Decision
from kidseg_jax.labelling.rest import wire
from kidseg_jax.labelling.rest.access import is_own
from kidseg_jax.labelling.rest.answers import answers
from kidseg_jax.labelling.rest.brake import Brake
from kidseg_jax.labelling.review import Review

STRATEGY = "review"
PAGE = Path(__file__).with_name("review.html")
SCRIPT = Path(__file__).with_name("review.js")
POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
    "img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class ReviewServer:
    """The state behind the routes. reading: two images at a time, so that memory is bounded."""

    def __init__(self, review: Review, brake: Brake | None):
        self.review, self.brake = review, brake
        self.reading = anyio.CapacityLimiter(2)

    def case(self, request: Request, name: str = "image") -> str:
        """The case that a request names; 404 for one that is not there."""
        return self.known(request.query_params.get(name, ""))

    def known(self, case: str) -> str:
        if case not in self.review.cases:
            raise HTTPException(404, f"no case {case[:80]!r} in this review")
        return case


Endpoint = Callable[[ReviewServer, Request], Awaitable[Response]]


async def page(server: ReviewServer, request: Request) -> Response:
    """The page without any case in it: its script asks for them, with the token where there is one."""
    return FileResponse(PAGE, media_type="text/html; charset=utf-8", headers=POLICY)


async def script(server: ReviewServer, request: Request) -> Response:
    return FileResponse(SCRIPT, media_type="text/javascript; charset=utf-8", headers=POLICY)


@answers
async def cases(server: ReviewServer, request: Request) -> Response:
    return JSONResponse(await anyio.to_thread.run_sync(server.review.states))


@answers
async def picture(server: ReviewServer, request: Request) -> Response:
    """The label map over its CT as PNG; the header `Label` says which label map that was."""
    name = server.case(request, "case")

    def drawn() -> tuple[bytes, str]:
        case = server.review.case(name)
        assert case.labels is not None
        return png(overlay(case.ct, case.labels)), server.review.label_hash(name)

    image, label = await anyio.to_thread.run_sync(drawn, limiter=server.reading)
    return Response(image, media_type="image/png", headers={"Label": label, "Cache-Control": "no-store"})


@answers
async def decision(server: ReviewServer, request: Request) -> Response:
    params = wire.params_of(await request.body())
    name, decided = server.known(str(params.get("case", ""))), params.get("decision")
    if decided not in DECISIONS:
        raise ValueError(f"decision: need one of {', '.join(DECISIONS)}, got {str(decided)[:40]!r}")
    note, seen = params.get("note") or "", params.get("label")
    if not isinstance(note, str) or not isinstance(seen, str | None):
        raise ValueError("note, label: need text")
    who, chosen = wire.client_of(params), _decision(decided)

    def decide() -> dict[str, object]:
        return server.review.decide(name, chosen, who, note.strip(), seen)

    return JSONResponse(await anyio.to_thread.run_sync(decide, limiter=server.reading))


@answers
async def info(server: ReviewServer, request: Request) -> Response:
    """What a client of MONAI Label asks first: labels to look at, and no model."""
    counts = await anyio.to_thread.run_sync(_counts, server.review)
    return JSONResponse(
        {
            "name": "kidseg_jax review",
            "description": "Label maps to look over: approve, or send back",
            "version": "1",
            "labels": list(NAMES),
            "models": {},
            "trainers": {},
            "strategies": {STRATEGY: {"description": "The next label map without a decision", "config": {}}},
            "scoring": {},
            "train_stats": {},
            "datastore": counts,
        }
    )


@answers
async def next_case(server: ReviewServer, request: Request) -> Response:
    if request.path_params["strategy"] != STRATEGY:
        raise HTTPException(404, f"no strategy {request.path_params['strategy'][:80]!r} in a review")
    wire.client_of(wire.params_of(await request.body()))
    waiting = await anyio.to_thread.run_sync(server.review.waiting)
    if not waiting:
        return JSONResponse({})
    name, path = waiting[0], server.review.cases[waiting[0]].image
    is_local = request.client is not None and is_own(request.client.host) and path.is_file()
    said = {"id": name, "name": f"{name}.nii.gz", "path": str(path.resolve()) if is_local else ""}
    return JSONResponse({**said, "strategy": {STRATEGY: {}}})


@answers
async def datastore(server: ReviewServer, request: Request) -> Response:
    return JSONResponse(await anyio.to_thread.run_sync(_counts, server.review))


@answers
async def get_image(server: ReviewServer, request: Request) -> Response:
    name = server.case(request)
    path = server.review.cases[name].image
    if path.is_file():
        return FileResponse(path, filename=path.name)
    return await anyio.to_thread.run_sync(_written, server.review, name, limiter=server.reading)


@answers
async def get_label(server: ReviewServer, request: Request) -> Response:
    name = server.case(request, "label" if "label" in request.query_params else "image")
    path = server.review.cases[name].labels
    if path is None or not path.is_file():
        raise HTTPException(404, f"{name}: its label map is not there any more")
    return FileResponse(path, filename=path.name)


async def refused(server: ReviewServer, request: Request) -> Response:
    """A review changes no label and trains nothing."""
    raise HTTPException(
        403, "this is a review: labels are looked at, nothing is drawn, predicted or trained here"
    )


def _written(review: Review, name: str) -> Response:
    """A CT that is a folder of DICOM files, as one file that is gone when it has been sent."""
    with tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as made:
        path = Path(made.name)
    try:
        write_volume(path, review.case(name).ct)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(path, filename=f"{name}.nii.gz", background=BackgroundTask(path.unlink, True))


def _counts(review: Review) -> dict[str, object]:
    waiting = len(review.waiting())
    total = len(review.cases)
    return {"total": total, "completed": total - waiting, "label_tags": {"final": total}}


def _decision(text: object) -> Decision:
    return "approved" if text == "approved" else "sent_back"
