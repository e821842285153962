"""What a run found, in plain sentences for someone who reads nothing else, and what it cannot show."""

from collections.abc import Iterator

from kidseg_jax.evaluation.comparison import USABLE_RMS_MM
from kidseg_jax.evaluation.statistics import format_interval, mean_of, verdict
from kidseg_jax.report.accuracy import as_sentence, comparisons, falls, format_change, mean_dsc
from kidseg_jax.report.effort import run_efforts
from kidseg_jax.report.records import COLUMNS, HEADINGS, Run


def plain_summary(run: Run) -> list[str]:
    """What came out, at most six sentences, the most important first, each mean with its interval."""
    return [sentence for part in (_accuracy, _change, _effort, _surfaces) for sentence in part(run)]


def limits(run: Run) -> list[str]:
    """What this run cannot show, the heaviest first."""
    last = run.stages[-1]
    kidneys, patients = len(last.test_kidneys), len(last.test_patients)
    sentences = []
    if run.phantoms:
        sentences.append(
            "The images are computed phantoms, not patients: no figure here is a forecast of clinical "
            "accuracy."
        )
    if run.simulated:
        sentences.append(
            "No person labelled anything: corrections and minutes come from a simulated annotator."
        )
    sentences.append(
        f"{kidneys} held-out kidneys of {patients} patients are few: "
        + (_detectable(run) or "no smallest detectable difference can be computed.")
    )
    sentences.append("One run with one seed: another seed gives other figures.")
    steps = {stage.steps for stage in run.stages if stage.steps is not None}
    if len(steps) > 1:
        sentences.append(
            "Stages trained for different numbers of steps: a gain may come from longer training."
        )
    sentences.append("Not a medical device: for research and teaching.")
    return sentences


def _accuracy(run: Run) -> Iterator[str]:
    """The last stage's overlap in total, and its best and worst structure."""
    last = run.stages[-1]
    total = mean_dsc(last, "total")
    taught = f" and {last.train_kidneys} labelled kidneys" if last.train_kidneys is not None else ""
    tested = f"{len(last.test_kidneys)} held-out kidneys of {len(last.test_patients)} patients"
    if total.value is not None:
        yield (
            f"After {last.stage} stage{'s' * (last.stage > 1)}{taught} the overlap with the true outline "
            f"(DSC, 100 % is perfect) is {total.value:.0f} %{format_interval(total.interval, '.0f')}, the "
            f"mean over all structures of {tested}."
        )
    means = [(mean_dsc(last, c), heading) for c, heading in zip(COLUMNS[:-1], HEADINGS, strict=False)]
    ranked = sorted(((e.value, e, h) for e, h in means if e.value is not None), key=lambda found: found[0])
    if len(ranked) > 1:
        (low, weakest, worst), (high, strongest, best) = ranked[0], ranked[-1]
        yield (
            f"Mean over kidneys: {best} is outlined best, {high:.0f} %"
            f"{format_interval(strongest.interval, '.0f')}, and {worst} worst, {low:.0f} %"
            f"{format_interval(weakest.interval, '.0f')}."
        )


def _change(run: Run) -> Iterator[str]:
    """What the stages changed in total, and the largest fall of any mean."""
    changes = [
        f"from stage {comparison.before.stage} to {comparison.after.stage} "
        f"{verdict(comparison.tests[-1].change, comparison.p[-1])}"
        for comparison in comparisons(run)
    ]
    if changes:
        yield (
            f"{as_sentence('; '.join(changes))} (DSC in total, mean over kidney and structure pairs; tests "
            "over patients, with Holm's correction over all)."
        )
    if fell := falls(run):
        (change, where), others = fell[0], len(fell) - 1
        more = f"; {others} other mean{'s' * (others > 1)} fell too, see Table 1" if others else ""
        yield f"The largest fall of a mean over kidneys: {where}, {format_change(change)}{more}."


def _effort(run: Run) -> Iterator[str]:
    """What correcting saved."""
    total = run_efforts(run).get("total")
    if total is None or not total.manual.mean or total.corrected.mean is None or total.saving.value is None:
        return
    share, ends = 100 * total.saving.value, total.saving.interval
    percent = None if ends is None else (100 * ends[0], 100 * ends[1])
    if is_slower := share < 0:
        share, percent = -share, percent and (-percent[1], -percent[0])
    yield (
        f"Correcting the network's outlines took {total.corrected.mean / 60:.0f} "
        f"{'simulated ' * run.simulated}minutes a kidney against {total.manual.mean / 60:.0f} by hand (means "
        f"over {total.saving.n} kidneys): {share:.0f} % {'more' if is_slower else 'saved'}"
        f"{format_interval(percent, '.0f')}."
    )


def _surfaces(run: Run) -> Iterator[str]:
    """How far manual surfaces lie from those of the network, and from corrected ones."""
    parts = []
    for pair, other in (("manual_cnn", "the network's"), ("manual_corrected", "corrected")):
        chosen = [
            r
            for stage in run.stages
            for r in stage.surfaces
            if (r.mode, r.pair) == ("area_symmetric", pair) and r.rms_mm is not None
        ]
        apart = mean_of([r.rms_mm for r in chosen], [r.patient for r in chosen])
        if apart.value is not None:
            under = sum(r.rms_mm is not None and r.rms_mm < USABLE_RMS_MM for r in chosen)
            interval = format_interval(apart.interval, ".1f")
            parts.append(
                f"{apart.value:.1f} mm{interval} from {other}, {under} of {apart.n} under "
                f"{USABLE_RMS_MM:g} mm"
            )
    if parts:
        yield (
            f"Manual surfaces lie {'; '.join(parts)} (RMS, mean over kidneys; printing asks for less than "
            f"{USABLE_RMS_MM:g} mm)."
        )


def _detectable(run: Run) -> str | None:
    compared = comparisons(run)
    if not compared:
        return None
    ranges = [
        (*test.detectable, heading)
        for heading, test in zip(HEADINGS[:-1], compared[0].tests, strict=False)
        if test.detectable is not None
    ]
    if not ranges:
        return None
    (low, high, easiest), (lowest, highest, hardest) = min(ranges), max(ranges)
    return (
        f"between stage {compared[0].before.stage} and {compared[0].after.stage} a true difference would "
        f"likely be missed below {low:.1f} to {high:.1f} points ({easiest}), below {lowest:.1f} to "
        f"{highest:.1f} points ({hardest}); the spread is known no better."
    )
