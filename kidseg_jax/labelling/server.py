"""The MONAI Label REST protocol over a run that waits for people, and a review: applications and routes."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kidseg_jax.labelling.rest import control, store, work
from kidseg_jax.labelling.rest import review as reviewing
from kidseg_jax.labelling.rest.access import LARGEST_TEXT, OPEN_PATHS, Access, TooLarge, too_large
from kidseg_jax.labelling.rest.brake import Brake
from kidseg_jax.labelling.rest.jobs import Jobs
from kidseg_jax.labelling.rest.state import Endpoint, Server
from kidseg_jax.labelling.review import Review

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/info/", work.info),
    ("POST", "/activelearning/{strategy}", work.next_sample),
    ("POST", "/infer/{model}", work.infer),
    ("GET", "/datastore/", store.datastore),
    ("PUT DELETE", "/datastore/", store.refused),
    ("GET", "/datastore/image", store.get_image),
    ("PUT DELETE", "/datastore/image", store.refused),
    ("GET", "/datastore/image/info", store.image_info),
    ("PUT", "/datastore/image/info", store.refused),
    ("PUT", "/datastore/label", work.save_label),
    ("GET", "/datastore/label", store.get_label),
    ("DELETE", "/datastore/label", store.refused),
    ("GET", "/datastore/label/info", store.label_info),
    ("PUT", "/datastore/label/info", store.refused),
    ("GET", "/datastore/dataset", store.dataset),
    ("GET POST DELETE", "/train/", control.train),
    ("POST", "/train/{model}", control.train),
    ("GET POST DELETE", "/batch/infer/", control.idle),
    ("POST", "/batch/infer/{model}", control.idle),
    ("GET POST DELETE", "/scoring/", control.idle),
    ("POST", "/scoring/{method}", control.idle),
    ("PUT", "/session/", control.no_session),
    ("GET DELETE", "/session/{session}", control.no_session),
    ("GET", "/auth/", control.auth),
    ("POST", "/auth/token", control.auth_token),
    ("GET", "/auth/token/valid", control.auth_valid),
)

REVIEW_ROUTES: tuple[tuple[str, str, Callable[[Any, Request], Any]], ...] = (
    ("GET", "/", reviewing.page),
    ("GET", "/review.js", reviewing.script),
    ("GET", "/review/cases", reviewing.cases),
    ("GET", "/review/picture", reviewing.picture),
    ("POST", "/review/decision", reviewing.decision),
    ("GET", "/info/", reviewing.info),
    ("POST", "/activelearning/{strategy}", reviewing.next_case),
    ("GET", "/datastore/", reviewing.datastore),
    ("PUT DELETE", "/datastore/", reviewing.refused),
    ("GET", "/datastore/image", reviewing.get_image),
    ("PUT DELETE", "/datastore/image", reviewing.refused),
    ("GET", "/datastore/label", reviewing.get_label),
    ("PUT DELETE", "/datastore/label", reviewing.refused),
    ("POST", "/infer/{model}", reviewing.refused),
    ("GET POST DELETE", "/train/", reviewing.refused),
    ("POST", "/train/{model}", reviewing.refused),
    ("PUT", "/session/", control.no_session),
    ("GET DELETE", "/session/{session}", control.no_session),
    ("GET", "/auth/", control.auth),
    ("POST", "/auth/token", control.auth_token),
    ("GET", "/auth/token/valid", control.auth_valid),
)


def make_app(
    run: Path,
    train_command: Sequence[str],
    *,
    token: str | None = None,
    largest_bytes: int = 1 << 30,
    idle_s: float = 1800.0,
    most_bytes: int = 1 << 30,
) -> ASGIApp:
    """The application that serves the newest stage of a run that waits for people.

    train_command: what trains the next stage, run when a client asks for training. token: None means that
    only this machine may ask. largest_bytes: of one request's body. idle_s: the longest gap between two
    requests of a person that still counts as work. most_bytes: of voxels that an uploaded file may become.
    Raises ValueError when no stage of the run waits for people.
    """
    brake = None if token is None else Brake(token)
    server = Server(run, Jobs(train_command), brake=brake, idle_s=idle_s, most_bytes=most_bytes)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        server.jobs.stop()

    app = Starlette(routes=_routes(ROUTES, server), exception_handlers=HANDLERS, lifespan=lifespan)
    return Access(app, brake, largest_bytes)


def make_review_app(review: Review, *, token: str | None = None) -> ASGIApp:
    """The application in which people look over the label maps of a folder, without a model.

    token: None means that only this machine may ask. Its page holds no case and is answered without it.
    """
    brake = None if token is None else Brake(token)
    routes = _routes(REVIEW_ROUTES, reviewing.ReviewServer(review, brake))
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    return Access(app, brake, LARGEST_TEXT, (*OPEN_PATHS, "/", "/review.js"))


def _routes(table: Iterable[tuple[str, str, Callable[[Any, Request], Any]]], server: object) -> list[Route]:
    return [
        Route(path, _bound(endpoint, server), methods=methods.split()) for methods, path, endpoint in table
    ]


def _bound(endpoint: Callable[[Any, Request], Any], server: object) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        return await endpoint(server, request)

    return handle


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


HANDLERS: dict[Any, Callable[[Request, Exception], Response]] = {
    TooLarge: lambda request, error: too_large(str(error)),
    HTTPException: _refusal,
    ClientDisconnect: lambda request, error: Response(status_code=400),  # nobody is there to read it
}
