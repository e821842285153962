"""What does each rule of the post-processing do to DSC? Held-out kidneys of a run, rule by rule.

    python benchmarks/policy.py RUN [--stage K]

Reads the label maps that a stage left of its test kidneys (RUN/stage_K/evidence; the last stage by default)
and prints the mean DSC of each structure with no rule, with each rule alone, and with all that work on one
kidney. No network runs. Rows go to benchmarks/results/policy.csv. The rules begin with what the run has
cleaned already (largest kidney of each side); `sides_apart` acts between kidneys and is not in the table.
"""

import argparse
from pathlib import Path

import numpy as np
from rows import about, append_rows

from kidseg_jax.evaluation.evidence import read_evidence
from kidseg_jax.evaluation.metrics import dice
from kidseg_jax.imaging.policy import effects
from kidseg_jax.imaging.structures import NAMES, STRUCTURES
from kidseg_jax.imaging.volume import Labels


def dsc_by_rule(run: Path, stage: int | None) -> dict[str, dict[str, list[float]]]:
    """DSC in 0..1 of every test kidney that has the structure, by rule and structure."""
    stages = {int(path.name[6:]): path for path in run.glob("stage_*") if path.name[6:].isdigit()}
    if not stages or (stage is not None and stage not in stages):
        raise SystemExit(f"{run}: need a run with stages{'' if stage is None else f' and stage {stage}'}")
    folder = stages[max(stages) if stage is None else stage] / "evidence"
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(folder.glob("*.npz")):
        held = read_evidence(path)
        if held.role != "test" or held.manual is None or held.cnn is None:
            continue
        truth = held.manual

        def measured(labels: Labels, truth: Labels = truth) -> dict[str, float | None]:
            return {
                s.name: dice(truth == s.label, labels == s.label) if (truth == s.label).any() else None
                for s in STRUCTURES
            }

        for rule, values in effects(measured, held.cnn, held.geometry.spacing_mm).items():
            for name, value in values.items():
                if value is not None:
                    found.setdefault(rule, {}).setdefault(name, []).append(value)
    if not found:
        raise SystemExit(f"{folder}: no test kidney")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--stage", type=int)
    given = parser.parse_args()
    found = dsc_by_rule(given.run, given.stage)
    print(f"{'DSC %':18}" + "".join(f"{name:>12}" for name in NAMES))
    rows = []
    for rule, values in found.items():
        means = {name: 100 * float(np.mean(values[name])) for name in NAMES if name in values}
        print(
            f"{rule:18}"
            + "".join(f"{means[name]:12.2f}" if name in means else f"{'-':>12}" for name in NAMES)
        )
        counts = {f"n_{name}": len(values.get(name, ())) for name in NAMES}
        rows.append({**about(), "run": given.run.name, "rule": rule, **means, **counts})
    print(f"{'kidneys':18}" + "".join(f"{len(found['none'].get(name, ())):12}" for name in NAMES))
    append_rows("policy", rows)


if __name__ == "__main__":
    main()
