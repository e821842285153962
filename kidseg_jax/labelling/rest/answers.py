"""How routes answer: bad input and a full disk in one line, other refusals as JSON; a table of routes."""

import errno
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kidseg_jax.labelling.rest.access import TooLarge, too_large

S = TypeVar("S")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def answers(
    endpoint: Callable[[S, Request], Awaitable[Response]],
) -> Callable[[S, Request], Awaitable[Response]]:
    """Bad input becomes 400, a full disk 507, with one line of JSON; neither ends the server."""

    @wraps(endpoint)
    async def answered(server: S, request: Request) -> Response:
        try:
            return await endpoint(server, request)
        except (ValueError, TypeError, OSError) as error:
            reason = " ".join(str(error).split())
            if isinstance(error, OSError) and error.errno in FULL:
                raise HTTPException(507, f"the disk is full, nothing was kept: {reason}") from error
            raise HTTPException(400, reason) from error

    return answered


def routes_of(
    table: Iterable[tuple[str, str, Callable[[Any, Request], Awaitable[Response]]]], server: object
) -> list[Route]:
    """The routes of a table of methods, path and endpoint, each endpoint with the server that it asks."""
    return [
        Route(path, _bound(endpoint, server), methods=methods.split()) for methods, path, endpoint in table
    ]


def _bound(
    endpoint: Callable[[Any, Request], Awaitable[Response]], server: object
) -> Callable[[Request], Awaitable[Response]]:
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
