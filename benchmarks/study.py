"""Does more data help, at the same number of steps? The demo for several seeds, on phantoms.

    python benchmarks/study.py --seeds 0 1 2

Each row: one seed and stage, mean DSC of each structure on the same held-out phantom kidneys. Rows are
appended to benchmarks/results/study.csv. Everything is simulated: phantoms, corrections, minutes.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from rows import about, append_rows, say

from kidseg_jax.rundir import RunDirectory

NAMES = ("artery", "vein", "ureter", "parenchyma", "rcc")


def stage_rows(run: Path) -> list[dict]:
    """Mean DSC of each structure, and of the five together, for every stage of a finished run."""
    rows = []
    for directory in RunDirectory(run).stages():
        stage = json.loads(directory.metrics.read_text())
        means = {}
        for name in NAMES:
            values = [r["dsc"] for r in stage["test"] if r["structure"] == name and r["dsc"] is not None]
            means[name] = sum(values) / len(values)
        kidneys = len({r["kidney"] for r in stage["test"]})
        trained = {"stage": stage["stage"], "train_kidneys": stage["train_kidneys"], "steps": stage["steps"]}
        rows.append({**trained, "test_kidneys": kidneys, **means, "mean": sum(means.values()) / len(means)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for the run directories")
    arguments, rest = parser.parse_known_args()
    results = []
    for seed in arguments.seeds:
        run, began = arguments.out / f"seed_{seed}", time.monotonic()
        command = [
            sys.executable,
            "-m",
            "kidseg_jax.stage",
            "--n",
            "3",
            "--seed",
            str(seed),
            "--out",
            str(run),
            *rest,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        for row in stage_rows(run):
            row = {
                **about(),
                "jax": version("jax"),
                "seed": seed,
                **row,
                "run_seconds": seconds,
                "peak_gb": memory_gb,
            }
            results.append(row)
            say(row)
    better = sum(
        last["mean"] > first["mean"]
        for first, last in (
            (g[0], g[-1]) for g in ([r for r in results if r["seed"] == s] for s in arguments.seeds)
        )
    )
    print(f"last stage better than stage 1: {better} of {len(arguments.seeds)} seeds (phantoms)")
    append_rows("study", results)


if __name__ == "__main__":
    main()
