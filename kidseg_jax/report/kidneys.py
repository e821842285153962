"""Kidney by kidney: the held-out ones' scores and volumes, and which voxels of vessels were confused."""

import numpy as np

from kidseg_jax.evaluation.statistics import mean_of, summarise
from kidseg_jax.evaluation.table import UNDEFINED, Cell, Row, Table, mean_sd_cell, range_cell
from kidseg_jax.imaging.structures import ARTERY, NAMES, VEIN
from kidseg_jax.report.examples import snapshot_of
from kidseg_jax.report.records import HEADINGS, Run, TestRecord

WHOLE = "parenchyma + RCC"


def kidney_table(run: Run) -> Table:
    """Table 1c: DSC and HD95 of every held-out kidney of the last stage, a row each."""
    last = run.stages[-1]
    rows = []
    for kidney in last.test_kidneys:
        own = {record.structure: record for record in last.test if record.kidney == kidney}
        scores = [record.dsc_percent for record in own.values()]
        mean = mean_sd_cell(summarise(scores), 1)
        cells = (*(_score_cell(own.get(name)) for name in NAMES), mean)
        rows.append(Row(kidney, cells, unit="percent"))
    return Table(
        "1c",
        f"Table 1c. Held-out kidneys of stage {last.stage}: DSC % (HD95 mm)",
        (*HEADINGS[:-1], "mean ± SD"),
        tuple(rows),
        ("-: the truth lacks the structure. Mean ± SD: over the kidney's structures.",),
    )


def volume_table(run: Run) -> Table:
    """Table 4: true and predicted ml of every held-out kidney, with bias and limits of agreement."""
    last = run.stages[-1]
    columns = (*NAMES, WHOLE)
    volumes: dict[str, dict[str, tuple[float, float]]] = {}
    patients = {record.kidney: record.patient for record in last.test}
    for record in last.test:
        own = volumes.setdefault(record.kidney, {})
        own[record.structure] = (record.truth_ml, record.predicted_ml)
        if record.structure in WHOLE.lower().split(" + "):
            true, predicted = own.get(WHOLE, (0.0, 0.0))
            own[WHOLE] = (true + record.truth_ml, predicted + record.predicted_ml)
    rows = [
        Row(kidney, tuple(_volume_cell(volumes[kidney].get(column)) for column in columns), unit="ml")
        for kidney in last.test_kidneys
    ]
    errors = {
        column: {kidney: own[column][1] - own[column][0] for kidney, own in volumes.items() if column in own}
        for column in columns
    }
    bias = {c: mean_of(list(e.values()), [patients[k] for k in e]) for c, e in errors.items()}
    spread = {column: summarise(list(found.values())) for column, found in errors.items()}
    rows += [
        Row("bias", tuple(mean_sd_cell(spread[c], 1) for c in columns), unit="ml"),
        Row("bias, 95 % CI", tuple(range_cell(bias[c].interval, "+.1f") for c in columns), unit="ml"),
        Row("limits of agreement", tuple(range_cell(_limits(errors[c]), "+.1f") for c in columns), unit="ml"),
    ]
    return Table(
        "4",
        f"Table 4. Volumes of stage {last.stage}, ml: true / predicted",
        (*HEADINGS[:-1], WHOLE),
        tuple(rows),
        (
            "Bias: predicted minus true, mean ± SD over kidneys; its 95 % CI is t with CR2 over patients. "
            "Limits of agreement (Bland-Altman): bias ± 1.96 SD.",
        ),
    )


def confusion_table(run: Run) -> Table:
    """Table 5: what became of the true artery's and vein's voxels in the last stage, pooled over kidneys."""
    last = run.stages[-1]
    counts, n = np.zeros((2, 4)), 0
    for kidney in last.test_kidneys:
        snapshot = snapshot_of(run, last.stage, kidney)
        if snapshot is None or snapshot.manual is None or snapshot.cnn is None:
            continue
        n += 1
        voxel_ml = float(np.prod(snapshot.geometry.spacing_mm)) / 1000
        for row, vessel in enumerate((ARTERY, VEIN)):
            seen = snapshot.cnn[snapshot.manual == vessel]
            kinds = [seen == ARTERY, seen == VEIN, (seen > 0) & ~np.isin(seen, (ARTERY, VEIN)), seen == 0]
            counts[row] += [voxel_ml * np.count_nonzero(kind) for kind in kinds]
    rows = tuple(
        Row(f"true {name}", tuple(_part_cell(ml, row.sum(), n) for ml in row), unit="ml")
        for name, row in zip(("artery", "vein"), counts, strict=True)
    )
    note = (
        f"Volumes summed over the {n} held-out kidneys that have a snapshot; percent of the true structure."
    )
    return Table(
        "5",
        f"Table 5. Artery and vein confused in stage {last.stage}, ml",
        ("seen as artery", "as vein", "as another structure", "as background"),
        rows,
        (note,) if n else ("No snapshot of a held-out kidney: confusion was not measured.",),
    )


def _score_cell(record: TestRecord | None) -> Cell:
    if record is None or record.dsc_percent is None:
        return UNDEFINED
    distance = "-" if record.hd95_mm is None else f"{record.hd95_mm:.1f}"
    return Cell(f"{record.dsc_percent:.1f} ({distance})", record.dsc_percent)


def _volume_cell(volumes: tuple[float, float] | None) -> Cell:
    if volumes is None:
        return UNDEFINED
    return Cell(f"{volumes[0]:.1f} / {volumes[1]:.1f}", volumes[1] - volumes[0])


def _limits(errors: dict[str, float]) -> tuple[float, float] | None:
    summary = summarise(list(errors.values()))
    if summary.mean is None or summary.sd is None:
        return None
    return summary.mean - 1.96 * summary.sd, summary.mean + 1.96 * summary.sd


def _part_cell(ml: float, whole_ml: float, n: int) -> Cell:
    return UNDEFINED if not whole_ml else Cell(f"{ml:.1f} ({100 * ml / whole_ml:.0f} %)", float(ml), n=n)
