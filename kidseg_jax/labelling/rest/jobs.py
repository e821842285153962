"""One long command at a time, run beside the server, with its last lines as progress."""

import os
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


class Job:
    """A command in a process of its own. The last 20 lines of what it prints are its details.

    succeeded: whether its exit code is that of a command that did its work.
    """

    def __init__(self, command: Sequence[str], request: dict[str, Any], succeeded: Callable[[int], bool]):
        self.id = str(uuid.uuid4())
        self.request = request
        self._succeeded = succeeded
        self.details: deque[str] = deque(maxlen=20)
        self.started, self.ended = int(time.time()), 0
        self.stopped = self.is_done = False
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "KIDSEG_PROGRESS": "lines"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def status(self) -> str:
        """RUNNING, DONE, ERROR or STOPPED."""
        if not self.ended:
            return "RUNNING"
        if self.stopped:
            return "STOPPED"
        return "DONE" if self.is_done else "ERROR"

    def stop(self, patience_s: float = 20.0) -> None:
        """End the command, politely first; what it has written whole stays."""
        self.stopped = self.stopped or self.status == "RUNNING"
        self.process.terminate()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join(patience_s)

    def to_json(self) -> dict[str, Any]:
        """The record that MONAI Label's clients read."""
        return {
            "id": self.id,
            "status": self.status,
            "request": self.request,
            "start_ts": self.started,
            "end_ts": self.ended,
            "details": list(self.details),
        }

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.strip():
                    self.details.append(line.rstrip()[-500:])
        try:
            self.is_done = self._succeeded(self.process.wait())
        finally:
            self.ended = int(time.time())


class Jobs:
    """The last job; a new one is refused while it runs."""

    def __init__(self, command: Sequence[str]):
        self.command = tuple(command)
        self.last: Job | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        return self.last is not None and self.last.status == "RUNNING"

    def start(
        self, request: dict[str, Any], succeeded: Callable[[int], bool] = lambda code: code == 0
    ) -> Job | None:
        """The new job, None while one runs."""
        with self._lock:
            if self.running:
                return None
            self.last = Job(self.command, request, succeeded)
            return self.last

    def stop(self) -> Job | None:
        """Stop the running job; the last job, None when there was none."""
        with self._lock:
            if self.last is not None and self.running:
                self.last.stop()
            return self.last
