"""A run that is killed where it writes goes on with the same command to the same result, bit for bit.

A kill happens just before the k-th event of a process, k drawn at random: a training step, or an fsync,
rename or link; before every other fsync the file is cut to half first, as a power cut would leave it.
Checkpoints are written every 8 steps here. A run that gets to its end is compared, and the next one begins.
KIDSEG_KILLS sets the number of kills (default 4), KIDSEG_KILL_SEED the draw.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_cohort import SETTINGS, body, write_cohort

from kidseg_jax import stage
from kidseg_jax.atomic import sweep_leftovers
from kidseg_jax.cohort.case import Case
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.events import FileEvent, LabelEvent, MapEvent, content_hash
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.network import checkpoint
from kidseg_jax.network.training import TrainState
from kidseg_jax.staging.progress import Reporter, TrainingWatch
from kidseg_jax.staging.simulated import require_unchanged

KILLS = int(os.environ.get("KIDSEG_KILLS", "4"))
SEED = int(os.environ.get("KIDSEG_KILL_SEED", "0"))
RUNNER = """
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
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
from kidseg_jax.staging import progress
progress.STEPS_A_CHECKPOINT = 8
progress.TrainingWatch.step = watched(progress.TrainingWatch.step, False)
code = stage.main(sys.argv[3:])
print("events", count)
sys.exit(code)
"""


def run(arguments: list[str], kill_at: int, largest_file: int = -1) -> subprocess.CompletedProcess[str]:
    """One process that dies at its kill_at-th event; 0 lets it live. largest_file: in bytes, -1 is any."""
    command = [sys.executable, "-c", RUNNER, str(kill_at), str(largest_file), *arguments]
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
    """The arguments of a run, its number of events, and its result."""
    folder = tmp_path_factory.mktemp("kill")
    write_cohort(folder / "cohort", 6, 6)
    arguments = [*SETTINGS, "--data", str(folder / "cohort"), "--out"]
    done = run([*arguments, str(folder / "whole")], 0)
    assert done.returncode == 0, done.stderr
    events = int(done.stdout.split()[-1])
    return arguments, events, result_of(folder / "whole")


def require_same(out: Path, expected) -> None:
    """The run ended as the undisturbed one, and nothing of its dead processes is left."""
    assert result_of(out) == expected
    assert not list(out.rglob(".*"))


def test_a_run_that_is_killed_again_and_again_ends_where_it_would_have(undisturbed, tmp_path):
    arguments, events, expected = undisturbed
    assert events > 2 * 50 + 30  # two stages of 40 and 10 steps, and what they write
    rng = np.random.default_rng(SEED)
    kills, runs, out = 0, 0, tmp_path / "run_0"
    while kills < KILLS:
        died = run([*arguments, str(out)], int(rng.integers(1, events // 3)))
        assert died.returncode in (-signal.SIGKILL, 0), died.stderr
        if died.returncode == 0:
            require_same(out, expected)
            runs += 1
            out = tmp_path / f"run_{runs}"
        else:
            kills += 1
    ended = run([*arguments, str(out)], 0)
    assert ended.returncode == 0, ended.stderr
    require_same(out, expected)


def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_when_there_is_room(undisturbed, tmp_path):
    arguments, _, expected = undisturbed
    largest = max(len(content) for name, content in expected[1].items() if name.endswith(".safetensors"))
    out = [*arguments, str(tmp_path / "run")]
    full = run(out, 0, largest_file=largest // 2)
    assert full.returncode == 2, full.stderr
    assert full.stderr.splitlines()[-1].startswith("kidseg_jax: ") and "Traceback" not in full.stderr
    assert not list((tmp_path / "run").rglob(".*"))
    for whole in (tmp_path / "run").rglob("*.safetensors"):
        checkpoint.about(whole)
    ended = run(out, 0)
    assert ended.returncode == 0, ended.stderr
    require_same(tmp_path / "run", expected)


def test_a_finished_stage_whose_files_are_lost_or_torn_is_rebuilt_bit_for_bit(undisturbed, tmp_path):
    arguments, _, expected = undisturbed
    whole, out = Path(arguments[-2]).parent / "whole", tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "stage_2")
    gone, cut = sorted((out / "stage_1" / "corrected").iterdir())[:2]
    gone.unlink()
    os.truncate(cut, cut.stat().st_size // 2)
    ledger = (out / "ledger.jsonl").read_bytes()
    models = out / "stage_1" / "models.safetensors"
    whole_models = models.read_bytes()
    for torn in (False, True):
        if torn:
            shutil.rmtree(out / "stage_2")
            os.truncate(models, len(whole_models) // 2)
        ended = run([*arguments, str(out)], 0)
        assert ended.returncode == 0, ended.stderr
        named = ended.stderr.splitlines()
        if torn:
            assert any(str(models) in line and "training stage 1 again" in line for line in named)
        else:
            for path in (gone, cut):
                assert any(path.name in line and "correcting" in line for line in named)
        require_same(out, expected)
        now = (out / "ledger.jsonl").read_bytes()
        assert now.startswith(ledger)  # and only the files that were written again are told again
        told = [line.event for line in read_ledger(out / "ledger.jsonl").lines[ledger.count(b"\n") :]]
        assert {e.path for e in told if isinstance(e, FileEvent)} <= {
            f"stage_{k}/metrics.json" for k in (1, 2)
        }
        assert all(isinstance(event, FileEvent) for event in told)


def test_a_corrected_file_that_was_changed_stops_the_run_and_nothing_is_written(
    undisturbed, tmp_path, capsys
):
    arguments, *_ = undisturbed
    whole, out = Path(arguments[-2]).parent / "whole", tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "stage_2")
    path = sorted((out / "stage_1" / "corrected").iterdir())[0]
    labels = read_labels(path)
    one_voxel = labels.array.copy()
    one_voxel[tuple(np.argwhere(one_voxel)[0])] = 0
    g = labels.geometry
    moved = Geometry(g.shape, g.spacing_mm, (g.origin_mm[0] + 1, *g.origin_mm[1:]), g.direction)
    for changed in (labels.with_array(one_voxel), Volume(labels.array, moved)):
        write_volume(path, changed)
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert stage.main([*arguments, str(out)]) == 2
        *_, said = capsys.readouterr().err.splitlines()
        assert said.startswith(f"kidseg_jax: {path}: not the labels that the ledger knows; put them back")
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_labels_of_which_the_ledger_says_nothing_are_taken_as_they_are(tmp_path):
    """As in a run of a version that did not write these lines."""
    ct, labels = body(0)
    case = Case("a", "a", ct, labels)
    filed = [MapEvent("a", 2, "sha256:00"), MapEvent("b", 1, "sha256:00")]
    require_unchanged(tmp_path, labels, case, 1, filed)
    with pytest.raises(ValueError, match="not the labels that the ledger knows"):
        require_unchanged(tmp_path, labels, case, 2, filed)
    require_unchanged(tmp_path, labels, case, 2, [*filed, MapEvent("a", 2, content_hash(labels.array))])


def test_a_torn_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, capsys):
    def state(step: int) -> TrainState:
        return TrainState({"w": np.full(3, step)}, {}, jnp.int32(step))  # pyright: ignore[reportArgumentType]

    watch = TrainingWatch(Reporter(), 1, tmp_path)
    files = {step: tmp_path / f"fine_{step:07d}.safetensors" for step in (8, 16)}
    for step, file in files.items():
        checkpoint.save(file, state(step), {})
    assert int(watch.resume("fine", state(0), 20).step) == 16
    os.truncate(files[16], files[16].stat().st_size // 2)
    assert int(watch.resume("fine", state(0), 20).step) == 8
    assert f"{files[16]}: not a whole checkpoint" in capsys.readouterr().err
    os.truncate(files[8], 20)
    assert int(watch.resume("fine", state(0), 20).step) == 0


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
