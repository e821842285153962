"""Table 2 from a ledger: minutes per structure, by hand against corrected, and what was saved."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.labelling.events import LabelEvent, TimeEvent
from kidseg_jax.labelling.ledger import Chain

_RESAMPLES = 5000


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


@dataclass(frozen=True)
class Row:
    """One structure, or total. Minutes are mean and SD over n; saving and its interval are shares of 1."""

    structure: str
    manual: tuple[float, float, int] | None
    corrected: tuple[float, float, int] | None
    saving: float | None
    interval: tuple[float, float] | None


def work_in(chain: Chain) -> dict[str, list[Work]]:
    """What was worked on, by origin (`manual`, `cnn_corrected`), from the label and time lines of a ledger.

    Label lines belong to their case and kidney, time lines to their case. Several lines on one structure
    add up: a second version takes time too. A person's own clock or CSV for a whole case takes the place of
    the server's time, which saw the same work. A clock that was forgotten has a line of 0 s and says nothing.
    """
    found: dict[tuple[str, str | None, int, str, bool], Work] = {}
    for event in chain.events(LabelEvent):
        if event.origin == "cnn":
            continue
        key = (event.case, event.kidney, event.stage, event.origin, event.simulated)
        work = found.setdefault(key, Work(event.patient or event.case, event.simulated, event.blind))
        work.structures.add(event.structure)
        if event.active_s is not None:
            work.labels[event.structure] = work.labels.get(event.structure, 0.0) + event.active_s
    times = [event for event in chain.events(TimeEvent) if event.active_s > 0]
    own = {(e.case, e.stage, e.origin) for e in times if e.structure is None and e.source != "server"}
    for event in times:
        if event.source == "server" and (event.case, event.stage, event.origin) in own:
            continue
        key = (event.case, None, event.stage, event.origin, False)
        work = found.setdefault(key, Work(event.case, False))
        if event.structure is None:
            work.whole_s = (work.whole_s or 0.0) + event.active_s
        else:
            work.structures.add(event.structure)
            work.timed[event.structure] = work.timed.get(event.structure, 0.0) + event.active_s
    by_origin: dict[str, list[Work]] = {"manual": [], "cnn_corrected": []}
    for (_, _, _, origin, _), work in found.items():
        by_origin[origin].append(work)
    return by_origin


def rows(manual: Sequence[Work], corrected: Sequence[Work], seed: int = 0) -> tuple[Row, ...]:
    """The five structures and the total.

    The saving is 1 - mean corrected / mean manual. Its 95 % interval is a percentile bootstrap that draws
    patients, not kidneys, on either side; it needs two patients on both.
    """
    result = []
    for name in (*NAMES, "total"):
        by_hand, by_network = (
            [(work.patient, s) for work in side if (s := _time(work, name)) is not None]
            for side in (manual, corrected)
        )
        saving = interval = None
        if by_hand and by_network and (mean := np.mean([s for _, s in by_hand])) > 0:
            saving = float(1 - np.mean([s for _, s in by_network]) / mean)
            interval = _interval(by_hand, by_network, seed)
        result.append(Row(name, _summary(by_hand), _summary(by_network), saving, interval))
    return tuple(result)


def table(chain: Chain) -> str:
    """Table 2 as text, people and the simulated annotator apart; one line when no time was recorded."""
    by_origin = work_in(chain)
    parts = []
    for simulated in (False, True):
        manual, corrected = (
            [work for work in by_origin[origin] if work.simulated == simulated]
            for origin in ("manual", "cnn_corrected")
        )
        if not (manual or corrected):
            continue
        who = (
            "simulated minutes, by the law of the annotator's settings" if simulated else "minutes of people"
        )
        blind = sum(work.blind for work in manual)
        lines = [f"Table 2. Labelling time per kidney or case, {who} (mean ± SD, n)"]
        lines.append(f"{'':12}{'by hand':>22}{'CNN-corrected':>22}{'saved':>8}  95 % interval")
        lines += [_line(row) for row in rows(manual, corrected)]
        if blind:
            lines.append(
                f"{blind} of those by hand are blind: labelled from nothing although a prediction existed."
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "No labelling time is recorded."


def _time(work: Work, name: str) -> float | None:
    return work.total_s if name == "total" else work.seconds.get(name)


def _summary(times: Sequence[tuple[str, float]]) -> tuple[float, float, int] | None:
    minutes = np.array([s for _, s in times]) / 60
    if not len(minutes):
        return None
    return (
        float(minutes.mean()),
        float(minutes.std(ddof=1)) if len(minutes) > 1 else float("nan"),
        len(minutes),
    )


def _interval(
    manual: Sequence[tuple[str, float]], corrected: Sequence[tuple[str, float]], seed: int
) -> tuple[float, float] | None:
    rng = np.random.default_rng(seed)
    means = []
    for side in (manual, corrected):
        patients = sorted({patient for patient, _ in side})
        if len(patients) < 2:
            return None
        sums = np.array([sum(s for p, s in side if p == patient) for patient in patients])
        counts = np.array([sum(p == patient for p, _ in side) for patient in patients])
        drawn = rng.integers(len(patients), size=(_RESAMPLES, len(patients)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.percentile(1 - means[1] / np.maximum(means[0], 1e-9), [2.5, 97.5])
    return float(low), float(high)


def _line(row: Row) -> str:
    cells = "".join(f"{_cell(side):>22}" for side in (row.manual, row.corrected))
    saving = "-" if row.saving is None else f"{100 * row.saving:.0f} %"
    interval = (
        "-" if row.interval is None else f"{100 * row.interval[0]:.0f} to {100 * row.interval[1]:.0f} %"
    )
    return f"{row.structure:12}{cells}{saving:>8}  {interval}"


def _cell(summary: tuple[float, float, int] | None) -> str:
    if summary is None:
        return "-"
    mean, sd, n = summary
    spread = "" if np.isnan(sd) else f" ± {_clock(sd)}"
    return f"{_clock(mean)}{spread} ({n})"


def _clock(minutes: float) -> str:
    seconds = round(minutes * 60)
    return f"{seconds // 60}:{seconds % 60:02d}"
