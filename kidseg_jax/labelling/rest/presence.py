"""Who works on what right now: leases of cases, and active time with an idle cut-off."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kidseg_jax.labelling.events import now
from kidseg_jax.labelling.rest.study import Worked


@dataclass
class Presence:
    """What clients touch, and when. Thread-safe; kept in memory: a restart of the server loses running times.

    idle_s: a gap between two requests counts as work up to this long, and a case is kept for a client this
    long.
    """

    idle_s: float
    clock: Callable[[], float] = time.monotonic
    _touched: dict[tuple[str, str], tuple[str, float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def touch(self, client: str, case: str) -> None:
        """The client does something with a case: its time runs, and the case is kept for it."""
        with self._lock:
            self._touch(client, case)

    def worked(self, client: str, case: str) -> Worked | None:
        """The time of a client on a case since it opened it; None when the server never saw it do so."""
        with self._lock:
            found = self._touched.get((client, case))
            if found is None:
                return None
            opened, active_s, last = found
            return Worked(opened, max(now(), opened), active_s + min(self.clock() - last, self.idle_s))

    def leave(self, client: str, case: str) -> None:
        """The client is done with a case: its next time on it starts at 0."""
        with self._lock:
            self._touched.pop((client, case), None)

    def take_next(self, client: str, ranked: Sequence[str]) -> str | None:
        """The first case that nobody has, else the first that this client has, else None; it is touched."""
        with self._lock:
            at = self.clock()
            held: dict[str, set[str]] = {}
            for (who, case), (_, _, last) in self._touched.items():
                if at - last <= self.idle_s:
                    held.setdefault(case, set()).add(who)
            free = [case for case in ranked if case not in held]
            own = [case for case in ranked if client in held.get(case, ())]
            case = next(iter((*free, *own)), None)
            if case is not None:
                self._touch(client, case)
            return case

    def _touch(self, client: str, case: str) -> None:
        at = self.clock()
        opened, active_s, last = self._touched.get((client, case), (now(), 0.0, at))
        self._touched[client, case] = (opened, active_s + min(at - last, self.idle_s), at)
