"""Does more data help, at the same number of steps? The demo for several seeds, on phantoms.

    python benchmarks/study.py --seeds 0 1 2

Each row: one seed and stage, mean DSC of each structure on the same held-out phantom kidneys. Rows are
appended to benchmarks/results/study.csv. Everything is simulated: phantoms, corrections, minutes.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ("artery", "vein", "ureter", "parenchyma", "rcc")


def processor() -> str:
    """Name and number of the machine's cores."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if (info.exists())
        else [platform.processor()]
    )
    return f"{names[0]}, {os.cpu_count()} cores"


def stage_rows(run: Path) -> list[dict]:
    """Mean DSC of each structure, and of the five together, for every stage of a finished run."""
    rows = []
    for file in sorted(run.glob("stage_*/metrics.json")):
        stage = json.loads(file.read_text())
        means = {}
        for name in NAMES:
            values = [r["dsc"] for r in stage["test"] if r["structure"] == name and r["dsc"] is not None]
            means[name] = sum(values) / len(values)
        kidneys = len({r["kidney"] for r in stage["test"]})
        about = {"stage": stage["stage"], "train_kidneys": stage["train_kidneys"], "steps": stage["steps"]}
        rows.append({**about, "test_kidneys": kidneys, **means, "mean": sum(means.values()) / len(means)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder for the run directories")
    arguments, rest = parser.parse_known_args()
    commit = subprocess.run(
        ["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
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
            about = {"date": datetime.date.today().isoformat(), "commit": commit, "machine": processor()}
            row = {**about, "seed": seed, **row, "run_seconds": seconds, "peak_gb": memory_gb}
            results.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            print(" ".join(f"{k}={v}" for k, v in results[-1].items() if k not in about), flush=True)
    better = sum(
        last["mean"] > first["mean"]
        for first, last in (
            (g[0], g[-1]) for g in ([r for r in results if r["seed"] == s] for s in arguments.seeds)
        )
    )
    print(f"last stage better than stage 1: {better} of {len(arguments.seeds)} seeds (phantoms)")
    file = HERE / "results" / "study.csv"
    file.parent.mkdir(exist_ok=True)
    is_new = not file.exists()
    with open(file, "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(results[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(results)


if __name__ == "__main__":
    main()
