"""Who works on what right now: leases of cases, and active time with an idle cut-off."""

import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kidseg_jax.atomic import write_text
from kidseg_jax.labelling.events import now, seconds_between
from kidseg_jax.labelling.rest.stage import Worked

MOST_RUNNING = 1024


@dataclass
class Presence:
    """What clients touch, and when. Thread-safe.

    idle_s: a gap between two requests counts as work up to this long, and a case is kept for a client this
    long. Of more than `MOST_RUNNING` times at once the one that rested the longest is given up. file: where
    running times outlive a restart of the server, which is a gap like any other; None keeps them in memory.
    counted: client, case and opening of times that are in the ledger already: a server that was killed after
    it wrote them has left them in the file. Raises ValueError for a file of something else.
    """

    idle_s: float
    file: Path | None = None
    counted: Collection[tuple[str, str, str | None]] = ()
    clock: Callable[[], float] = time.monotonic
    _touched: dict[tuple[str, str], tuple[str, float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.file is None or not self.file.exists():
            return
        try:
            held = json.loads(self.file.read_text(encoding="utf-8"))
            away_s = max(seconds_between(held["written"], now()), 0.0)
            for row in held["running"]:
                client, case, opened = row["client"], row["case"], row["opened"]
                seconds_between(opened, held["written"])  # both are times
                if (client, case, opened) not in self.counted:
                    last = self.clock() - away_s - float(row["quiet_s"])
                    self._touched[client, case] = (opened, float(row["active_s"]), last)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.file}: not the running times of a server; remove it") from error

    def touch(self, client: str, case: str) -> None:
        """The client does something with a case: its time runs, and the case is kept for it."""
        with self._lock:
            self._touch(client, case)

    def worked(self, client: str, case: str) -> Worked | None:
        """The time of a client on a case since it opened it; None when the server never saw it do so."""
        with self._lock:
            touched = self._touched.get((client, case))
            if touched is None:
                return None
            opened, active_s, last = touched
            return Worked(opened, max(now(), opened), active_s + min(self.clock() - last, self.idle_s))

    def leave(self, client: str, case: str) -> None:
        """The client is done with a case: its next time on it starts at 0."""
        with self._lock:
            self._touched.pop((client, case), None)
            self._keep()

    def take_next(
        self, client: str, ranked: Sequence[str], is_waiting: Callable[[str], bool] = lambda case: True
    ) -> str | None:
        """The first case that nobody has, else the first that this client has, else None; it is touched.

        is_waiting: whether a case still has no label, asked while nobody can `leave` one: a client
        leaves a case once its label is stored, so one that was finished since it was ranked is not given out.
        """
        with self._lock:
            at = self.clock()
            held: dict[str, set[str]] = {}
            for (who, case), (_, _, last) in self._touched.items():
                if at - last <= self.idle_s:
                    held.setdefault(case, set()).add(who)
            free = [case for case in ranked if case not in held]
            own = [case for case in ranked if client in held.get(case, ())]
            case = next(filter(is_waiting, (*free, *own)), None)
            if case is not None:
                self._touch(client, case)
            return case

    def _touch(self, client: str, case: str) -> None:
        at = self.clock()
        opened, active_s, last = self._touched.get((client, case), (now(), 0.0, at))
        self._touched[client, case] = (opened, active_s + min(at - last, self.idle_s), at)
        if len(self._touched) > MOST_RUNNING:
            del self._touched[min(self._touched, key=lambda who: self._touched[who][2])]
        self._keep()

    def _keep(self) -> None:
        """Write the file whole; where that fails people go on, and a line says what a restart would lose."""
        if self.file is None:
            return
        at = self.clock()
        rows = [
            {"client": client, "case": case, "opened": opened, "active_s": active_s, "quiet_s": at - last}
            for (client, case), (opened, active_s, last) in self._touched.items()
        ]
        try:
            write_text(self.file, json.dumps({"written": now(), "running": rows}, indent=1) + "\n")
        except OSError as error:
            print(f"kidseg_jax: {error}: a restart now would lose running times", file=sys.stderr)
