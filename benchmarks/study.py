r"""Does every stage pay? The demo for several seeds, on phantoms, in one setting or another.

    python benchmarks/study.py --seeds 0 1 2
    python benchmarks/study.py --seeds 0 1 2 --setting "each stage from first weights" --out runs/fresh \
        --fine-train.stage-rate 0 --coarse-train.stage-rate 0

Each row of benchmarks/results/study.csv: one seed and stage, mean DSC of each structure on the same held-out
phantom kidneys. A row of study_gain.csv: what the last stage has over the first, all seeds together, as the
mean over artery, vein, ureter and RCC: over the seeds, and over kidneys with a 95 % interval over patients.
A run that is there is read and not run again, one that was cut off goes on; its seconds are then unknown.
--cluster as `predict` has it deals the seeds to workers. Everything is simulated: phantoms, corrections,
minutes.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from math import nan
from pathlib import Path

from rows import about, append_rows, say

from kidseg_jax.cli.cluster import Problem, each
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


def of_kidneys(stage: StageRecord) -> dict[str, float]:
    """The mean DSC of the structures that should gain, by kidney."""
    found: dict[str, list[float]] = {}
    for record in stage.test:
        if record.structure in GAINED and record.dsc is not None:
            found.setdefault(record.kidney, []).append(record.dsc)
    return {kidney: mean(values) for kidney, values in found.items()}


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else nan


def gain_row(runs: list[Path]) -> dict:
    """What the last stage of the runs has over the first, in DSC points, with its interval over patients."""
    by_seed, by_kidney, patients = [], [], []
    for run in runs:
        first, *_, last = read_run(run).stages
        by_seed.append(mean([mean(scores(last, s)) - mean(scores(first, s)) for s in GAINED]))
        before, after = of_kidneys(first), of_kidneys(last)
        by_kidney += [100 * (after[kidney] - before[kidney]) for kidney in before]
        patient = {record.kidney: f"{run.name} {record.patient}" for record in first.test}
        patients += [patient[kidney] for kidney in before]
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


def trained(at: tuple[int, Path], rest: Sequence[str]) -> tuple[float, float]:
    """Run the stages of a seed where they are not done; seconds and peak GB, nan where a run was there."""
    seed, run = at
    if (run / "tables.csv").exists():
        return nan, nan
    is_new, began = not run.exists(), time.monotonic()
    asked = ["--n", "3", "--seed", str(seed), "--out", str(run), *rest]
    ended = subprocess.run(
        [sys.executable, "-m", "kidseg_jax.stage", *asked],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise ValueError(f"exit code {ended.returncode}: {ended.stderr.strip().splitlines()[-1:]}")
    memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return (time.monotonic() - began, memory_gb) if is_new else (nan, memory_gb)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs")
    parser.add_argument("--setting", default="demo", help="what the other arguments, of the stage loop, set")
    parser.add_argument("--cluster", help="local:N, tcp://HOST:PORT, tls://HOST:PORT or slurm:FILE.toml")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for the run directories")
    arguments, rest = parser.parse_known_args()
    seeds = arguments.seeds
    runs = [arguments.out.resolve() / f"seed_{seed}" for seed in seeds]
    results: list[dict] = []
    for at, cost in each(partial(trained, rest=rest), list(zip(seeds, runs, strict=True)), arguments.cluster):
        if isinstance(cost, Problem):
            raise SystemExit(f"study: seed {seeds[at]}: {cost.line}")
        where = {**about(), "jax": version("jax"), "setting": arguments.setting, "seed": seeds[at]}
        for row in stage_rows(runs[at]):
            results.append({**where, **row, "run_seconds": cost[0], "peak_gb": cost[1]})
            say(results[-1])
    append_rows("study", results)
    gain = {**about(), "setting": arguments.setting, "first_seed": arguments.seeds[0], **gain_row(runs)}
    say(gain)
    append_rows("study_gain", [gain])


if __name__ == "__main__":
    main()
