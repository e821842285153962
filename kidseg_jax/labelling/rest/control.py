"""The routes around the work: training the next stage."""

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kidseg_jax.labelling.rest import wire
from kidseg_jax.labelling.rest.answers import answers
from kidseg_jax.labelling.rest.state import MODEL, Server


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
