"""Artery, vein and ureter of every stage as trees: clDice, pieces, and what of their length was followed."""

from collections.abc import Callable

from kidseg_jax.evaluation.statistics import summarise
from kidseg_jax.evaluation.table import Cell, Row, Table, mean_sd_cell
from kidseg_jax.evaluation.trees import LEAST_GAP_MM, TREES
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.report.records import Run, TestRecord

Value = Callable[[TestRecord], float | None]


def _share(record: TestRecord) -> float | None:
    if record.truth_mm is None or record.found_mm is None:
        return None
    return 100 * record.found_mm / record.truth_mm if record.truth_mm else None


COLUMNS: dict[str, tuple[Value, int]] = {
    "clDice %": (lambda record: None if record.cldice is None else 100 * record.cldice, 1),
    "true pieces": (lambda record: record.truth_pieces, 1),
    "pieces": (lambda record: record.predicted_pieces, 1),
    "true mm": (lambda record: record.truth_mm, 0),
    "found %": (_share, 1),
    "false mm": (lambda record: record.false_mm, 1),
    "gaps": (lambda record: record.gaps, 1),
    "largest gap mm": (lambda record: record.largest_gap_mm, 1),
}


def tree_table(run: Run) -> Table:
    """Table 6: mean ± SD over the held-out kidneys, a row for each stage and tree."""
    measured = any(record.cldice is not None for stage in run.stages for record in stage.test)
    rows = [
        Row(
            f"stage {stage.stage}, {name}", tuple(_cell(stage.tested(name), *how) for how in COLUMNS.values())
        )
        for stage in run.stages
        for name in (NAMES[label - 1] for label in TREES)
    ]
    notes = (
        "Along centrelines. clDice: Shit et al. 2021. Found: share of the true centreline inside the "
        "prediction. False: predicted centreline outside the truth. "
        f"Gaps: missed stretches of {LEAST_GAP_MM:g} mm or more between found ones.",
    )
    return Table(
        "6",
        "Table 6. Trees of the held-out kidneys",
        tuple(COLUMNS),
        tuple(rows) if measured else (),
        notes if measured else ("Trees were not measured.",),
    )


def _cell(records: list[TestRecord], value: Value, decimals: int) -> Cell:
    return mean_sd_cell(summarise([value(record) for record in records]), decimals)
