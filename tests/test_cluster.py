"""Cases on a Dask cluster: the same results, whatever happens to its workers."""

import csv
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from cluster_work import always_killed, once_killed, square
from hypothesis import given, settings
from hypothesis import strategies as st

from kidseg_jax.cli.app import main
from kidseg_jax.cli.cluster import Problem, by_cause, each, in_order, parted
from kidseg_jax.cli.workers import client_of, n_workers
from kidseg_jax.config import COHORTS
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.phantom.cohort import make_case

NUMBERS = [3, 0, -1, 7, 5]
EXPECTED = [9, 0, Problem("need 0 or more, got -1"), 49, 25]


@pytest.mark.parametrize("cluster", [None, "local:2"])
def test_each_item_has_its_result_or_its_problem(cluster):
    assert dict(each(square, NUMBERS, cluster)) == dict(enumerate(EXPECTED))


def test_what_a_lost_worker_had_is_done_again(tmp_path):
    items = [(tmp_path, number) for number in range(7)]
    assert dict(each(once_killed, items, "local:2")) == dict(enumerate(range(7)))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_workers_that_die_while_they_start_are_put_in_again():
    """Dask gives such a worker up, and would wait for ever once it has none."""
    ended, killed = threading.Event(), set()

    def kill_four() -> None:
        while len(killed) < 4 and not ended.is_set():
            for process in psutil.Process().children():
                if "spawn_main" in " ".join(process.cmdline()) and process.pid not in killed:
                    process.kill()
                    killed.add(process.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_four)
    killer.start()
    found = dict(each(square, NUMBERS, "local:2"))
    ended.set()
    killer.join()
    assert len(killed) >= 2 and found == dict(enumerate(EXPECTED))


def test_a_case_that_kills_every_worker_is_named_and_the_others_go_on():
    found = dict(each(always_killed, range(5), "local:2"))
    assert found.pop(2) == Problem("3 workers died at it (memory?), not tried again")
    assert found == {0: 0, 1: 1, 3: 3, 4: 4}


@pytest.mark.parametrize(
    "cluster", ["", "local:0", "local:-1", "slurm", "tcp://here", "http://a:1", "local:2 "]
)
def test_what_is_no_cluster_is_refused(tmp_path, capsys, cluster):
    with pytest.raises(ValueError, match="--cluster: need local, local:N, tcp://HOST:PORT, tls://"):
        n_workers(cluster)
    ct = tmp_path / "a.nii.gz"
    ct.touch()
    assert main(["predict", str(tmp_path), f"--cluster={cluster}"]) == 2
    assert capsys.readouterr().err.startswith("kidseg_jax: --cluster: need local")


@settings(max_examples=30, deadline=None)
@given(st.permutations(list(range(6))))
def test_results_are_put_in_order(order):
    assert list(in_order((at, str(at)) for at in order)) == [str(at) for at in range(6)]


@given(st.integers(0, 40), st.integers(1, 9))
def test_parts_are_all_cases_once(n, of):
    parts = [list(parted(range(n), f"{k}/{of}")) for k in range(1, of + 1)]
    assert sorted(number for part in parts for number in part) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["", "0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", "\u0661/2"])
def test_what_is_no_part_is_refused(part):
    with pytest.raises(ValueError, match="--part: need"):
        parted([1, 2], part)


def test_failures_are_told_by_cause():
    lines = {"a": "a: no kidney", "b": "x.nii: broken", "c": "no kidney", "d": "d.nii: broken"}
    assert by_cause(lines) == ["2 cases: no kidney: a, c", "b: x.nii: broken", "d: d.nii: broken"]


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> Path:
    """A folder of three cases with CTs, and one of other label maps of them, the last one on another grid."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(3)
    for index in range(3):
        grid = Geometry((12, 14, 16), (2.0, 1.0, 1.5))
        labels = np.zeros(grid.shape, np.uint8)
        labels[2:8, 3:9, 2:7] = 4
        labels[3:6, 4 + index : 9, 5:9] = 5
        case = folder / "cases" / f"case_{index:05d}"
        hu = rng.integers(-100, 300, grid.shape).astype(np.int16)
        write_volume(case / "imaging.nii.gz", Volume(hu, grid))
        write_volume(case / "segmentation.nii.gz", Volume(labels, grid))
        other = Geometry((12, 14, 16), (2.0, 1.0, 1.0 + 0.5 * (index < 2)))
        write_volume(folder / "others" / f"case_{index:05d}.nii.gz", Volume(np.roll(labels, 1, 2), other))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


VERBS = {
    "evaluate": lambda at, out: ["evaluate", str(at / "others"), str(at / "cases"), "--out", str(out)],
    "export": lambda at, out: ["export", str(at / "cases"), "--to", "nnunet", "--out", str(out)],
    "info": lambda at, out: ["info", str(at / "cases")],
}


@pytest.mark.parametrize(("verb", "code"), [("evaluate", 1), ("export", 0), ("info", 0)])
def test_a_cluster_and_parts_give_the_same_files_and_codes(maps, tmp_path, capsys, verb, code):
    def done(name: str, *more: str) -> tuple[int, str, dict[str, bytes]]:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        ended = main([*VERBS[verb](maps, out), *more])
        return ended, capsys.readouterr().out.replace(str(out), "OUT"), files_of(out)

    here = done("here")
    assert here[0] == code
    assert done("cluster", "--cluster", "local:2") == here
    if verb == "info":
        return
    for part in ("1/2", "2/2"):
        done("parts", "--part", part)
    assert set(files_of(tmp_path / "parts")) != set(here[2])
    assert done("parts") == here


def test_a_part_is_done_again_where_its_input_has_changed(maps, tmp_path):
    shutil.copytree(maps, tmp_path / "in")
    run = VERBS["evaluate"](tmp_path / "in", tmp_path / "out")
    main([*run, "--part", "1/2"])
    moved = tmp_path / "in" / "others" / "case_00000.nii.gz"
    write_volume(moved, read_labels(tmp_path / "in" / "cases" / "case_00000" / "segmentation.nii.gz"))
    main(run)
    rows = list(csv.DictReader((tmp_path / "out" / "evaluation.csv").read_text().splitlines()))
    assert {row["dsc"] for row in rows if row["case"] == "case_00000" and row["truth_ml"] != "0.0"} == {"1.0"}


STANDS_IN = """#!/bin/sh
[ "$1" = --test-only ] && exec sh -n
sh "$1" > /dev/null 2>&1 &
echo "Submitted batch job $!"
"""


@pytest.fixture
def own_sbatch(tmp_path, monkeypatch) -> Iterator[None]:
    """A sbatch and a scancel that run jobs on this machine at once."""
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", STANDS_IN), ("scancel", '#!/bin/sh\nkill "$@"\n')):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "support"))
    monkeypatch.chdir(tmp_path)
    yield
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed file")  # the key and certificates, by dask-jobqueue
def test_jobs_of_slurm_do_the_work(own_sbatch, tmp_path):
    (tmp_path / "two.toml").write_text('jobs = 2\ncores = 1\nmemory = "1 GB"\n')
    assert dict(each(square, NUMBERS, f"slurm:{tmp_path / 'two.toml'}")) == dict(enumerate(EXPECTED))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs = 0", "jobs must be a whole number from 1, got 0"),
        ("jobs = ", "Invalid value"),
        ("cores = 1\nmemory = 'much'", "memory"),
        ("colour = 'red'", "colour"),
    ],
)
def test_options_that_slurm_cannot_have_are_said(own_sbatch, tmp_path, text, said):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        list(each(square, NUMBERS, f"slurm:{tmp_path / 'bad.toml'}"))
    assert "\n" not in str(raised.value)


def test_a_machine_without_slurm_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.toml").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="need SLURM's sbatch"):
        list(each(square, NUMBERS, f"slurm:{tmp_path / 'a.toml'}"))


def test_a_cluster_of_this_machine_tells_strangers_nothing():
    """Loopback alone; no web page of Dask's, and no word without the keys."""
    with client_of("local:1") as (client, _):
        client.wait_for_workers(1)
        me = psutil.Process()
        ports = [
            connection.laddr
            for process in (me, *me.children(recursive=True))
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(ports) > 2 and {at.ip for at in ports} == {"127.0.0.1"}
        for at in ports:
            for page in ("info/main/workers.html", "metrics", "health", "json/counts.json"):
                with pytest.raises((HTTPError, ConnectionError)):
                    urlopen(f"http://{at.ip}:{at.port}/{page}", timeout=5)


def test_a_scheduler_that_is_not_there_is_said():
    with pytest.raises(ValueError, match=r"tcp://127.0.0.1:9: no scheduler answers there"):
        list(each(square, NUMBERS, "tcp://127.0.0.1:9"))


def test_a_lost_scheduler_is_said_in_one_line():
    """A scheduler and a worker of their own, killed while they work."""
    start = "import sys; from distributed.cli.dask_scheduler import main; main()"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with subprocess.Popen(
        [sys.executable, "-c", start, *options], stderr=subprocess.PIPE, text=True
    ) as scheduler:
        assert scheduler.stderr is not None
        line = next(line for line in scheduler.stderr if "Scheduler at:" in line)
        results = each(square, NUMBERS, line.split()[-1])
        scheduler.kill()
        with pytest.raises(
            ValueError, match=r"no scheduler answers there|lost the scheduler; the same command"
        ):
            list(results)


def test_predict_writes_the_same_bytes_on_a_cluster(tmp_path, capsys):
    for index in range(3):
        ct = make_case(COHORTS["demo"], 5, index).ct
        write_volume(tmp_path / "cts" / f"case_{index}.nii.gz", ct)
    (tmp_path / "cts" / "case_3.nii.gz").write_bytes(b"broken")
    written = []
    for name, more in (("here", []), ("there", ["--cluster", "local:2"])):
        arguments = ["predict", str(tmp_path / "cts"), "--out", str(tmp_path / name), "--statistics", *more]
        assert main(arguments) == 1
        assert "1 of 4 cases have no label map" in capsys.readouterr().err
        files = sorted(Path(tmp_path / name).iterdir())
        written.append({file.name: file.read_bytes() for file in files})
    assert written[0] == written[1]
    assert {name.split("_kidseg")[0] for name in written[0]} == {
        "case_0",
        "case_1",
        "case_2",
        "statistics.csv",
    }


def test_without_a_cluster_nothing_of_dask_is_imported():
    code = (
        "import sys, kidseg_jax.cli.predict, kidseg_jax.cli.stage, kidseg_jax.staging.run\n"
        "sys.exit(any(name in sys.modules for name in ('dask', 'distributed')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
