"""The routes of who may ask: whether there is a token, and what a client gets for it."""

from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kidseg_jax.labelling.rest.access import LARGEST_TEXT, TOO_MANY, address_of
from kidseg_jax.labelling.rest.answers import answers
from kidseg_jax.labelling.rest.brake import Brake


class Guarded(Protocol):
    """A server that may ask for a token."""

    @property
    def brake(self) -> Brake | None: ...


async def no_session(server: Guarded, request: Request) -> Response:
    raise HTTPException(406 if request.method == "PUT" else 404, "sessions are off: cases come from the run")


async def auth(server: Guarded, request: Request) -> Response:
    return JSONResponse({"enabled": server.brake is not None, "client_id": "kidseg_jax", "realm": ""})


@answers
async def auth_token(server: Guarded, request: Request) -> Response:
    if server.brake is None:
        return JSONResponse({"access_token": None, "token_type": None})
    async with request.form(max_files=0, max_fields=8, max_part_size=LARGEST_TEXT) as form:
        given = str(form.get("password", ""))
    opens = await server.brake.opens(given, address_of(request.scope))
    if opens is None:
        raise HTTPException(429, TOO_MANY, {"Retry-After": "5"})
    if not opens:
        raise HTTPException(401, "the password is not the server's token")
    return JSONResponse({"access_token": server.brake.token, "token_type": "bearer"})


async def auth_valid(server: Guarded, request: Request) -> Response:
    return JSONResponse({"username": "annotator"})
