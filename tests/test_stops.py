"""SIGTERM in a training saves it and ends with a code of its own; the same command goes on bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_cohort import SETTINGS, write_cohort

from kidseg_jax.cli.app import main
from kidseg_jax.network.checkpoint import read
from kidseg_jax.stops import GO_ON, TERMINATED, Terminated, at_a_step, is_asked, obeyed

RUNNER = """
import os, signal, sys
from kidseg_jax import stage
from kidseg_jax.staging.progress import TrainingWatch
whole, at = TrainingWatch.step, int(sys.argv[1])
def step(self, role, done, *more):
    if at and role == "fine" and done == at:
        os.kill(os.getpid(), signal.SIGTERM)
    return whole(self, role, done, *more)
TrainingWatch.step = step
sys.exit(stage.main(sys.argv[2:]))
"""


def run(at: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUNNER, str(at), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_training_is_saved_where_it_is_and_goes_on_bit_for_bit(tmp_path):
    write_cohort(tmp_path / "cases", 6, 6)
    arguments = [*SETTINGS, "--data", str(tmp_path / "cases"), "--out"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    done = run(0, [*arguments, str(whole)])
    assert done.returncode == 0, done.stderr
    died = run(7, [*arguments, str(stopped)])
    assert died.returncode == GO_ON, died.stderr
    assert died.stderr.splitlines()[-1:] == [
        "kidseg_jax: stopped by SIGTERM; stage 1: step 7 of 10 of the fine network is saved, the same "
        "command goes on from it"
    ]
    assert read(stopped / "stage_1" / "checkpoints" / "fine_0000007.safetensors").about["step"] == 7
    again = run(0, [*arguments, str(stopped)])
    assert again.returncode == 0, again.stderr
    assert "stage 1: fine network, steps from 7: 3 of 3" in again.stderr
    for name in ("stage_1/models.safetensors", "stage_2/models.safetensors"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()
    assert not list(stopped.rglob(".*"))


def test_another_verb_ends_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kidseg_jax.cli.info.list_cases", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["info", str(tmp_path)]) == TERMINATED
    assert capsys.readouterr().err == "kidseg_jax: stopped by SIGTERM; what was finished is kept\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_stop_waits_for_a_step_and_no_longer():
    with obeyed():
        with pytest.raises(Terminated), at_a_step():
            os.kill(os.getpid(), signal.SIGTERM)
            assert is_asked()
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
