"""What reaches a terminal or a log: no control character, in any encoding, with any stream closed."""

import json
import os
import subprocess
import sys

import pytest
from small_cohort import SETTINGS, write_cohort
from test_ledger import label_event

from kidseg_jax.cli.app import main
from kidseg_jax.labelling.ledger import append

KIDSEG = [sys.executable, "-m", "kidseg_jax"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


def kidseg(*arguments, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [*KIDSEG, *(os.fsencode(a) for a in arguments)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    names = ("Zoë", "\x1b[31mred\x1b]0;title\x07", "a\nstage 9: forged", "\u202eflip\x9b2J")
    append(path, [label_event(annotator=name) for name in names])
    return path


def test_names_are_shown_and_do_nothing_to_a_terminal(ledger, capsys):
    for more in ([], ["--lines"]):
        assert main(["ledger", str(ledger), *more]) == 0
        said = capsys.readouterr().out
        assert not any(ord(c) < 32 and c != "\n" for c in said)
        assert not set("\x7f\x9b\u202e") & set(said)
        assert r"\x1b[31mred\x1b]0;title\x07" in said and "Zoë" in said
        assert not any(line.startswith("stage 9") for line in said.splitlines())


def test_an_error_with_a_name_is_one_harmless_line(tmp_path, capsys):
    assert main(["info", str(tmp_path / "\x1b[2Jgone")]) == 2
    assert capsys.readouterr().err == f"kidseg_jax: {tmp_path}/\\x1b[2Jgone: no such file or folder\n"


def test_an_ascii_terminal_gets_escapes(ledger):
    done = kidseg("ledger", str(ledger), **ASCII)
    assert done.returncode == 0, done.stderr
    assert rb"Zo\xeb" in done.stdout
    folder = ledger.parent / "é"
    folder.mkdir()
    ledger.rename(folder / "ledger.jsonl")
    assert kidseg("ledger", str(folder), **ASCII).returncode == 0
    for verb in (
        ["stage", "--resume"],
        ["stage", "--n", "0", "--out"],
        ["predict", "x", "--model"],
        ["info"],
    ):
        done = kidseg(*verb, str(folder / "gone"), **ASCII)
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr
        assert b"codec" not in done.stderr and b"Traceback" not in done.stderr


def test_a_run_in_a_folder_that_the_locale_cannot_spell(tmp_path):
    """Made and gone on with in an ASCII locale, then in another; its report is in UTF-8."""
    folder = tmp_path / "ü é"
    write_cohort(folder / "casés", 6, 6)
    out = folder / "rün"
    made = kidseg("stage", *SETTINGS, "--data", str(folder / "casés"), "--out", str(out), **ASCII)
    assert made.returncode == 0, made.stderr
    assert json.loads((out / "run.json").read_text("utf-8"))["data"] == str(folder / "casés")
    assert "\udcc3" not in (out / "report.html").read_text("utf-8")
    for environment in (ASCII, {}):
        again = kidseg("stage", "--resume", str(out), **environment)
        assert again.returncode == 0, again.stderr
        assert b"all 2 stages were done before" in again.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_fault(ledger, closed):
    done = kidseg("ledger", str(ledger), shell=closed)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_is_full_is_said_in_one_line(ledger):
    done = kidseg("ledger", str(ledger), shell=">/dev/full")
    assert done.returncode == 2 and done.stderr.startswith(b"kidseg_jax: ") and done.stderr.count(b"\n") == 1
