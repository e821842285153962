"""Cases on a Dask cluster: the same results, whatever happens to its workers."""

import subprocess
import sys
from pathlib import Path

import pytest
from cluster_work import always_killed, once_killed, square

from kidseg_jax.cli.app import main
from kidseg_jax.cli.cluster import Problem, each, n_workers
from kidseg_jax.config import COHORTS
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.phantom.cohort import make_case

NUMBERS = [3, 0, -1, 7, 5]
EXPECTED = [9, 0, Problem("need 0 or more, got -1"), 49, 25]


@pytest.mark.parametrize("cluster", [None, "local:2"])
def test_each_item_has_its_result_or_its_problem(cluster):
    assert dict(each(square, NUMBERS, cluster)) == dict(enumerate(EXPECTED))


def test_what_a_lost_worker_had_is_done_again(tmp_path):
    items = [(tmp_path, number) for number in range(7)]
    assert dict(each(once_killed, items, "local:2")) == dict(enumerate(range(7)))


def test_a_case_that_kills_every_worker_is_named_and_the_others_go_on():
    found = dict(each(always_killed, range(5), "local:2"))
    assert found.pop(2) == Problem("3 workers died at it (memory?), not tried again")
    assert found == {0: 0, 1: 1, 3: 3, 4: 4}


@pytest.mark.parametrize(
    "cluster", ["", "local:0", "local:-1", "slurm", "tcp://here", "http://a:1", "local:2 "]
)
def test_what_is_no_cluster_is_refused(tmp_path, capsys, cluster):
    with pytest.raises(ValueError, match="--cluster: need local, local:N, tcp://HOST:PORT or tls://"):
        n_workers(cluster)
    ct = tmp_path / "a.nii.gz"
    ct.touch()
    assert main(["predict", str(tmp_path), f"--cluster={cluster}"]) == 2
    assert capsys.readouterr().err.startswith("kidseg_jax: --cluster: need local")


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
