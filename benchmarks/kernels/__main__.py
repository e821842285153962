"""Is anything faster? The kernels beside their peers: interleaved, same thread count, medians, extra memory.

python -m benchmarks.kernels [--data FOLDER] [--repeats N] [--part labels|surfaces]; peers: the `bench` extra.
Real label maps and annotator pairs are read from --data, KIDSEG_DATA or ../shared/data; made ones of the
same size stand in for absent files. Prints times (median, quartiles), memory at the peak beyond what is
returned, and each floor with whether it held; all are appended to benchmarks/results/kernels_*.csv with
load, date, machine and commit. A run counts only on a machine at rest: after each question it says what
other processes took meanwhile. On a busy machine look at the processor time of the one-thread rows. A host
that takes back a virtual machine's free memory makes fresh pages twenty times dearer now and then: quartiles
that lie far apart show it.
"""

import importlib.metadata
import os
import time
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import rows
from benchmarks.kernels import labels, memory, surfaces
from benchmarks.kernels.floors import verdicts
from benchmarks.kernels.timing import interleaved, seconds_of_others

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or idle threads of one peer burn the time of the next

PEERS = ("connected-components-3d", "scipy", "pykdtree", "surface-distance-based-measures", "medpy")


BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = Path(os.environ.get("KIDSEG_DATA", BESIDE))


def main(data: Path = DATA, repeats: int = 7, part: Literal["labels", "surfaces"] | None = None) -> None:
    about = rows.about() | {"peers": " ".join(f"{peer} {importlib.metadata.version(peer)}" for peer in PEERS)}
    print(", ".join(about.values()))
    parts = {"labels": labels.questions, "surfaces": surfaces.questions}
    measured, tasks = [], []
    for name, questions in parts.items():
        if part not in (None, name):
            continue
        for question in questions(data):
            question.prepare()
            start, others = time.perf_counter(), seconds_of_others()
            for task, spent in interleaved(question.tasks, repeats).items():
                row = {
                    "question": question.name,
                    "volume": question.volume,
                    "voxels": question.voxels,
                    "task": task,
                    "wall_ms": round(spent.wall_ms, 2),
                    "low_ms": round(spent.low_ms, 2),
                    "high_ms": round(spent.high_ms, 2),
                    "cpu_ms": round(spent.cpu_ms, 2),
                    "n": repeats,
                    "load": round(os.getloadavg()[0], 2),
                }
                print(line(row), flush=True)
                measured.append(row)
                tasks.append((question, task))
            others, elapsed = max(0.0, seconds_of_others() - others), time.perf_counter() - start
            print(f"other processes took {others:.1f} s of {os.cpu_count()} x {elapsed:.1f} s", flush=True)
    memory.never_give_back()
    for row, (question, task) in zip(measured, tasks, strict=True):
        extra = memory.peak_extra_bytes(question.tasks[task])
        row["peak_extra_share_of_input"] = round(extra / question.input_bytes, 3)
    print("\nmemory at the peak beyond what is returned, as a share of the input")
    for row in measured:
        print(
            f"{row['question']:30}{row['volume']:22}{row['task']:34}{row['peak_extra_share_of_input']:9.1%}"
        )
    held = list(verdicts(measured))
    print("\nfloors")
    for floor in held:
        name = f"{floor['question']:30}{floor['volume']:22}{floor['what']:56}"
        print(
            f"{name}{floor['reached']:9.2f}{floor['reached_cpu']!s:>9} cpu"
            f"  floor {floor['floor']:6.2f}  {floor['held']}"
        )
    for name, kept in (("kernels_times", measured), ("kernels_floors", held)):
        print(f"kept in {rows.append_rows(name, [row | about for row in kept])}")


def line(row: dict[str, Any]) -> str:
    wall = f"{row['wall_ms']:9.2f} ms ({row['low_ms']:.2f} to {row['high_ms']:.2f})"
    return f"{row['question']:30}{row['volume']:22}{row['task']:34}{wall:36}{row['cpu_ms']:9.2f} ms cpu"


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
