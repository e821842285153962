"""The tables of a run: 1 to 3 of the paper, each beside its own figures, and what it does not show."""

from kidseg_jax.evaluation.table import Table
from kidseg_jax.report.accuracy import dsc_table, statistics_table
from kidseg_jax.report.effort import minutes_table, rms_table
from kidseg_jax.report.kidneys import confusion_table, kidney_table, volume_table
from kidseg_jax.report.published import (
    PHANTOM_DIFFERENCE,
    SETUP_DIFFERENCES,
    SIMULATED_DIFFERENCE,
    STAGE_KIDNEYS,
)
from kidseg_jax.report.records import Run
from kidseg_jax.report.trees import tree_table


def run_tables(run: Run) -> tuple[Table, ...]:
    """Tables 1, 1b, 1c and 2 to 6 of a run; one whose measurements are missing says so in its notes."""
    made = (
        dsc_table,
        statistics_table,
        kidney_table,
        minutes_table,
        rms_table,
        volume_table,
        confusion_table,
        tree_table,
    )
    return tuple(make(run) for make in made)


def differences_of_setup(run: Run) -> list[str]:
    """Every way in which this run differs from the paper's, one sentence each."""
    kidneys = {stage.stage: stage.train_kidneys for stage in run.stages if stage.train_kidneys is not None}
    differences = [PHANTOM_DIFFERENCE] if run.phantoms else []
    differences += [SIMULATED_DIFFERENCE] if run.simulated else []
    if kidneys:
        ours = ", ".join(f"{n} in stage {stage}" for stage, n in kidneys.items())
        papers = ", ".join(f"{n} in stage {stage}" for stage, n in STAGE_KIDNEYS.items())
        differences.append(f"Kidneys: {ours} to train here, {papers} to train and test in the paper.")
    return [*differences, *SETUP_DIFFERENCES]
