"""The MONAI Label REST protocol over a run that waits for people: the application and its routes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.types import ASGIApp

from kidseg_jax.labelling.rest import auth, control, store, work
from kidseg_jax.labelling.rest.access import Access
from kidseg_jax.labelling.rest.answers import HANDLERS, routes_of
from kidseg_jax.labelling.rest.brake import Brake
from kidseg_jax.labelling.rest.jobs import Jobs
from kidseg_jax.labelling.rest.state import Endpoint, Server

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
    ("PUT", "/session/", auth.no_session),
    ("GET DELETE", "/session/{session}", auth.no_session),
    ("GET", "/auth/", auth.auth),
    ("POST", "/auth/token", auth.auth_token),
    ("GET", "/auth/token/valid", auth.auth_valid),
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

    app = Starlette(routes=routes_of(ROUTES, server), exception_handlers=HANDLERS, lifespan=lifespan)
    return Access(app, brake, largest_bytes)
