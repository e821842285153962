"""Which kidneys the report draws: best, median and worst by DSC, and the worst surface of each pair."""

from kidseg_jax.evaluation.comparison import PAIRS
from kidseg_jax.report.records import Run, StageRecord, TestRecord
from kidseg_jax.report.snapshot import KidneySnapshot, read_snapshot
from kidseg_jax.rundir import RunDirectory

MEASURE = "area_symmetric"


def snapshot_of(run: Run, stage: int, kidney: str) -> KidneySnapshot | None:
    """The snapshot file of a kidney at a stage, or None where the stage shell left none."""
    path = RunDirectory(run.path).stage(stage).snapshot(kidney)
    return read_snapshot(path) if path.is_file() else None


def ranked_tests(stage: StageRecord) -> list[tuple[float, str]]:
    """(mean DSC over defined structures, kidney) of each held-out kidney, worst first."""
    scores: dict[str, list[float]] = {}
    for record in stage.test:
        if record.dsc is not None:
            scores.setdefault(record.kidney, []).append(record.dsc)
    return sorted((sum(values) / len(values), kidney) for kidney, values in scores.items())


def ranked_surfaces(stage: StageRecord, pair: str, measure: str = MEASURE) -> list[tuple[float, str]]:
    """(surface RMS in mm, kidney) of each newly labelled kidney, best first."""
    return sorted(
        (record.rms_mm, record.kidney)
        for record in stage.surfaces
        if record.pair == pair and record.mode == measure and record.rms_mm is not None
    )


def spread(ranked: list[tuple[float, str]]) -> list[tuple[str, float, str]]:
    """First, middle and last of a ranking as (place, value, kidney), without repeats."""
    places = dict.fromkeys((0, (len(ranked) - 1) // 2, len(ranked) - 1)) if ranked else {}
    names = ("first", "median", "last")
    return [(names[min(i, 2) if len(places) == 3 else 2 * i], *ranked[at]) for i, at in enumerate(places)]


def worst_surfaces(run: Run) -> dict[str, tuple[int, str, float]]:
    """Per pair: stage, kidney and RMS in mm of the worst kidney of the last stage that compared surfaces."""
    worst: dict[str, tuple[int, str, float]] = {}
    for stage in reversed(run.stages):
        for pair in PAIRS:
            ranked = ranked_surfaces(stage, pair)
            if ranked and pair not in worst:
                rms_mm, kidney = ranked[-1]
                worst[pair] = (stage.stage, kidney, rms_mm)
    return {pair: worst[pair] for pair in PAIRS if pair in worst}


def dsc_of(stage: StageRecord, kidney: str) -> list[TestRecord]:
    """The records of one held-out kidney, in the order of the structures."""
    return [record for record in stage.test if record.kidney == kidney]
