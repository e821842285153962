"""The worker processes of a Dask cluster: on this machine, of a scheduler that runs, or jobs of SLURM."""

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_KILLS = 3
HELP = "local, local:N, tcp://HOST:PORT, tls://HOST:PORT or slurm:FILE.toml"
LOCAL = re.compile(r"local(?::([1-9][0-9]{0,3}))?")
RUNNING = re.compile(r"(tcp|tls)://\S+:[0-9]{1,5}")
SLURM = re.compile(r"slurm:(.+\.toml)")
CONFIG = {
    "distributed.scheduler.allowed-failures": MOST_KILLS - 1,
    "distributed.scheduler.worker-saturation": 1.0,  # a worker that dies is held against the case it works on
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.log-length": 0,
    "distributed.scheduler.http.routes": [],  # Dask's web pages ask nobody who they are
    "distributed.worker.http.routes": [],
}
TICK_S = 5.0
NO_PAGES = "127.0.0.1:0"
QUIET = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
SLURM_DEFAULTS = {"jobs": 1, "cores": 1, "memory": "4 GB", "walltime": "01:00:00"}
SLURM_OPTIONS = (
    *SLURM_DEFAULTS,
    "account",
    "interface",
    "job_extra_directives",
    "job_script_prologue",
    "local_directory",
    "log_directory",
    "python",
    "queue",
    "shared_temp_directory",
    "worker_extra_args",
)


def require(cluster: str) -> None:
    """Raises ValueError for what is no cluster, or needs what is not installed."""
    n_workers(cluster)
    slurm = SLURM.fullmatch(cluster) is not None
    needed = ("distributed", "dask_jobqueue") if slurm else ("distributed",)
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise ValueError("--cluster needs the extra `cluster`: pip install 'kidseg_jax[cluster]'")
    if slurm and shutil.which("sbatch") is None:
        raise ValueError(f"--cluster {cluster}: need SLURM's sbatch, which this machine has not")


def n_workers(cluster: str | None) -> int:
    """The worker processes on this machine, each with its share of the cores: 1 unless local. ValueError for
    what is no cluster.
    """
    if cluster is None or RUNNING.fullmatch(cluster) or SLURM.fullmatch(cluster):
        return 1
    found = LOCAL.fullmatch(cluster)
    if found is None:
        raise ValueError(f"--cluster: need {HELP}, got {cluster!r}")
    return int(found[1]) if found[1] else os.cpu_count() or 1


def threads_of(cluster: str | None) -> int:
    """The threads of a case where none are asked for: what SLURM gave this process, else its share of the
    cores.
    """
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if given.isascii() and given.isdigit():
        have = min(have, int(given))
    return max(1, have // n_workers(cluster))


class Watch:
    """Puts new workers of a cluster of our own where some are gone for good.

    why: the line that says why there are none, once that is known; the cluster's client is then closed.
    """

    def __init__(self, cluster: Any, n: int, client: Any) -> None:
        self.cluster, self.n, self.client = cluster, n, client
        self.why: str | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *of_error: object) -> None:
        self.ended.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.ended.wait(TICK_S):
            if self._jobs_have_ended():
                self.why = "the jobs of SLURM end without having worked: see their output"
                self.client.close()
                return
            self.cluster.loop.add_callback(self._drop_dead)
            self.cluster.scale(self.n)

    def _drop_dead(self) -> None:
        from distributed import Status

        for name, worker in list(self.cluster.workers.items()):
            if worker.status in (Status.closed, Status.failed):
                del self.cluster.workers[name]

    def _jobs_have_ended(self) -> bool:
        """Whether there is no worker, and none of the jobs waits or runs any more."""
        jobs = [str(job) for w in self.cluster.workers.values() if (job := getattr(w, "job_id", None))]
        if not jobs or self.cluster.scheduler_info["workers"] or shutil.which("squeue") is None:
            return False
        asked = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=False)
        return asked.returncode == 0 and not set(jobs) & set(asked.stdout.split())


@contextmanager
def client_of(cluster: str) -> Iterator[tuple[Any, Watch | None]]:
    """A client of a running scheduler, or of our own that no other user can talk to, and what watches over
    its workers.
    """
    import distributed
    from dask import config

    for name in ("distributed", "asyncio", "tornado"):  # what is lost is told once, by `each`
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with config.set(CONFIG):
        if LOCAL.fullmatch(cluster):
            own, n = (
                distributed.LocalCluster(
                    host="127.0.0.1",
                    n_workers=0,
                    threads_per_worker=1,
                    dashboard_address=NO_PAGES,
                    security=distributed.Security.temporary(),
                    silence_logs=logging.CRITICAL,
                ),
                n_workers(cluster),
            )
        elif (found := SLURM.fullmatch(cluster)) is not None:
            own, n = _slurm(Path(found[1]))
        else:
            own, n = None, 0
        if own is not None:
            own.scale(n)
            with own, distributed.Client(own) as client, Watch(own, n, client) as watch:
                yield client, watch
            return
        try:
            client = distributed.Client(cluster, timeout=5)
        except (OSError, TimeoutError) as error:
            raise ValueError(f"--cluster {cluster}: no scheduler answers there") from error
        with client:
            yield client, None


def _slurm(file: Path) -> tuple[Any, int]:
    """A cluster whose workers are to be jobs of SLURM, and how many. ValueError where SLURM would not take
    such a job.
    """
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Security

    options = slurm_options(file)
    jobs = options.pop("jobs")
    made = SLURMCluster(
        processes=1,
        protocol="tls://",
        security=Security.temporary(),
        shared_temp_directory=options.pop("shared_temp_directory", os.getcwd()),
        scheduler_options={"dashboard": False, "dashboard_address": NO_PAGES},
        job_script_prologue=[QUIET, *options.pop("job_script_prologue", [])],
        silence_logs="CRITICAL",
        **options,
    )
    tried = subprocess.run(
        ["sbatch", "--test-only"], input=made.job_script(), capture_output=True, text=True, check=False
    )
    if tried.returncode:
        made.close()
        why = " ".join(tried.stderr.split())
        raise ValueError(f"--cluster slurm: {file}: SLURM does not take the job: {why}")
    return made, jobs


def slurm_options(file: Path) -> dict[str, Any]:
    """The options of a TOML file: `jobs`, and those of dask_jobqueue.SLURMCluster in SLURM_OPTIONS.

    Raises ValueError for a file that is none, other keys, and numbers and sizes that are none.
    """
    from dask.utils import parse_bytes

    try:
        options = SLURM_DEFAULTS | tomllib.loads(file.read_text(encoding="utf-8"))
        for name in options:
            if name not in SLURM_OPTIONS:
                raise ValueError(f"need {', '.join(SLURM_OPTIONS)}, got {name}")
        for name in ("jobs", "cores"):
            if type(options[name]) is not int or options[name] < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {options[name]!r}")
        try:
            parse_bytes(options["memory"])
        except (ValueError, AttributeError) as error:
            raise ValueError(f"memory must be a size, such as '4 GB', got {options['memory']!r}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"--cluster slurm: {file}: {error}") from error
    return options
