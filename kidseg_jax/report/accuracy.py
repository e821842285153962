"""Table 1: DSC per structure and stage, its tests, and the sentences that follow from them."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from kidseg_jax.evaluation.statistics import (
    ALPHA,
    PairedTest,
    format_p,
    holm,
    paired_test,
    summarise,
    verdict,
)
from kidseg_jax.evaluation.table import Cell, Row, Table, mean_sd_cell, number_cell
from kidseg_jax.report import published
from kidseg_jax.report.records import COLUMNS, HEADINGS, Run, StageRecord


def compared_stages(run: Run) -> list[tuple[StageRecord, StageRecord]]:
    """The pairs that are tested: the first stage against the last, and the last but one against the last."""
    last = len(run.stages) - 1
    firsts = dict.fromkeys((0, last - 1)) if last > 0 else {}
    return [(run.stages[first], run.stages[last]) for first in firsts]


@lru_cache(maxsize=512)
def compare_stages(before: StageRecord, after: StageRecord, structure: str) -> PairedTest:
    """The paired test of one structure's DSC (or "total"), in percent points, on shared kidneys."""
    first, second = before.values("dsc", structure), after.values("dsc", structure)
    shared = sorted(first.keys() & second.keys())
    patients = after.patients
    return paired_test(
        [_percent(first[key]) for key in shared],
        [_percent(second[key]) for key in shared],
        [patients[key] for key in shared],
    )


def dsc_table(run: Run) -> Table:
    """Table 1: DSC per structure and stage as mean +- SD in percent, and the published paired t-tests."""
    rows = [
        Row(
            f"stage {stage.stage}" + (f", {stage.train_kidneys} kidneys" if stage.train_kidneys else ""),
            tuple(
                mean_sd_cell(summarise([_percent(v) for v in stage.values("dsc", c).values()]))
                for c in COLUMNS
            ),
            unit="percent",
        )
        for stage in run.stages
    ]
    for before, after in compared_stages(run):
        tests = [compare_stages(before, after, column) for column in COLUMNS]
        cells = tuple(_p_cell(test.p_t, test.n) for test in tests)
        rows.append(Row(f"p, {before.stage} vs {after.stage} (t-test)", cells, unit="p"))
    for stage, values in published.DSC_PERCENT.items():
        cells = tuple(Cell(f"{mean:.2f} ± {sd:.2f}", mean, sd) for mean, sd in values)
        rows.append(
            Row(f"paper {stage}, {published.STAGE_KIDNEYS[stage]} kidneys", cells, "paper", "percent")
        )
    for (first, second), values in published.P_VALUES.items():
        cells = tuple(Cell(f"{p:.3f}", p) for p in values)
        rows.append(Row(f"paper: p, {first} vs {second}", cells, "paper", "p"))
    return Table(
        "1", "Table 1. DSC on held-out kidneys, %, mean ± SD", HEADINGS, tuple(rows), tuple(_dsc_notes(run))
    )


def statistics_table(run: Run) -> Table:
    """Table 1b: difference, interval, effect size, corrected and clustered tests."""
    rows: list[Row] = []
    for before, after in compared_stages(run):
        tests = [compare_stages(before, after, column) for column in COLUMNS]
        adjusted = [*holm([test.p_t for test in tests[:-1]]), None]
        title = f"{before.stage} vs {after.stage} "
        rows += [
            Row(
                title + "difference",
                tuple(number_cell(t.difference, "+.2f", t.n) for t in tests),
                unit="points",
            ),
            Row(title + "95 % CI", tuple(_interval(t) for t in tests), unit="points"),
            Row(title + "effect d_z", tuple(number_cell(t.effect_size, "+.2f", t.n) for t in tests)),
            Row(title + "p, Holm", tuple(map(_p_cell, adjusted)), unit="p"),
            Row(title + "p, Wilcoxon", tuple(_p_cell(t.p_wilcoxon, t.n) for t in tests), unit="p"),
            Row(
                title + "p, by patient",
                tuple(_p_cell(t.p_clustered, t.patients) for t in tests),
                unit="p",
            ),
            Row(
                title + "detectable",
                tuple(number_cell(t.detectable, ".2f", t.patients) for t in tests),
                unit="points",
            ),
            Row(title + "n / patients", tuple(Cell(f"{t.n} / {t.patients}", n=t.n) for t in tests)),
        ]
    notes = (
        "95 % CI: bootstrap that draws patients. p, Holm: the t-test's p, adjusted over structures. p, by "
        "patient: t-test "
        "over patients' mean differences. Effect: mean difference over its SD.",
        "Differences are later minus earlier stage, in points of DSC %, on the same kidneys. In the total "
        "column n counts "
        "kidney and structure pairs; only its tests over patients take them as dependent.",
        "Detectable: the smallest mean difference over patients that a t-test finds in 4 of 5 repeats at "
        "this n and spread.",
    )
    return Table(
        "1b", "Table 1b. Stage against stage on the same held-out kidneys", HEADINGS, tuple(rows), notes
    )


def stage_sentences(run: Run) -> list[str]:
    """One sentence per structure and tested pair of stages; words follow the numbers."""
    said = []
    for before, after in compared_stages(run):
        tests = [compare_stages(before, after, column) for column in COLUMNS]
        stricter = [*holm([test.p_t for test in tests[:-1]]), tests[-1].p_clustered]
        how = [*["after Holm's correction over structures"] * (len(tests) - 1), "by patient"]
        said += [
            f"{heading}, stage {before.stage} to {after.stage}: {_stricter_verdict(test, p, way)}."
            for heading, test, p, way in zip(HEADINGS, tests, stricter, how, strict=True)
        ]
    return said


def _stricter_verdict(test: PairedTest, p: float | None, how: str) -> str:
    """The verdict of the published t-test, taken back where a stricter test does not bear it out."""
    if test.p_t is None or p is None or not test.p_t <= ALPHA < p:
        return verdict(test, test.p_t)
    alone = f"{format_p(p)}; {format_p(test.p_t)} without"
    return f"no difference shown {how} ({alone}); the mean moved by {test.difference:+.2f} points"


def as_sentence(words: str) -> str:
    """The words with a capital first letter."""
    return words[:1].upper() + words[1:]


def falls(run: Run) -> list[str]:
    """One sentence per structure whose mean DSC falls from one stage to the next."""
    found = []
    for before, after in zip(run.stages, run.stages[1:], strict=False):
        for column, heading in zip(COLUMNS, HEADINGS, strict=True):
            test = compare_stages(before, after, column)
            if test.difference is not None and test.difference < 0:
                shown = "" if test.p_t is None or test.p_t <= ALPHA else "; no difference shown"
                p = "" if test.p_t is None else f" ({format_p(test.p_t)})"
                found.append(
                    f"{heading} falls from stage {before.stage} to {after.stage} by {-test.difference:.2f} "
                    f"points"
                    f"{shown}{p}."
                )
    return found


def _dsc_notes(run: Run) -> Iterable[str]:
    last = run.stages[-1]
    kidneys, patients = last.test_kidneys, {record.patient for record in last.test}
    counts = {c: summarise(list(last.values("dsc", c).values())).n for c in COLUMNS}
    yield (
        f"n = {len(kidneys)} held-out kidneys of {len(patients)} patients, the same at every stage; defined "
        f"values per column: "
        + ", ".join(f"{heading} {counts[c]}" for c, heading in zip(COLUMNS, HEADINGS, strict=True))
        + ". Total is over all kidney and structure values."
    )
    if any(stage.test_kidneys != last.test_kidneys for stage in run.stages):
        yield "Not all stages were tested on the same kidneys: tests use those that two stages share."
    steps = [stage.steps for stage in run.stages]
    if all(step is not None for step in steps):
        same = len(set(steps)) == 1
        each = ", ".join(
            f"{step} (stage {stage.stage})" for step, stage in zip(steps, run.stages, strict=True)
        )
        longer = "Part of a difference may come from training longer, not from more labels."
        yield f"All stages trained {steps[0]} steps." if same else f"Training steps differ: {each}. {longer}"
    yield from _false_positive_notes(run)
    yield from (as_sentence(said) for said in (*falls(run), *stage_sentences(run)))


def _false_positive_notes(run: Run) -> Iterable[str]:
    said = []
    n = 0
    for stage in run.stages:
        found = [r.false_positive_ml for r in stage.test if r.structure == "rcc" and r.dsc is None]
        volumes = [ml for ml in found if ml is not None]
        n = max(n, len(volumes))
        if volumes:
            wrong = sum(ml > 0 for ml in volumes)
            said.append(
                f"stage {stage.stage} {wrong}, mean {np.mean(volumes):.2f} ml, largest {max(volumes):.2f} ml"
            )
    if said:
        each = "; ".join(said)
        yield f"Of {n} held-out kidneys without RCC (no DSC, not averaged) got false-positive RCC: {each}."


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _p_cell(p: float | None, n: int | None = None) -> Cell:
    return Cell("-", n=n) if p is None else Cell(format_p(p).removeprefix("p ").removeprefix("= "), p, n=n)


def _interval(test: PairedTest) -> Cell:
    if test.ci is None:
        return Cell("-", n=test.patients)
    return Cell(f"{test.ci[0]:+.1f} to {test.ci[1]:+.1f}", test.difference, n=test.patients)
