"""What does each rule of the post-processing do to DSC? Held-out kidneys of finished runs, rule by rule.

    python benchmarks/postprocess.py RUN... [--stage K]

Predicts the held-out cases of a stage (the last by default) again, with no rule, and prints the mean DSC of
each structure over the kidneys of all runs that have it, for every variant of `postprocess.VARIANTS`, for
trees that must come within 3 mm of their kidney instead of 20, and for what `predict` gives by default: the
largest kidney chosen before the scores are interpolated. Structures that a kidney has not: the mean volume of
RCC that is predicted there. Rows go to benchmarks/results/postprocess.csv.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro
from held_out import compared, tested
from rows import about, append_rows

from kidseg_jax.imaging.postprocess import DEFAULT, NOTHING, VARIANTS
from kidseg_jax.imaging.structures import NAMES, RCC
from kidseg_jax.imaging.volume import canonical
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.found_kidney import after_rules

AS_PREDICTED = "as predicted by default"
TRIED = {
    **VARIANTS,
    "largest_kidney and vessels_touch at 3 mm": replace(DEFAULT, vessels_touch=True, gap_mm=3.0),
}


def main(runs: tyro.conf.Positional[tuple[Path, ...]], stage: int | None = None) -> None:
    found: dict[str, dict[str, list[float]]] = {variant: {} for variant in (*TRIED, AS_PREDICTED)}
    for run in runs:
        models, cases = tested(run, stage)
        for case in cases:
            raw, turned = predict(models, case.ct, rules=NOTHING), canonical(case.ct)
            voxel_ml = float(np.prod(turned.spacing_mm)) / 1000
            made = {
                variant: replace(raw, kidneys=tuple(after_rules(raw.kidneys, turned, rules)))
                for variant, rules in TRIED.items()
            }
            for variant, prediction in {**made, AS_PREDICTED: predict(models, case.ct)}.items():
                values = found[variant]
                for s, dsc, voxels in compared(case, prediction):
                    if dsc is not None:
                        values.setdefault(s.name, []).append(dsc)
                    elif s.label == RCC:
                        values.setdefault("false", []).append(voxels * voxel_ml)
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
