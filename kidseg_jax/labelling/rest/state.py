"""What the routes share: the run, who works on what, the job that trains, and how errors are said."""

from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.labelling.events import TimeEvent
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.rest.jobs import Jobs
from kidseg_jax.labelling.rest.presence import Presence
from kidseg_jax.labelling.rest.stage import WaitingStage, open_stage

MODEL = "kidseg"
LABELS = {structure.name: structure.label for structure in STRUCTURES}
Endpoint = Callable[["Server", Request], Awaitable[Response]]


class Server:
    """The state behind the routes: the run, who works on what, and the job that trains the next stage."""

    def __init__(self, run: Path, jobs: Jobs, *, token: str | None, idle_s: float):
        self.run, self.jobs, self.token = run, jobs, token
        times = read_ledger(self.stage.ledger).events(TimeEvent)
        counted = {(time.annotator, time.case, time.opened) for time in times}
        self.presence = Presence(idle_s, run / "presence.json", counted)
        self.one_at_a_time = anyio.CapacityLimiter(1)

    @property
    def stage(self) -> WaitingStage:
        """The newest stage that waits for people, as it stands on disk now."""
        return open_stage(self.run)

    def case(self, request: Request, name: str = "image") -> tuple[WaitingStage, str]:
        """The stage and the case that a request names; 404 for a name that is not on its list."""
        stage, case = self.stage, request.query_params.get(name, "")
        if case not in stage.works:
            raise HTTPException(404, f"no case {case[:80]!r} on the list of stage {stage.work_list.stage}")
        return stage, case


def answers(endpoint: Endpoint) -> Endpoint:
    """Bad input becomes 400 and one line of JSON; it never ends the server."""

    @wraps(endpoint)
    async def answered(server: Server, request: Request) -> Response:
        try:
            return await endpoint(server, request)
        except (ValueError, TypeError, OSError) as error:
            raise HTTPException(400, " ".join(str(error).split())) from error

    return answered
