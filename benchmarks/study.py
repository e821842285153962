r"""Does every stage pay? The demo for several seeds, on phantoms, in one setting or another.

    python benchmarks/study.py --seeds 0 1 2
    python benchmarks/study.py --seeds 0 1 2 --setting "each stage from first weights" --out runs/fresh \
        --fine-train.stage-rate 0 --coarse-train.stage-rate 0

Each row of benchmarks/results/study.csv: one seed and stage, mean DSC of each structure on the same held-out
phantom kidneys. A row of study_gain.csv: what the last stage has over the first, all seeds together, as the
mean over artery, vein, ureter and RCC: over the seeds, and over kidneys with a 95 % interval over patients.
A run that is there is read and not run again; its seconds are then unknown. Everything is simulated:
phantoms, corrections, minutes.
"""

import argparse
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from math import nan
from pathlib import Path

from rows import about, append_rows, say

from kidseg_jax.evaluation.statistics import mean_of
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.report.records import StageRecord, read_run

GAINED = ("artery", "vein", "ureter", "rcc")


def stage_rows(run: Path) -> list[dict]:
    """Mean DSC of each structure, and of the five together, by stage of a finished run; nan where none is."""
    rows = []
    for stage in read_run(run).stages:
        means = {name: mean(scores(stage, name)) for name in NAMES}
        trained = {"stage": stage.stage, "train_kidneys": stage.train_kidneys, "steps": stage.steps}
        means |= {"mean": mean(list(means.values()))}
        rows.append({**trained, "test_kidneys": len(stage.test_kidneys), **means})
    return rows


def scores(stage: StageRecord, name: str) -> list[float]:
    """The DSC of a structure wherever the truth has it."""
    return [record.dsc for record in stage.tested(name) if record.dsc is not None]


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else nan


def gain_row(runs: list[Path]) -> dict:
    """What the last stage of the runs has over the first, in DSC points, with its interval over patients."""
    by_seed, by_kidney, patients = [], [], []
    for run in runs:
        stages = read_run(run).stages
        first, last = stages[0], stages[-1]
        by_seed.append(
            mean([mean(scores(last, name)) for name in GAINED])
            - mean([mean(scores(first, name)) for name in GAINED])
        )
        patient = {record.kidney: f"{run.name} {record.patient}" for record in first.test}
        for kidney, whose in patient.items():
            ends = [
                mean(
                    [
                        r.dsc
                        for r in stage.test
                        if r.kidney == kidney and r.structure in GAINED and r.dsc is not None
                    ]
                )
                for stage in (first, last)
            ]
            by_kidney.append(100 * (ends[1] - ends[0]))
            patients.append(whose)
    found = mean_of(by_kidney, patients)
    low, high = found.interval or (nan, nan)
    return {
        "seeds": len(runs),
        "seeds_better": sum(gain > 0 for gain in by_seed),
        "gain_points_over_seeds": 100 * mean(by_seed),
        "kidneys": found.n,
        "patients": found.patients,
        "gain_points_over_kidneys": found.value if found.value is not None else nan,
        "low": low,
        "high": high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs")
    parser.add_argument("--setting", default="demo", help="what the other arguments, of the stage loop, set")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for the run directories")
    arguments, rest = parser.parse_known_args()
    results, runs = [], []
    for seed in arguments.seeds:
        run, began = arguments.out / f"seed_{seed}", time.monotonic()
        is_new = not (run / "tables.csv").exists()
        if is_new:
            asked = ["--n", "3", "--seed", str(seed), "--out", str(run), *rest]
            command = [sys.executable, "-m", "kidseg_jax.stage", *asked]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began if is_new else nan
        memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6 if is_new else nan
        where = {**about(), "jax": version("jax"), "setting": arguments.setting, "seed": seed}
        for row in stage_rows(run):
            results.append({**where, **row, "run_seconds": seconds, "peak_gb": memory_gb})
            say(results[-1])
        runs.append(run)
    append_rows("study", results)
    gain = {**about(), "setting": arguments.setting, "first_seed": arguments.seeds[0], **gain_row(runs)}
    say(gain)
    append_rows("study_gain", [gain])


if __name__ == "__main__":
    main()
