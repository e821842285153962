"""The routes around the work: training the next stage, and who may ask."""

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kidseg_jax.labelling.rest import wire
from kidseg_jax.labelling.rest.access import LARGEST_TEXT, TOO_MANY, address_of
from kidseg_jax.labelling.rest.state import MODEL, Guarded, Server, answers


@answers
async def train(server: Server, request: Request) -> Response:
    jobs = server.jobs
    if request.method == "GET":
        if jobs.last is None or ("check_if_running" in request.query_params and not jobs.running):
            raise HTTPException(404, "no training is running")
        job = jobs.last.to_json()
        return JSONResponse([job] if request.query_params.get("all", "").lower() == "true" else job)
    if request.method == "DELETE":
        job = await anyio.to_thread.run_sync(jobs.stop)
        return JSONResponse(job.to_json() if job else {})
    stage = await anyio.to_thread.run_sync(lambda: server.stage)
    if len(stage.waiting()) == len(stage.works):
        raise HTTPException(429, "no case is corrected yet: there is nothing new to learn from")
    params = {"model": MODEL, **wire.params_of(await request.body())}

    def succeeded(code: int) -> bool:
        """A run that waits for people again (3) has done its work when a later stage has a list."""
        try:
            return code == 0 or (code == 3 and server.stage.folder != stage.folder)
        except (ValueError, OSError):
            return False

    job = await anyio.to_thread.run_sync(jobs.start, params, succeeded)
    if job is None:
        raise HTTPException(429, "training runs already")
    return JSONResponse(job.to_json())


async def idle(server: Server, request: Request) -> Response:
    """Batch inference and scoring: a stage does both by itself, so nothing ever runs here."""
    raise HTTPException(404 if request.method == "GET" else 429, "stages predict and score by themselves")


async def no_session(server: Server, request: Request) -> Response:
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
