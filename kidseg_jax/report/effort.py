"""Tables 2 and 3: labelling minutes, and surface RMS of the three pairs of models."""

from collections.abc import Sequence
from dataclasses import replace

from kidseg_jax.evaluation.comparison import MODES, PAIRS, USABLE_RMS_MM
from kidseg_jax.evaluation.statistics import Summary, summarise
from kidseg_jax.evaluation.table import UNDEFINED, Cell, Row, Table, mean_sd_cell
from kidseg_jax.report import published
from kidseg_jax.report.records import COLUMNS, HEADINGS, LabellingRecord, Run, StageRecord, SurfaceRecord


def minutes_table(run: Run) -> Table:
    """Table 2: labelling time per structure, by hand and CNN-corrected, and the saving."""
    said = ", simulated" if run.simulated else ""
    rows: list[Row] = []
    stages = [stage for stage in run.stages if _timed(stage)]
    chosen = [(f"stage {stage.stage}", _timed(stage)) for stage in stages]
    if len(stages) > 1:
        chosen.append(
            ("all stages", [replace(r, kidney=f"{s.stage}/{r.kidney}") for s in stages for r in _timed(s)])
        )
    for name, records in chosen:
        manual = [_seconds(records, "manual_seconds", column) for column in COLUMNS]
        corrected = [_seconds(records, "corrected_seconds", column) for column in COLUMNS]
        rows += [
            Row(f"{name}, by hand", tuple(map(_clock_cell, manual)), unit=f"seconds{said}"),
            Row(f"{name}, corrected", tuple(map(_clock_cell, corrected)), unit=f"seconds{said}"),
            Row(
                f"{name}, saved",
                tuple(_saving(a, b) for a, b in zip(manual, corrected, strict=True)),
                unit=f"percent{said}",
            ),
        ]
    paper = published.SECONDS
    rows += [
        Row("paper, by hand", tuple(Cell(_clock(s), s) for s in paper["manual"]), "paper", "seconds"),
        Row("paper, corrected", tuple(Cell(_clock(s), s) for s in paper["corrected"]), "paper", "seconds"),
        Row(
            "paper, saved",
            tuple(_saving_cell(a, b, None) for a, b in zip(paper["manual"], paper["corrected"], strict=True)),
            "paper",
            "percent",
        ),
    ]
    notes = [
        "Mean ± SD over newly labelled kidneys; total is the mean over kidneys of all their structures' time."
    ]
    if not chosen:
        notes.append("No kidney of this run has both times: nothing measured.")
    else:
        kidneys = [len({record.kidney for record in records}) for _, records in chosen]
        notes.append(
            "n = "
            + ", ".join(f"{k} ({name})" for k, (name, _) in zip(kidneys, chosen, strict=True))
            + " kidneys."
        )
    if run.simulated:
        notes.append("Every minute of this run is simulated: no person labelled anything.")
    return Table(
        "2", f"Table 2. Labelling time per kidney, minutes:seconds{said}", HEADINGS, tuple(rows), tuple(notes)
    )


def mean_seconds(run: Run) -> dict[str, tuple[float, float] | None]:
    """Per column: mean seconds by hand and CNN-corrected over all newly labelled kidneys; empty where none
    was timed.
    """
    records = [replace(r, kidney=f"{s.stage}/{r.kidney}") for s in run.stages for r in _timed(s)]
    found: dict[str, tuple[float, float] | None] = {}
    for column in COLUMNS if records else ():
        manual, corrected = (
            _seconds(records, f"{key}_seconds", column).mean for key in ("manual", "corrected")
        )
        found[column] = None if manual is None or corrected is None else (manual, corrected)
    return found


def rms_table(run: Run) -> Table:
    """Table 3: surface RMS in mm for the three pairs, per mode, with direction and sampling named."""
    records = [record for stage in run.stages for record in stage.surfaces]
    found = dict.fromkeys(record.mode for record in records)
    modes = [mode for mode in MODES if mode in found] + [mode for mode in found if mode not in MODES]
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
    """Records of a stage that corrected labels; by hand is None where the truth lacks the structure."""
    return [r for r in stage.labelling if r.corrected_seconds is not None]


def _seconds(records: Sequence[LabellingRecord], key: str, column: str) -> Summary:
    if column != "total":
        return summarise(
            [getattr(r, key) for r in records if r.structure == column and r.manual_seconds is not None]
        )
    totals: dict[str, float] = {}
    for record in records:
        totals[record.kidney] = totals.get(record.kidney, 0.0) + (getattr(record, key) or 0.0)
    return summarise(list(totals.values()))


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def _clock_cell(summary: Summary) -> Cell:
    if summary.mean is None:
        return Cell("-", n=0)
    spread = f" ± {_clock(summary.sd)}" if summary.sd is not None else ""
    return Cell(_clock(summary.mean) + spread, summary.mean, summary.sd, summary.n)


def _saving(manual: Summary, corrected: Summary) -> Cell:
    if not manual.mean or corrected.mean is None:
        return UNDEFINED
    return _saving_cell(manual.mean, corrected.mean, manual.n)


def _saving_cell(manual: float, corrected: float, n: int | None) -> Cell:
    saved = 100 * (1 - corrected / manual)
    return Cell(f"{saved:.0f} %", saved, n=n)


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
