"""Rows of measurements: what was measured on, and where they are kept."""

import csv
import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def about() -> dict[str, str]:
    """Date, commit (with + where the tree was changed) and processor."""
    return {"date": datetime.date.today().isoformat(), "commit": commit(), "machine": processor()}


def commit() -> str:
    """Short hash of the checkout, empty outside of one."""
    said = subprocess.run(
        ["git", "-C", HERE, "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip()


def processor() -> str:
    """Name and number of the machine's cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def say(row: dict[str, Any]) -> None:
    """Print one row, numbers with four digits."""
    parts = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()]
    print(" ".join(parts), flush=True)


def append_rows(name: str, rows: list[dict[str, Any]]) -> Path:
    """Add rows of one shape to benchmarks/results/NAME.csv; numbers get four digits."""
    file = HERE / "results" / f"{name}.csv"
    file.parent.mkdir(exist_ok=True)
    is_new = not file.exists()
    with open(file, "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    return file
