"""A run that is killed where it writes goes on with the same command to the same result, bit for bit.

Kills happen just before the k-th fsync, rename or link of a process; before every other fsync the file is cut
to half first, as a power cut would leave it. KIDSEG_KILLS sets how many writes of a run are hit (default 4,
spread evenly).
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_cohort import SETTINGS, write_cohort

from kidseg_jax.imaging.files import sweep_leftovers
from kidseg_jax.labelling.events import LabelEvent
from kidseg_jax.labelling.ledger import read_ledger

KILLS = int(os.environ.get("KIDSEG_KILLS", "4"))
RUNNER = """
import os, signal, sys
count, limit, tears = 0, int(sys.argv[1]), int(sys.argv[1]) % 2
def watched(call, is_fsync):
    def counted(*given, **named):
        global count
        count += 1
        if count == limit:
            if is_fsync and tears:
                try: os.ftruncate(given[0], os.fstat(given[0]).st_size // 2)
                except OSError: pass
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    return counted
os.fsync, os.replace, os.link = watched(os.fsync, True), watched(os.replace, False), watched(os.link, False)
from kidseg_jax import stage
code = stage.main(sys.argv[2:])
print("writes", count)
sys.exit(code)
"""


def run(arguments: list[str], kill_at: int) -> subprocess.CompletedProcess[str]:
    """One process that dies at its kill_at-th write; 0 lets it live."""
    command = [sys.executable, "-c", RUNNER, str(kill_at), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def result_of(out: Path):
    """All that a run computed: metrics of every stage but times, models, label maps, and ledger events."""
    metrics = []
    for k in (1, 2):
        record = json.loads((out / f"stage_{k}" / "metrics.json").read_text())
        metrics.append({key: record[key] for key in ("stage", "train_kidneys", "steps", "test", "labelling")})
    files = sorted(p for p in out.rglob("[!.]*") if p.suffix in (".safetensors", ".nrrd"))
    contents = {str(path.relative_to(out)): path.read_bytes() for path in files}
    return metrics, contents, read_ledger(out / "ledger.jsonl").events(LabelEvent)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The arguments of a run, how many writes it makes, and its result."""
    folder = tmp_path_factory.mktemp("kill")
    write_cohort(folder / "cohort", 6, 6)
    arguments = [*SETTINGS, "--data", str(folder / "cohort"), "--out"]
    done = run([*arguments, str(folder / "whole")], 0)
    assert done.returncode == 0, done.stderr
    writes = int(done.stdout.split()[-1])
    return arguments, writes, result_of(folder / "whole")


def test_a_run_that_is_killed_again_and_again_ends_where_it_would_have(undisturbed, tmp_path):
    arguments, writes, expected = undisturbed
    assert writes > 10
    out = [*arguments, str(tmp_path / "run")]
    for i in range(KILLS):
        target = 1 + (i * (writes - 1)) // max(KILLS - 1, 1)
        kill_at = max(1, target // (i + 1))  # a run that goes on makes fewer writes than one that begins
        died = run(out, kill_at)
        assert died.returncode in (-signal.SIGKILL, 0), died.stderr
    ended = run(out, 0)
    assert ended.returncode == 0, ended.stderr
    assert result_of(tmp_path / "run") == expected
    assert not list((tmp_path / "run").rglob(".*"))


def test_leftovers_of_dead_writers_are_swept_and_of_living_ones_are_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "deep").mkdir()
    left = tmp_path / "deep" / f".{dead.pid}.labels.seg.nrrd"
    kept = [
        tmp_path / f".{os.getpid()}.x.json",
        tmp_path / ".hidden",
        tmp_path / "deep" / "1.x",
        tmp_path / "x",
    ]
    for path in (left, *kept):
        path.write_text("half")
    assert sweep_leftovers(tmp_path) == (left,)
    assert not left.exists() and all(path.exists() for path in kept)
