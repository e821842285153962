"""Table 1: DSC per structure and stage, its tests, and the sentences that follow from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from kidseg_jax.evaluation.statistics import (
    Estimate,
    PairedTest,
    format_interval,
    format_p,
    holm,
    mean_of,
    paired_test,
    summarise,
    verdict,
)
from kidseg_jax.evaluation.table import Cell, Row, Table, mean_sd_cell, number_cell, range_cell
from kidseg_jax.report import published
from kidseg_jax.report.records import COLUMNS, HEADINGS, Run, StageRecord


@dataclass(frozen=True)
class Comparison:
    """Two stages, the paired test of each of `COLUMNS`, and its p over patients after Holm's correction.

    The correction is over every test of the run: all comparisons and all columns.
    """

    before: StageRecord
    after: StageRecord
    tests: tuple[PairedTest, ...]
    p: tuple[float | None, ...]


def compared_stages(run: Run) -> list[tuple[StageRecord, StageRecord]]:
    """The pairs that are tested: the first stage against the last, and the last but one against the last."""
    last = len(run.stages) - 1
    firsts = dict.fromkeys((0, last - 1)) if last > 0 else {}
    return [(run.stages[first], run.stages[last]) for first in firsts]


def comparisons(run: Run) -> list[Comparison]:
    """Every comparison of `compared_stages` with all its tests."""
    pairs = compared_stages(run)
    tests = [[compare_stages(before, after, column) for column in COLUMNS] for before, after in pairs]
    p = holm([test.change.p for row in tests for test in row])
    size = len(COLUMNS)
    return [
        Comparison(before, after, tuple(row), tuple(p[i * size : (i + 1) * size]))
        for i, ((before, after), row) in enumerate(zip(pairs, tests, strict=True))
    ]


@lru_cache(maxsize=512)
def compare_stages(before: StageRecord, after: StageRecord, structure: str) -> PairedTest:
    """The paired test of one structure's DSC (or "total"), in percent points, on shared kidneys."""
    first = {(r.kidney, r.structure): r for r in before.tested(structure)}
    second = {(r.kidney, r.structure): r for r in after.tested(structure)}
    shared = sorted(first.keys() & second.keys())
    return paired_test(
        [first[key].dsc_percent for key in shared],
        [second[key].dsc_percent for key in shared],
        [second[key].patient for key in shared],
    )


def mean_dsc(stage: StageRecord, structure: str) -> Estimate:
    """The mean DSC in percent of one structure over kidneys, or of all over kidney and structure pairs."""
    records = stage.tested(structure)
    return mean_of([r.dsc_percent for r in records], [r.patient for r in records])


def dsc_table(run: Run) -> Table:
    """Table 1: DSC per structure and stage as mean +- SD in percent, and its tests."""
    rows = [
        Row(
            f"stage {stage.stage}"
            + (
                f", {stage.train_kidneys} kidneys"
                if stage.train_kidneys
                else ", start model" * (not stage.stage)
            ),
            tuple(mean_sd_cell(summarise([r.dsc_percent for r in stage.tested(c)])) for c in COLUMNS),
            unit="percent",
        )
        for stage in run.stages
    ]
    for comparison in comparisons(run):
        name = f"{comparison.before.stage} vs {comparison.after.stage}"
        ours = zip(comparison.p, comparison.tests, strict=True)
        rows.append(Row(f"p, {name}", tuple(_p_cell(p, t.change.patients) for p, t in ours), unit="p"))
        cells = tuple(_p_cell(test.p_t, test.change.n) for test in comparison.tests)
        rows.append(Row(f"[published t-test, {name}]", cells, unit="p"))
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
    """Table 1b: change, interval, effect size, tests and what could have been found."""
    rows: list[Row] = []
    for comparison in comparisons(run):
        tests, title = comparison.tests, f"{comparison.before.stage} vs {comparison.after.stage} "
        rows += [
            Row(
                title + "change",
                tuple(number_cell(t.change.value, "+.2f", t.change.n) for t in tests),
                unit="points",
            ),
            Row(
                title + "95 % CI", tuple(range_cell(t.change.interval, "+.1f") for t in tests), unit="points"
            ),
            Row(
                title + "by patient",
                tuple(number_cell(t.over_patients, "+.2f", t.change.patients) for t in tests),
                unit="points",
            ),
            Row(title + "effect d_z", tuple(number_cell(t.effect_size, "+.2f", t.change.n) for t in tests)),
            Row(title + "p", tuple(_p_cell(t.change.p, t.change.patients) for t in tests), unit="p"),
            Row(title + "p, Holm", tuple(map(_p_cell, comparison.p)), unit="p"),
            Row(
                title + "p, Wilcoxon",
                tuple(_p_cell(t.p_wilcoxon, t.change.patients) for t in tests),
                unit="p",
            ),
            Row(title + "detectable", tuple(range_cell(t.detectable, ".1f") for t in tests), unit="points"),
            Row(
                title + "n / patients",
                tuple(Cell(f"{t.change.n} / {t.change.patients}", n=t.change.n) for t in tests),
            ),
        ]
    notes = (
        "Changes are later minus earlier stage, in points of DSC %, on the same kidneys: their mean over "
        "kidneys, in the total column over kidney and structure pairs. By patient: the mean over patients of "
        "their own means, which may have another sign.",
        "95 % CI and p: t with CR2 over patients, so that all values of a patient may be alike. p, Holm: "
        "adjusted over every test of this table. Wilcoxon: over patients' means. Effect: the change "
        "over its SD over kidneys.",
        "Detectable: the smallest mean difference that a t-test over these patients finds in 4 of 5 repeats, "
        "from and to: so wide is the 95 % interval of their SD.",
    )
    return Table(
        "1b",
        "Table 1b. Stage against stage on the same held-out kidneys",
        HEADINGS,
        tuple(rows),
        (*notes, *stage_sentences(run)),
    )


def stage_sentences(run: Run) -> list[str]:
    """One sentence per structure and tested pair of stages; words follow the numbers."""
    return [
        f"{as_sentence(heading)}, stage {comparison.before.stage} to {comparison.after.stage}: "
        f"{verdict(test.change, p)}."
        for comparison in comparisons(run)
        for heading, test, p in zip(HEADINGS, comparison.tests, comparison.p, strict=True)
    ]


def as_sentence(words: str) -> str:
    """The words with a capital first letter."""
    return words[:1].upper() + words[1:]


def falls(run: Run) -> list[tuple[Estimate, str]]:
    """Where the mean over kidneys falls from one stage to the next, the largest fall first, and where."""
    fallen: list[tuple[float, Estimate, str]] = []
    for before, after in pairwise(run.stages):
        for column, heading in zip(COLUMNS, HEADINGS, strict=True):
            change = compare_stages(before, after, column).change
            if change.value is not None and change.value < 0:
                fallen.append((change.value, change, f"{heading} from stage {before.stage} to {after.stage}"))
    return [(change, where) for _, change, where in sorted(fallen, key=lambda fall: fall[0])]


def format_change(change: Estimate) -> str:
    """ "+1.2 points (95 % CI -0.3 to +2.7)"."""
    return f"{change.value:+.1f} points{format_interval(change.interval, '+.1f')}"


def _dsc_notes(run: Run) -> Iterable[str]:
    last = run.stages[-1]
    counts = ", ".join(f"{h} {mean_dsc(last, c).n}" for c, h in zip(COLUMNS, HEADINGS, strict=True))
    yield (
        f"n = {len(last.test_kidneys)} held-out kidneys of {len(last.test_patients)} patients, the same at "
        f"every stage; defined values per column: {counts}. Mean ± SD is over kidneys, the total over all "
        "kidney and structure values."
    )
    if len(run.stages) > 1:
        yield (
            f"p: over patients (CR2), with Holm's correction over all {len(comparisons(run)) * len(COLUMNS)} "
            "tests. [Published t-test]: takes values of one patient, and in the total of one kidney, as "
            "independent; where they are alike it finds differences that are not there. It stands here to be "
            "laid beside the paper's, not to be believed."
        )
    if any(stage.test_kidneys != last.test_kidneys for stage in run.stages):
        yield "Not all stages were tested on the same kidneys: tests use those that two stages share."
    trained = [stage for stage in run.stages if stage.stage]
    steps = [stage.steps for stage in trained]
    if all(step is not None for step in steps):
        same = len(set(steps)) == 1
        each = ", ".join(f"{step} (stage {stage.stage})" for step, stage in zip(steps, trained, strict=True))
        longer = "Part of a difference may come from training longer, not from more labels."
        yield f"All stages trained {steps[0]} steps." if same else f"Training steps differ: {each}. {longer}"
    yield from _false_positive_notes(run)
    if fell := falls(run):
        each = "; ".join(f"{where} {format_change(change)}" for change, where in fell)
        yield f"The mean over kidneys fell: {each}."


def _false_positive_notes(run: Run) -> Iterable[str]:
    parts = []
    n = 0
    for stage in run.stages:
        absent = [r.false_positive_ml for r in stage.tested("rcc") if r.dsc is None]
        volumes = [ml for ml in absent if ml is not None]
        n = max(n, len(volumes))
        if volumes:
            wrong = sum(ml > 0 for ml in volumes)
            parts.append(
                f"stage {stage.stage} {wrong}, mean {np.mean(volumes):.2f} ml, largest {max(volumes):.2f} ml"
            )
    if parts:
        each = "; ".join(parts)
        yield f"Of {n} held-out kidneys without RCC (no DSC, not averaged) got false-positive RCC: {each}."


def _p_cell(p: float | None, n: int | None = None) -> Cell:
    return Cell("-", n=n) if p is None else Cell(format_p(p).removeprefix("p ").removeprefix("= "), p, n=n)
