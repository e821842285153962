"""What verbs print and write for people: nothing hostile in a name reaches a terminal or a spreadsheet."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_cohort import SETTINGS, write_cohort

from kidseg_jax.cli.app import main
from kidseg_jax.csv_text import csv_text
from kidseg_jax.labelling.events import LabelEvent
from kidseg_jax.labelling.ledger import append
from kidseg_jax.rundir import path_of, path_text

HOSTILE = "\x1b]0;owned\x07\u202eanna"


def ledger(path: Path, annotator: str) -> Path:
    """A ledger with one line by this person."""
    names = {"annotator": annotator, "tool": "slicer", "simulated": False, "active_s": 1.0}
    append(path, [LabelEvent("a", "rcc", "manual", 1, "sha256:00", **names)])
    return path


def verb(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "kidseg_jax", *words]
    environ = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, env=environ, timeout=300, check=False)


def test_a_name_cannot_command_the_terminal(tmp_path, capsys):
    assert main(["ledger", str(ledger(tmp_path / "ledger.jsonl", HOSTILE)), "--lines"]) == 0
    printed = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07\\u202eanna" in printed and "\x1b" not in printed and "\u202e" not in printed
    assert main(["ledger", str(tmp_path / HOSTILE)]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_an_ascii_terminal_gets_escapes(tmp_path):
    path = ledger(tmp_path / "ledger.jsonl", "Änne")
    done = verb("ledger", str(path), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0 and b"\\xc4nne" in done.stdout


def test_a_closed_output_is_no_fault(tmp_path):
    path = ledger(tmp_path / "ledger.jsonl", "anna")
    command = f"{sys.executable} -m kidseg_jax ledger {path} >&-"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_paths_mean_the_same_bytes_in_every_locale():
    path = Path(os.fsdecode("/data/Änne".encode()))
    assert path_of(path_text(path)) == path and path_text(path) == "/data/Änne"
    code = "from kidseg_jax.rundir import *; print(ascii(path_text(path_of('/data/\\xc4nne'))))"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environ, check=True)
    assert done.stdout.strip() == rb"'/data/\xc4nne'"


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "-1+cmd|' /C calc'!A0", "@sum", "\t=1", "=1,2\n3"])
def test_no_cell_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(csv_text([[text, -1.5, None, "-2.5 ± 0.3", "-", "ok"]])))
    assert row == [f"'{text}", "-1.5", "", "-2.5 ± 0.3", "-", "ok"]


def test_a_log_of_a_run_grows_while_it_works(tmp_path):
    """No terminal, no bars: a line where a part ends."""
    write_cohort(tmp_path / "cases", 4, 4)
    command = [sys.executable, "-m", "kidseg_jax.stage", *SETTINGS, "--data", str(tmp_path / "cases")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith("stage 1: fine network") for line in lines) and "\x1b" not in done.stderr
    assert len(lines) < 60


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_models_are_readable_as_all_else_is(tmp_path):
    from kidseg_jax.network import checkpoint

    path = tmp_path / "m.safetensors"
    checkpoint.save(path, {"a": 1.0}, {})
    (tmp_path / "text").write_text("x")
    assert path.stat().st_mode == (tmp_path / "text").stat().st_mode
    path.chmod(0o600)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\n"
        "from kidseg_jax.network import checkpoint\n"
        "os.setuid(65534)\n"
        "try: checkpoint.about(sys.argv[1])\n"
        "except OSError as error: print(type(error).__name__, error)"
    )
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stdout, done.stderr
