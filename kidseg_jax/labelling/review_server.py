"""A review over HTTP: the application and its routes; it starts without what a run needs."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from kidseg_jax.labelling.rest import auth, review
from kidseg_jax.labelling.rest.access import LARGEST_TEXT, OPEN_PATHS, Access
from kidseg_jax.labelling.rest.answers import HANDLERS, routes_of
from kidseg_jax.labelling.rest.brake import Brake
from kidseg_jax.labelling.review import Review

ROUTES: tuple[tuple[str, str, Callable[[Any, Request], Awaitable[Response]]], ...] = (
    ("GET", "/", review.page),
    ("GET", "/review.js", review.script),
    ("GET", "/review/cases", review.cases),
    ("GET", "/review/picture", review.picture),
    ("POST", "/review/decision", review.decision),
    ("GET", "/info/", review.info),
    ("POST", "/activelearning/{strategy}", review.next_case),
    ("GET", "/datastore/", review.datastore),
    ("PUT DELETE", "/datastore/", review.refused),
    ("GET", "/datastore/image", review.get_image),
    ("PUT DELETE", "/datastore/image", review.refused),
    ("GET", "/datastore/label", review.get_label),
    ("PUT DELETE", "/datastore/label", review.refused),
    ("POST", "/infer/{model}", review.refused),
    ("GET POST DELETE", "/train/", review.refused),
    ("POST", "/train/{model}", review.refused),
    ("PUT", "/session/", auth.no_session),
    ("GET DELETE", "/session/{session}", auth.no_session),
    ("GET", "/auth/", auth.auth),
    ("POST", "/auth/token", auth.auth_token),
    ("GET", "/auth/token/valid", auth.auth_valid),
)


def make_review_app(reviewed: Review, *, token: str | None = None) -> ASGIApp:
    """The application in which people look over the label maps of a folder, without a model.

    token: None means that only this machine may ask. Its page holds no case and is answered without it.
    """
    brake = None if token is None else Brake(token)
    routes = routes_of(ROUTES, review.ReviewServer(reviewed, brake))
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    return Access(app, brake, LARGEST_TEXT, (*OPEN_PATHS, "/", "/review.js"))
