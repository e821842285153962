"""What does each rule of the post-processing do to DSC? Held-out kidneys of finished runs, rule by rule.

    python benchmarks/postprocess.py RUN... [--stage K]

Predicts the held-out cases of a stage (the last by default) again, with no rule, and prints the mean DSC of
each structure over the kidneys of all runs that have it, for every variant of `postprocess.VARIANTS`, for
trees that must come within 3 mm of their kidney instead of 20, and for what `predict` gives by default: the
largest kidney chosen before the scores are interpolated. Structures that a kidney has not: the mean volume of
RCC that is predicted there. Rows go to benchmarks/results/postprocess.csv.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro
from rows import about, append_rows

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.evaluation.metrics import dice
from kidseg_jax.imaging.postprocess import DEFAULT, NOTHING, VARIANTS
from kidseg_jax.imaging.structures import NAMES, RCC, STRUCTURES
from kidseg_jax.imaging.volume import canonical
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.found_kidney import after_rules
from kidseg_jax.network.models import load_models
from kidseg_jax.phantom.cohort import make_case
from kidseg_jax.report.records import read_run
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.case_work import pair_kidneys
from kidseg_jax.staging.resume import settings_of

AS_PREDICTED = "as predicted by default"
TRIED = {
    **VARIANTS,
    "largest_kidney and vessels_touch at 3 mm": replace(DEFAULT, vessels_touch=True, gap_mm=3.0),
}


def cases_of(run: Path, names: set[str]) -> Iterator[Case]:
    """The cases of a run that have these names, in their order."""
    settings = settings_of(run)
    if settings["data"] is None:
        config = settings["config"]
        yield from (make_case(config.cohort, config.seed, int(name[-5:])) for name in sorted(names))
    else:
        cases = load_cohort(settings["data"], label_map=settings["label_map"])
        yield from (case for case in cases if case.name in names)


def main(first: tyro.conf.Positional[Path], *others: Path, stage: int | None = None) -> None:
    runs = (first, *others)
    found: dict[str, dict[str, list[float]]] = {variant: {} for variant in (*TRIED, AS_PREDICTED)}
    for run in runs:
        stages = [s for s in read_run(run).stages if stage in (None, s.stage)]
        if not stages:
            raise SystemExit(f"{run}: need a run with stage {stage}")
        models = load_models(RunDirectory(run).stage(stages[-1].stage).models)
        for case in cases_of(run, {record.case for record in stages[-1].test}):
            raw, turned = predict(models, case.ct, rules=NOTHING), canonical(case.ct)
            voxel_ml = float(np.prod(turned.spacing_mm)) / 1000
            made = {
                variant: replace(raw, kidneys=tuple(after_rules(raw.kidneys, turned, rules)))
                for variant, rules in TRIED.items()
            }
            for variant, prediction in {**made, AS_PREDICTED: predict(models, case.ct)}.items():
                for pair in pair_kidneys(case, kidneys_of(case), prediction):
                    values = found[variant]
                    for s in STRUCTURES:
                        truth, predicted = pair.truth == s.label, pair.predicted == s.label
                        if truth.any():
                            values.setdefault(s.name, []).append(100 * (dice(truth, predicted) or 0.0))
                        elif s.label == RCC:
                            values.setdefault("false", []).append(np.count_nonzero(predicted) * voxel_ml)
    report(found, " ".join(run.name for run in runs), stage)


def report(found: dict[str, dict[str, list[float]]], runs: str, stage: int | None) -> None:
    """Print the table and keep its rows."""
    width = max(map(len, found))
    print(f"{'DSC %':{width}}" + "".join(f"{name:>12}" for name in NAMES) + f"{'mean':>8}  false RCC, ml")
    rows = []
    for variant, values in found.items():
        means = {name: float(np.mean(values[name])) for name in NAMES if name in values}
        false_ml = float(np.mean(values.get("false", [0.0])))
        cells = "".join(f"{means[name]:12.2f}" if name in means else f"{'-':>12}" for name in NAMES)
        mean = float(np.mean([*means.values()]))
        print(f"{variant:{width}}{cells}{mean:8.2f}  {false_ml:.2f}")
        counts = {f"n_{name}": len(values.get(name, ())) for name in NAMES}
        about_it = {**about(), "runs": runs, "stage": stage or "last", "variant": variant}
        rows.append({**about_it, **means, "mean": mean, "false_rcc_ml": false_ml, **counts})
    print(f"{'kidneys':{width}}" + "".join(f"{len(found['none'].get(name, ())):12}" for name in NAMES))
    append_rows("postprocess", rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
