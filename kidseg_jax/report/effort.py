"""Tables 2 and 3: labelling minutes of a run or of its ledger, and surface RMS of the pairs of models."""

from collections.abc import Sequence
from dataclasses import dataclass

from kidseg_jax.evaluation.comparison import MODES, PAIRS, USABLE_RMS_MM
from kidseg_jax.evaluation.statistics import Estimate, Summary, saving_of, summarise
from kidseg_jax.evaluation.table import UNDEFINED, Cell, Row, Table, mean_sd_cell, range_cell
from kidseg_jax.labelling.ledger import Chain
from kidseg_jax.labelling.minutes import Work, work_in
from kidseg_jax.report import published
from kidseg_jax.report.records import COLUMNS, HEADINGS, LabellingRecord, Run, StageRecord, SurfaceRecord

INTERVAL_NOTE = (
    "Saved: 1 - mean corrected / mean by hand, over kidneys; its 95 % CI is that of the ratio's logarithm, "
    "t with CR2 over patients. n: kidneys by hand / corrected."
)


@dataclass(frozen=True)
class Effort:
    """Seconds of one column, by hand and CNN-corrected, over kidneys, and the share that was saved."""

    manual: Summary
    corrected: Summary
    saving: Estimate


def efforts(manual: Sequence[Work], corrected: Sequence[Work]) -> dict[str, Effort]:
    """By column: the times of both sides; the same patients may stand on both."""
    by_column = {}
    for column in COLUMNS:
        (before, owners), (after, later_owners) = (_times(side, column) for side in (manual, corrected))
        saving = saving_of(before, owners, after, later_owners)
        by_column[column] = Effort(summarise(before), summarise(after), saving)
    return by_column


def run_efforts(run: Run) -> dict[str, Effort]:
    """`efforts` of all newly labelled kidneys of a run; empty where none was timed."""
    records = [_timed(stage) for stage in run.stages]
    return _efforts([work for stage in records for work in _work(stage)]) if any(records) else {}


def minutes_table(run: Run) -> Table:
    """Table 2: labelling time per structure, by hand and CNN-corrected, and the saving."""
    simulated = ", simulated" if run.simulated else ""
    works = {f"stage {stage.stage}": _work(_timed(stage)) for stage in run.stages if _timed(stage)}
    if len(works) > 1:
        works["all stages"] = [both for stage in works.values() for both in stage]
    rows = [
        row for name, work in works.items() for row in _effort_rows(f"{name}, ", _efforts(work), simulated)
    ]
    paper = published.SECONDS
    by_hand_and_corrected = zip(paper["manual"], paper["corrected"], strict=True)
    rows += [
        Row("paper, by hand", tuple(Cell(_clock(s), s) for s in paper["manual"]), "paper", "seconds"),
        Row("paper, corrected", tuple(Cell(_clock(s), s) for s in paper["corrected"]), "paper", "seconds"),
        Row("paper, saved", tuple(_share(1 - b / a) for a, b in by_hand_and_corrected), "paper", "percent"),
    ]
    notes = [
        "Mean ± SD over newly labelled kidneys; the total is that of all structures of a kidney together.",
        INTERVAL_NOTE if works else "No kidney of this run has both times: nothing measured.",
    ]
    if run.simulated:
        notes.append("Every minute of this run is simulated: no person labelled anything.")
    title = f"Table 2. Labelling time per kidney, minutes:seconds{simulated}"
    return Table("2", title, HEADINGS, tuple(rows), tuple(notes))


def ledger_tables(chain: Chain) -> list[Table]:
    """Table 2 of a ledger, people and the simulated annotator apart; none when no time was recorded."""
    by_origin = work_in(chain)
    tables = []
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
        notes = ["Mean ± SD over kidneys, or over cases where a time is a case's.", INTERVAL_NOTE]
        if blind := sum(work.blind for work in manual):
            notes.append(
                f"{blind} of those by hand are blind: labelled from nothing although a prediction existed."
            )
        rows = _effort_rows("", efforts(manual, corrected), ", simulated" * simulated)
        title = f"Table 2. Labelling time, {who}, minutes:seconds"
        tables.append(Table("2", title, HEADINGS, tuple(rows), tuple(notes)))
    return tables


def rms_table(run: Run) -> Table:
    """Table 3: surface RMS in mm for the three pairs, per mode, with direction and sampling named."""
    records = [record for stage in run.stages for record in stage.surfaces]
    names = dict.fromkeys(record.mode for record in records)
    modes = [mode for mode in MODES if mode in names] + [mode for mode in names if mode not in MODES]
    rows = [
        Row(
            mode.replace("_", " "),
            tuple(_rms_cell([r for r in records if r.mode == mode], pair) for pair in PAIRS),
            unit="mm",
        )
        for mode in modes
    ]
    rows += [
        Row(
            f"{mode.replace('_', ' ')}: kidneys under {USABLE_RMS_MM:g} mm",
            tuple(_usable([r for r in records if r.mode == mode], pair) for pair in PAIRS),
        )
        for mode in modes
    ]
    cells = tuple(Cell(f"{mean:.2f} ± {sd:.2f}", mean, sd) for mean, sd, _ in published.RMS_MM.values())
    rows.append(Row("paper", cells, "paper", "mm"))
    notes = [_mode_note(mode, records) for mode in modes]
    if not records:
        notes = ["No surfaces were compared in this run."]
    elif run.simulated:
        notes.append("CNN-corrected labels come from the simulated annotator.")
    notes.append("The paper used 17,650 points (26,471 for CNN vs CNN-corrected) and names no direction.")
    return Table(
        "3",
        "Table 3. Surface RMS per newly labelled kidney, mm, mean ± SD",
        tuple(PAIRS.values()),
        tuple(rows),
        tuple(notes),
    )


def _timed(stage: StageRecord) -> list[LabellingRecord]:
    return [record for record in stage.labelling if record.corrected_seconds is not None]


def _work(records: Sequence[LabellingRecord]) -> list[tuple[Work, Work]]:
    """Of each kidney: its work by hand and corrected.

    A structure that the truth lacks counts in the corrected total only: it took time and is no pair.
    """
    works: dict[str, tuple[Work, Work]] = {}
    for record in records:
        pair = [Work(record.patient, record.simulated, whole_s=0.0) for _ in range(2)]
        manual, corrected = works.setdefault(record.kidney, (pair[0], pair[1]))
        for work, seconds in ((manual, record.manual_seconds), (corrected, record.corrected_seconds)):
            work.structures.add(record.structure)
            work.whole_s = (work.whole_s or 0.0) + (seconds or 0.0)
            if record.manual_seconds is not None and seconds is not None:
                work.labels[record.structure] = seconds
    return list(works.values())


def _efforts(both: Sequence[tuple[Work, Work]]) -> dict[str, Effort]:
    return efforts([manual for manual, _ in both], [corrected for _, corrected in both])


def _times(works: Sequence[Work], column: str) -> tuple[list[float], list[str]]:
    known = [(work.time_s(column), work.patient) for work in works]
    return [s for s, _ in known if s is not None], [patient for s, patient in known if s is not None]


def _effort_rows(name: str, found: dict[str, Effort], simulated: str) -> list[Row]:
    columns = [found[column] for column in COLUMNS]
    return [
        Row(f"{name}by hand", tuple(_clock_cell(e.manual) for e in columns), unit=f"seconds{simulated}"),
        Row(f"{name}corrected", tuple(_clock_cell(e.corrected) for e in columns), unit=f"seconds{simulated}"),
        Row(
            f"{name}saved",
            tuple(_share(e.saving.value, e.saving.n) for e in columns),
            unit=f"percent{simulated}",
        ),
        Row(
            f"{name}95 % CI",
            tuple(range_cell(_percent(e.saving.interval), ".0f") for e in columns),
            unit=f"percent{simulated}",
        ),
        Row(
            f"{name}n",
            tuple(Cell(f"{e.manual.n} / {e.corrected.n}") for e in columns),
            unit=f"kidneys{simulated}",
        ),
    ]


def _percent(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _clock_cell(summary: Summary) -> Cell:
    if summary.mean is None:
        return Cell("-", n=0)
    spread = f" ± {_clock(summary.sd)}" if summary.sd is not None else ""
    return Cell(_clock(summary.mean) + spread, summary.mean, summary.sd, summary.n)


def _share(saved: float | None, n: int | None = None) -> Cell:
    return UNDEFINED if saved is None else Cell(f"{100 * saved:.0f} %", 100 * saved, n=n)


def _rms_cell(records: Sequence[SurfaceRecord], pair: str) -> Cell:
    return mean_sd_cell(summarise([r.rms_mm for r in records if r.pair == pair]))


def _usable(records: Sequence[SurfaceRecord], pair: str) -> Cell:
    values = [r.rms_mm for r in records if r.pair == pair and r.rms_mm is not None]
    under = sum(value < USABLE_RMS_MM for value in values)
    return Cell(f"{under} of {len(values)}", float(under), n=len(values)) if values else UNDEFINED


def _mode_note(mode: str, records: Sequence[SurfaceRecord]) -> str:
    chosen = [r for r in records if r.mode == mode]
    counts = {pair: sum(r.pair == pair and r.rms_mm is not None for r in chosen) for pair in PAIRS}
    n = ", ".join(f"{counts[pair]} ({name})" for pair, name in PAIRS.items())
    most = max((r.points for r in chosen), default=0)
    how = MODES.get(mode, "not described").format(points=f"at most {most:,}")
    return f"{mode.replace('_', ' ')}: {how}; n = {n} kidneys."
