"""Working time from outside the server: a clock that a person starts and stops, and times in a CSV."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from kidseg_jax.labelling.events import ClockEvent, Origin, TimeEvent, now, seconds_between
from kidseg_jax.labelling.ledger import Chain, append, read_ledger

LONGEST_S = 6 * 3600.0
COLUMNS = ("case", "structure", "seconds", "origin", "annotator", "stage")


def start(
    ledger: Path, case: str, structure: str | None, origin: Origin, annotator: str, stage: int
) -> ClockEvent:
    """Start a clock in the ledger. ValueError when this person's clock for this work runs already."""
    running = _running(read_ledger(ledger), case, structure, annotator)
    if running is not None:
        raise ValueError(f"{_what(case, structure)}: the clock of {annotator} runs since {running.opened}")
    event = ClockEvent(case, origin, stage, annotator, now(), structure)
    append(ledger, [event])
    return event


def stop(ledger: Path, case: str, structure: str | None, annotator: str) -> TimeEvent:
    """Stop a running clock; the time between goes to the ledger.

    ValueError when no clock runs, or when it ran for more than six hours: then nobody stopped it, and the
    true time comes from a CSV. A clock that ran too long is stopped with a time of 0 so that it can be
    started again.
    """
    running = _running(read_ledger(ledger), case, structure, annotator)
    if running is None:
        raise ValueError(f"{_what(case, structure)}: no clock of {annotator} runs")
    stopped = now()
    elapsed_s = seconds_between(running.opened, stopped)
    forgotten = not 0 <= elapsed_s <= LONGEST_S
    event = TimeEvent(
        case=case,
        origin=running.origin,
        stage=running.stage,
        annotator=annotator,
        source="clock",
        active_s=0.0 if forgotten else elapsed_s,
        structure=structure,
        opened=running.opened,
        submitted=max(running.opened, stopped),
    )
    append(ledger, [event])
    if forgotten:
        raise ValueError(
            f"{_what(case, structure)}: the clock ran for {elapsed_s / 3600:.1f} h, more than "
            f"{LONGEST_S / 3600:g} h: it was stopped and nothing counted; give the time in a CSV"
        )
    return event


def times_in(path: Path) -> tuple[TimeEvent, ...]:
    """The rows of a CSV: case, structure (empty: the whole case), seconds, origin, annotator, stage.

    ValueError names the first row that does not fit; nothing is taken from such a file.
    """
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path}: needs the columns {', '.join(COLUMNS)}, got none named {', '.join(missing)}"
            )
        return tuple(_time(path, number, row) for number, row in enumerate(reader, 2))


def _time(path: Path, number: int, row: dict[str, str]) -> TimeEvent:
    try:
        seconds = float(row["seconds"])
        if not (math.isfinite(seconds) and row["case"] and row["annotator"]):
            raise ValueError("needs a case, an annotator and finite seconds")
        return TimeEvent(
            case=row["case"],
            origin=row["origin"],  # pyright: ignore[reportArgumentType]
            stage=int(row["stage"]),
            annotator=row["annotator"],
            source="csv",
            active_s=seconds,
            structure=row["structure"] or None,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: line {number}: {error}") from error


def _running(chain: Chain, case: str, structure: str | None, annotator: str) -> ClockEvent | None:
    """The clock that was started for this work and not stopped."""
    work = (case, structure, annotator)
    starts: Sequence[ClockEvent] = [
        e for e in chain.events(ClockEvent) if (e.case, e.structure, e.annotator) == work
    ]
    stops = {
        e.opened
        for e in chain.events(TimeEvent)
        if e.source == "clock" and (e.case, e.structure, e.annotator) == work
    }
    return next((e for e in reversed(starts) if e.opened not in stops), None)


def _what(case: str, structure: str | None) -> str:
    return f"{case}, {structure}" if structure else case
