"""What a run found, in plain sentences for someone who reads nothing else, and what it cannot show."""

from kidseg_jax.evaluation.comparison import PAIRS, USABLE_RMS_MM
from kidseg_jax.evaluation.statistics import ALPHA, format_p, summarise
from kidseg_jax.report.accuracy import as_sentence, compare_stages, compared_stages, falls
from kidseg_jax.report.effort import mean_seconds
from kidseg_jax.report.records import COLUMNS, HEADINGS, Run


def plain_summary(run: Run) -> list[str]:
    """What was done and what came out, one thought a sentence."""
    return [
        sentence for part in (_what(run), _accuracy(run), _effort(run), _surfaces(run)) for sentence in part
    ]


def limits(run: Run) -> list[str]:
    """What this run cannot show, the heaviest first."""
    last = run.stages[-1]
    kidneys, patients = len(last.test_kidneys), len({record.patient for record in last.test})
    said = []
    if run.phantoms:
        said.append(
            "The images are computed phantoms, not patients: no figure here is a forecast of clinical "
            "accuracy."
        )
    if run.simulated:
        said.append("No person labelled anything: corrections and minutes come from a simulated annotator.")
    said.append(
        f"{kidneys} held-out kidneys of {patients} patients are few: "
        + (_detectable(run) or "no smallest detectable difference can be computed.")
    )
    said.append("One run with one seed: another seed gives other figures.")
    steps = {stage.steps for stage in run.stages if stage.steps is not None}
    if len(steps) > 1:
        said.append("Stages trained for different numbers of steps: a gain may come from longer training.")
    said.append("Not a medical device: for research and teaching.")
    return said


def _what(run: Run) -> list[str]:
    last = run.stages[-1]
    kidneys = ", ".join(str(stage.train_kidneys) for stage in run.stages if stage.train_kidneys is not None)
    taught = f", taught by {kidneys} labelled kidneys in turn" if kidneys else ""
    return [
        f"A network learned in {len(run.stages)} stage{'s' * (len(run.stages) > 1)}{taught} to outline a "
        f"kidney, its artery, "
        "vein, ureter and tumour (RCC) in a CT.",
        f"Each stage was tested on {len(last.test_kidneys)} kidneys that it never saw.",
    ]


def _accuracy(run: Run) -> list[str]:
    means = {
        column: [summarise(list(stage.values("dsc", column).values())).mean for stage in run.stages]
        for column in COLUMNS
    }
    said = []
    first, last = means["total"][0], means["total"][-1]
    if first is not None and last is not None:
        moved = f" after stage {run.stages[0].stage}, {100 * last:.0f} % after stage {run.stages[-1].stage}"
        said.append(
            f"The overlap with the true outline (DSC, 100 % is perfect) was {100 * first:.0f} %"
            + (moved if len(run.stages) > 1 else "")
            + ", over all structures."
        )
    defined = {heading: means[c][-1] for c, heading in zip(COLUMNS[:-1], HEADINGS, strict=False)}
    ranked = sorted((value, heading) for heading, value in defined.items() if value is not None)
    if len(ranked) > 1:
        (low, weakest), (high, best) = ranked[0], ranked[-1]
        said.append(
            f"At the end {best} was outlined best ({100 * high:.0f} %) and {weakest} worst ({100 * low:.0f} "
            f"%)."
        )
    for before, after in compared_stages(run):
        test = compare_stages(before, after, "total")
        p, difference = test.p_clustered, test.difference
        if p is None or difference is None:
            continue
        between = f"Between stage {before.stage} and {after.stage}"
        said.append(
            f"{between} no difference was shown in total ({format_p(p)}, by patient; mean {difference:+.1f} "
            f"points)."
            if p > ALPHA
            else f"{between} the total {'rose' if difference > 0 else 'fell'} by "
            f"{abs(difference):.1f} points ({format_p(p)}, by patient)."
        )
    return said + [as_sentence(words) for words in falls(run)]


def _effort(run: Run) -> list[str]:
    total = mean_seconds(run).get("total")
    if total is None:
        return []
    manual, corrected = total
    word = "simulated " if run.simulated else ""
    return [
        f"Correcting the network's outlines took {corrected / 60:.0f} {word}minutes a kidney against "
        f"{manual / 60:.0f} by hand: "
        f"{100 * (1 - corrected / manual):.0f} % saved."
    ]


def _surfaces(run: Run) -> list[str]:
    records = [record for stage in run.stages for record in stage.surfaces if record.mode == "area_symmetric"]
    said = []
    for pair in ("manual_cnn", "manual_corrected"):
        found = [r.rms_mm for r in records if r.pair == pair and r.rms_mm is not None]
        if found:
            mean = sum(found) / len(found)
            under = sum(rms < USABLE_RMS_MM for rms in found)
            said.append(
                f"{as_sentence(PAIRS[pair].replace(' vs ', ' and '))} surfaces lie {mean:.1f} mm apart "
                f"(RMS, mean); {under} "
                f"of {len(found)} kidneys "
                f"stay under the {USABLE_RMS_MM:g} mm that printing asks for."
            )
    return said


def _detectable(run: Run) -> str | None:
    pairs = compared_stages(run)
    if not pairs:
        return None
    before, after = pairs[0]
    smallest = [
        (found, heading)
        for column, heading in zip(COLUMNS[:-1], HEADINGS, strict=False)
        for found in [compare_stages(before, after, column).detectable]
        if found is not None
    ]
    if not smallest:
        return None
    (low, easiest), (high, hardest) = min(smallest), max(smallest)
    return (
        f"between stage {before.stage} and {after.stage} a true difference below {low:.1f} ({easiest}) to "
        f"{high:.1f} points "
        f"({hardest}) would likely be missed."
    )
