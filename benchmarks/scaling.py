"""How do time and memory of `predict` grow with cases and workers, and what do kills cost?

    python benchmarks/scaling.py --cts FOLDER [--cases 10 50 200] [--model RUN_OR_FILE]
    python benchmarks/scaling.py --cts FOLDER --cases 200 --kills 10

FOLDER holds CTs as `predict` takes them, such as `python -m kidseg_jax phantom` writes; where there are fewer
than asked for, they are repeated by hard links. Each row is one whole command, started fresh: wall and CPU
seconds with all processes, peak memory of the largest process and of all, and whether every file is that of
one process byte for byte. With --kills workers are killed (SIGKILL) at so many random moments, and then a
scheduler while it works, with the call after it. Rows go to benchmarks/results/scaling.csv.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import tyro
from rows import about, append_rows, say

from kidseg_jax.cohort.folder import find_images

EVERY_S = 0.1
WAYS = ("one process", "local:1", "local:2")


class Watched:
    """A command and the processes it starts: seconds, peak memory, and its workers to kill."""

    def __init__(self, command: list[str]) -> None:
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.root = psutil.Process(self.process.pid)
        self.cpu_s: dict[int, float] = {}
        self.peak_gb = self.peak_all_gb = 0.0

    def look(self) -> None:
        """Take the memory and CPU seconds of now."""
        sizes = []
        for process in [self.root, *self.children()]:
            try:
                sizes.append(process.memory_info().rss / 1e9)
                times = process.cpu_times()
            except psutil.Error:
                continue
            self.cpu_s[process.pid] = times.user + times.system
        self.peak_gb = max([self.peak_gb, *sizes])
        self.peak_all_gb = max(self.peak_all_gb, sum(sizes))

    def children(self) -> list[psutil.Process]:
        try:
            return self.root.children(recursive=True)
        except psutil.Error:
            return []

    def workers(self) -> list[psutil.Process]:
        """The worker processes that run now."""
        found = []
        for process in self.children():
            try:
                if "spawn_main" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def end(self) -> tuple[float, int, str]:
        """Wait; wall seconds, exit code and what was said on stderr."""
        while self.process.poll() is None:
            self.look()
            time.sleep(EVERY_S)
        assert self.process.stderr is not None
        return time.monotonic() - self.began, self.process.returncode, self.process.stderr.read()


def linked(cts: Path, folder: Path, n: int) -> Path:
    """A folder of n cases, hard links of the CTs."""
    images = [image for _, image in find_images(cts)]
    for index in range(n):
        image = images[index % len(images)]
        ending = image.name[image.name.index(".") :]
        place = folder / f"case_{index:05d}" / f"imaging{ending}"
        place.parent.mkdir(parents=True)
        os.link(image, place)
    return folder


def command(cases: Path, out: Path, way: str, model: Path | None) -> list[str]:
    asked = [sys.executable, "-m", "kidseg_jax", "predict", str(cases), "--out", str(out), "--statistics"]
    asked += [] if way == "one process" else ["--cluster", way]
    return asked + ([] if model is None else ["--model", str(model)])


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def measured(cases: Path, out: Path, way: str, model: Path | None, kills: int = 0) -> dict[str, Any]:
    """A command, whose workers are killed so many times, at random moments while there is work."""
    draw, done = random.Random(20), 0
    watched = Watched(command(cases, out, way, model))
    while watched.process.poll() is None and done < kills:
        until = time.monotonic() + draw.uniform(1.0, 40.0)
        while time.monotonic() < until and watched.process.poll() is None:
            watched.look()
            time.sleep(EVERY_S)
        if (workers := watched.workers()) and any(out.glob("*.nii.gz")):
            draw.choice(workers).send_signal(signal.SIGKILL)
            done += 1
    wall_s, code, _ = watched.end()
    return {
        "way": way,
        "kills": done,
        "exit_code": code,
        "wall_s": wall_s,
        "cpu_s": sum(watched.cpu_s.values()),
        "peak_gb_one": watched.peak_gb,
        "peak_gb_all": watched.peak_all_gb,
    }


def lost_scheduler(cases: Path, out: Path, model: Path | None) -> None:
    """Kill a scheduler while its worker works; print what the command says, and what the next call does."""
    start = "import sys; from distributed.cli.dask_{0} import main; main()"
    scheduler = subprocess.Popen(
        [
            sys.executable,
            "-c",
            start.format("scheduler"),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert scheduler.stderr is not None
    where = next(line for line in scheduler.stderr if "Scheduler at:" in line).split()[-1]
    worker = subprocess.Popen(
        [sys.executable, "-c", start.format("worker"), where, "--nthreads", "1", "--no-dashboard"],
        stderr=subprocess.DEVNULL,
    )
    watched = Watched(command(cases, out, where, model))
    while len(list(out.glob("*.nii.gz"))) < 5:
        time.sleep(EVERY_S)
    scheduler.kill()
    wall_s, code, said = watched.end()
    worker.kill()
    print(f"scheduler killed: exit code {code}, said: {said.strip().splitlines()[-1]}")
    wall_s, code, _ = Watched(command(cases, out, "local:2", model)).end()
    print(f"the next call, by local:2: exit code {code} after {wall_s:.0f} s")


def main(
    cts: Path,
    cases: tuple[int, ...] = (10, 50, 200),
    kills: int = 0,
    model: Path | None = None,
    keep: bool = True,
) -> None:
    """Run, compare, print and keep.

    Args:
        cts: a folder of CTs.
        cases: how many of them.
        kills: kill workers so many times, instead of measuring; needs one process's files of the same cases.
        model: a run directory or a models.safetensors file; default: the model that the package ships.
        keep: whether rows go to the file.
    """
    asked = [(way, 0) for way in WAYS] if not kills else [(WAYS[0], 0), (WAYS[-1], kills)]
    rows = []
    with tempfile.TemporaryDirectory(dir=cts.parent) as name:
        for n in cases:
            folder, expected = linked(cts, Path(name) / f"in_{n}", n), None
            for way, kills_here in asked:
                out = Path(name) / "out"
                row = {**about(), "cases": n, **measured(folder, out, way, model, kills_here)}
                made = files_of(out)
                expected = expected or made
                rows.append({**row, "files": len(made), "same_bytes": int(made == expected)})
                say(rows[-1])
                shutil.rmtree(out)
            if kills:
                lost_scheduler(folder, Path(name) / "lost", model)
                print(f"the same bytes: {files_of(Path(name) / 'lost') == expected}")
    if keep:
        append_rows("scaling", rows)


if __name__ == "__main__":
    tyro.cli(main)
