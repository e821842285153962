"""What a ledger knows of labelling time: who worked on what for how long, by hand and corrected."""

from dataclasses import dataclass, field

from kidseg_jax.labelling.events import LabelEvent, TimeEvent
from kidseg_jax.labelling.ledger import Chain


@dataclass
class Work:
    """Time on one case, or on one kidney of it, by one origin: seconds per structure and for the whole."""

    patient: str
    simulated: bool
    blind: bool = False
    labels: dict[str, float] = field(default_factory=dict)
    timed: dict[str, float] = field(default_factory=dict)
    whole_s: float | None = None
    structures: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per structure; a time line takes the place of what label lines say."""
        return self.labels | self.timed

    @property
    def total_s(self) -> float | None:
        """All structures together: their sum if each has a time, else the time of the whole, else None."""
        seconds = self.seconds
        if seconds and self.structures <= seconds.keys():
            return sum(seconds.values())
        return self.whole_s

    def time_s(self, column: str) -> float | None:
        """Seconds of a structure, or of all together ("total"); None where it has no time."""
        return self.total_s if column == "total" else self.seconds.get(column)


def work_in(chain: Chain) -> dict[str, list[Work]]:
    """What was worked on, by origin (`manual`, `cnn_corrected`), from the label and time events of a ledger.

    Label events belong to their case and kidney, time events to their case. Several events of one structure
    add up: a second version takes time too. A person's own clock or CSV for a whole case takes the place of
    the server's time, which saw the same work. A forgotten clock has an event of 0 s, which does not count.
    """
    works: dict[tuple[str, str | None, int, str, bool], Work] = {}
    for event in chain.events(LabelEvent):
        if event.origin == "cnn":
            continue
        key = (event.case, event.kidney, event.stage, event.origin, event.simulated)
        work = works.setdefault(key, Work(event.patient or event.case, event.simulated, event.blind))
        work.structures.add(event.structure)
        if event.active_s is not None:
            work.labels[event.structure] = work.labels.get(event.structure, 0.0) + event.active_s
    times = [event for event in chain.events(TimeEvent) if event.active_s > 0]
    own = {(e.case, e.stage, e.origin) for e in times if e.structure is None and e.source != "server"}
    for event in times:
        if event.source == "server" and (event.case, event.stage, event.origin) in own:
            continue
        key = (event.case, None, event.stage, event.origin, False)
        work = works.setdefault(key, Work(event.case, False))
        if event.structure is None:
            work.whole_s = (work.whole_s or 0.0) + event.active_s
        else:
            work.structures.add(event.structure)
            work.timed[event.structure] = work.timed.get(event.structure, 0.0) + event.active_s
    by_origin: dict[str, list[Work]] = {"manual": [], "cnn_corrected": []}
    for (_, _, _, origin, _), work in works.items():
        by_origin[origin].append(work)
    return by_origin
