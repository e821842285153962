"""Does more data help, at the same number of steps? The demo for several seeds, on phantoms.

    python benchmarks/study.py --seeds 0 1 2

Each row: one seed and stage, mean DSC of each structure on the same held-out phantom kidneys. Rows are
appended to benchmarks/results/study.csv. Everything is simulated: phantoms, corrections, minutes.
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

from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.report.records import read_run


def stage_rows(run: Path) -> list[dict]:
    """Mean DSC of each structure, and of the five together, by stage of a finished run; nan where none is."""
    rows = []
    for stage in read_run(run).stages:
        scores = {name: [r.dsc for r in stage.tested(name) if r.dsc is not None] for name in NAMES}
        means = {name: sum(values) / len(values) if values else nan for name, values in scores.items()}
        trained = {"stage": stage.stage, "train_kidneys": stage.train_kidneys, "steps": stage.steps}
        means |= {"mean": sum(means.values()) / len(means)}
        rows.append({**trained, "test_kidneys": len(stage.test_kidneys), **means})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for the run directories")
    arguments, rest = parser.parse_known_args()
    results, better = [], 0
    for seed in arguments.seeds:
        run, began = arguments.out / f"seed_{seed}", time.monotonic()
        asked = ["--n", "3", "--seed", str(seed), "--out", str(run), *rest]
        command = [sys.executable, "-m", "kidseg_jax.stage", *asked]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        where, stages = {**about(), "jax": version("jax"), "seed": seed}, stage_rows(run)
        for row in stages:
            results.append({**where, **row, "run_seconds": seconds, "peak_gb": memory_gb})
            say(results[-1])
        better += stages[-1]["mean"] > stages[0]["mean"]
    print(f"last stage better than stage 1: {better} of {len(arguments.seeds)} seeds (phantoms)")
    append_rows("study", results)


if __name__ == "__main__":
    main()
