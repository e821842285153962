"""Training over devices and processes: the same losses, and what happens when one of them dies."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from small_cohort import SETTINGS, write_cohort

from kidseg_jax import stage
from kidseg_jax.network import checkpoint
from kidseg_jax.network.devices import join_processes
from kidseg_jax.network.samples import Sample
from kidseg_jax.staging.learning import TrainingSet
from kidseg_jax.staging.team import GONE, read_samples, write_samples
from kidseg_jax.stops import GO_ON

LOSSES = """
import json, sys
import numpy as np
from kidseg_jax.config import NetConfig, TrainConfig
from kidseg_jax.network.devices import is_first, join_processes, mesh_of
from kidseg_jax.network.devices import leave_before_the_first, see_others_off
from kidseg_jax.network.samples import Sample
from kidseg_jax.network.training import start, train
join_processes()
mesh = mesh_of(int(sys.argv[1]))
net = NetConfig(features=(4, 8), patch=(8, 8, 8))
settings = TrainConfig(steps=20, batch=4, optimizer="muon", class_weights=(1, 2, 3), dice_power=2, shift_mm=4)
rng = np.random.default_rng(0)
def roi(i):
    shape = (12, 12, 12 + i % 3)
    return rng.integers(-100, 300, shape, np.int16), rng.integers(0, 3, shape, np.uint8)
samples = [Sample(*roi(i), frozenset({2} if i % 3 else ()), (roi(i), roi(i))) for i in range(7)]
state, step = start(net, settings, 3, 20, 3, mesh=mesh)
losses = [float(loss) for _, _, loss in train(state, step, samples, 20, 4, 5, mesh)]
if not is_first():
    leave_before_the_first(0)
print(json.dumps(losses))
see_others_off()
"""
STAGE = """
import os, signal, sys
from kidseg_jax import stage
from kidseg_jax.staging import progress
progress.STEPS_A_CHECKPOINT = 8
taken = progress.TrainingWatch.step
def step(watch, role, done, *rest):
    if role == "fine" and done == int(sys.argv[1]):
        os.kill(os.getpid(), int(sys.argv[2]))
    return taken(watch, role, done, *rest)
progress.TrainingWatch.step = step
sys.exit(stage.main(sys.argv[3:]))
"""
BATCH_OF_2 = ["--coarse-train.batch", "2", "--fine-train.batch", "2", "--fine-train.steps", "24"]


def processes(code: str, n: int, devices: int, arguments: list[list[str]]) -> list[subprocess.Popen[str]]:
    """n processes that train together, each with so many devices and its own arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for i in range(n):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        if n > 1:
            environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}
            environment |= {"JAX_NUM_PROCESSES": str(n), "JAX_PROCESS_ID": str(i)}
        command = [sys.executable, "-c", code, *arguments[i]]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, text=True, env=environment, stdout=pipe, stderr=pipe))
    return started


def test_losses_are_those_of_one_device_whoever_shares_the_batch():
    losses = []
    for n, devices in ((1, 1), (1, 4), (2, 2)):
        together = processes(LOSSES, n, devices, [[str(n * devices)]] * n)
        said = [process.communicate(timeout=120) for process in together]
        assert [process.returncode for process in together] == [0] * n, said
        losses.append(json.loads(said[0][0].splitlines()[-1]))
    assert losses[0][0] > 1.2 * losses[0][-1] > 0
    for shared in losses[1:]:
        np.testing.assert_allclose(shared, losses[0], rtol=1e-5)


@pytest.mark.parametrize("who, how", [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGTERM)])
def test_when_one_process_ends_the_other_does_and_says_so_and_one_alone_goes_on(tmp_path, who, how):
    write_cohort(tmp_path / "data", 5, 5)
    arguments = [*SETTINGS, *BATCH_OF_2, "--data", str(tmp_path / "data"), "--n", "1"]
    out = ["--out", str(tmp_path / "run")]
    dies = [["20" if i == who else "-1", str(how.value), *arguments, *out] for i in range(2)]
    together = processes(STAGE, 2, 1, dies)
    said = [process.communicate(timeout=120)[1] for process in together]
    kills = how == signal.SIGKILL
    assert (together[who].returncode, together[1 - who].returncode) == (-9 if kills else GO_ON, GO_ON), said
    assert (GONE if kills else "stopped by SIGTERM") in said[1 - who]
    assert not list((tmp_path / "run").glob("tables*"))
    kept = sorted(p.name for p in (tmp_path / "run" / "stage_1" / "checkpoints").glob("fine*"))
    assert kept[-1] == f"fine_{16 if kills else 20:07d}.safetensors"
    assert stage.main([*arguments, *out]) == 0
    assert stage.main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    found, whole = (
        checkpoint.read(tmp_path / run / "stage_1" / "models.safetensors").arrays for run in ("run", "whole")
    )
    for name, array in whole.items():
        np.testing.assert_allclose(found[name], array, atol=2e-3)
    assert not (tmp_path / "run" / "stage_1" / "samples").exists()


def test_two_processes_finish_a_run_and_both_say_that_it_is_well(tmp_path):
    write_cohort(tmp_path / "data", 5, 5)
    run = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    together = processes(STAGE, 2, 1, [["-1", "0", *SETTINGS, *BATCH_OF_2, *run]] * 2)
    said = [process.communicate(timeout=120) for process in together]
    assert [process.returncode for process in together] == [0, 0], said
    assert (tmp_path / "run" / "stage_2" / "metrics.json").exists()
    assert "done in" in said[0][0]
    assert not [line for line in said[1][0].splitlines() if not line.startswith("[Gloo]")]


def test_what_is_refused_ends_all_processes_with_the_same_code(tmp_path):
    write_cohort(tmp_path / "data", 5, 5)
    run = ["--data", str(tmp_path / "data"), "--label-map", "nobody", "--out", str(tmp_path / "run")]
    together = processes(STAGE, 2, 1, [["-1", "0", *SETTINGS, *BATCH_OF_2, *run]] * 2)
    said = [process.communicate(timeout=120)[1] for process in together]
    assert [process.returncode for process in together] == [2, 2], said
    assert "nobody" in said[0] and "Traceback" not in said[0] + said[1]


def test_samples_come_back_from_their_files(tmp_path):
    rng = np.random.default_rng(0)

    def roi(shape) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(-1000, 3000, shape, np.int16), rng.integers(0, 6, shape, np.uint8)

    coarse = Sample(*roi((3, 4, 5)))
    fine = Sample(*roi((2, 3, 4)), frozenset({2, 5}), (roi((2, 3, 4)), roi((2, 3, 4))))
    write_samples(tmp_path / "samples", TrainingSet((coarse,), (fine, coarse)))
    found = read_samples(tmp_path / "samples")
    assert [len(part) for part in found] == [1, 2]
    for sample, read in ((coarse, found.coarse[0]), (fine, found.fine[0]), (coarse, found.fine[1])):
        assert read.unlabelled == sample.unlabelled
        poses = [((one.ct, one.labels), *one.posed) for one in (sample, read)]
        for before, after in zip(*poses, strict=True):
            np.testing.assert_array_equal(before[0], after[0])
            np.testing.assert_array_equal(before[1], after[1])


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["--devices", "3"], "--devices: need 1 to 1, got 3"),
        (["--devices", "0"], "--devices: need 1 to 1, got 0"),
    ],
)
def test_devices_that_are_not_there_are_refused(tmp_path, capsys, arguments, wanted):
    write_cohort(tmp_path / "data", 5, 5)
    out = tmp_path / "run"
    assert stage.main([*SETTINGS, *arguments, "--data", str(tmp_path / "data"), "--out", str(out)]) == 2
    assert wanted in capsys.readouterr().err
    assert not out.exists()


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    given = ["-1", "0", *SETTINGS, "--devices", "2", "--out", str(tmp_path / "run")]
    (process,) = processes(STAGE, 1, 2, [given])
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert said == "kidseg_jax: coarse_train.batch: need a multiple of the 2 devices, got 1\n"


@pytest.mark.parametrize(
    "given",
    [
        {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"},
        {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
        {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
        {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
    ],
)
def test_an_environment_that_is_not_whole_is_refused(monkeypatch, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="need"):
        join_processes()
