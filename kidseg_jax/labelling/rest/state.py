"""What the routes of a run share: the run, who works on what, and the job that trains."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.labelling.events import TimeEvent
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.rest.brake import Brake
from kidseg_jax.labelling.rest.jobs import Jobs
from kidseg_jax.labelling.rest.presence import Presence
from kidseg_jax.labelling.rest.stage import WaitingStage, open_stage
from kidseg_jax.rundir import RunDirectory

MODEL = "kidseg"
LABELS = {structure.name: structure.label for structure in STRUCTURES}
Endpoint = Callable[["Server", Request], Awaitable[Response]]


class Server:
    """The state behind the routes: the run, who works on what, and the job that trains the next stage.

    most_bytes: of voxels that an uploaded file may become. segmenting: one CT or archive at a time, reading:
    two label maps, so that memory is bounded however many ask.
    """

    def __init__(self, run: Path, jobs: Jobs, *, brake: Brake | None, idle_s: float, most_bytes: int):
        self.run, self.jobs, self.brake, self.most_bytes = run, jobs, brake, most_bytes
        times = read_ledger(self.stage.ledger).events(TimeEvent)
        counted = {(time.annotator, time.case, time.opened) for time in times}
        self.presence = Presence(idle_s, run / "presence.json", counted)
        self.segmenting, self.reading = anyio.CapacityLimiter(1), anyio.CapacityLimiter(2)

    @property
    def stage(self) -> WaitingStage:
        """The newest stage that waits for people, as it stands on disk now."""
        return open_stage(self.run)

    @property
    def uploads(self) -> Path:
        """The folder in which uploads lie while they are read."""
        folder = RunDirectory(self.run).uploads
        folder.mkdir(exist_ok=True)
        return folder

    def case(self, request: Request, name: str = "image") -> tuple[WaitingStage, str]:
        """The stage and the case that a request names; 404 for a name that is not on its list."""
        stage, case = self.stage, request.query_params.get(name, "")
        if case not in stage.works:
            raise HTTPException(404, f"no case {case[:80]!r} on the list of stage {stage.work_list.stage}")
        return stage, case
