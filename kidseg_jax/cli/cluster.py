"""The cases of a verb, done by this process or by the workers of a Dask cluster (the extra `cluster`)."""

import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
MOST_KILLS = 3
HELP = "local, local:N, tcp://HOST:PORT or tls://HOST:PORT"
LOCAL = re.compile(r"local(?::([1-9][0-9]{0,3}))?")
CONFIG = {
    "distributed.scheduler.allowed-failures": MOST_KILLS - 1,
    "distributed.scheduler.worker-saturation": 1.0,  # a worker that dies is held against the case it works on
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.log-length": 0,
}


class Problem(NamedTuple):
    """Why a case has no result, in one line."""

    line: str


def each(
    work: Callable[[T], Any], items: Sequence[T], cluster: str | None = None
) -> Iterator[tuple[int, Any | Problem]]:
    """(place of an item, what `work` makes of it), as they are done; a `Problem` for a case that failed.

    cluster: None for this process, in order; else HELP. With a cluster `work` and the items are pickled, and
    `work` leaves nothing half done where its process is killed: it is then done again, by another worker. A
    case at which MOST_KILLS workers died is a `Problem`. Raises ValueError for another cluster, one that
    cannot be reached, and one whose scheduler is lost.
    """
    if cluster is None:
        yield from ((at, guarded(work, item)) for at, item in enumerate(items))
    else:
        yield from _on_dask(work, items, cluster)


def guarded(work: Callable[[T], Any], item: T) -> Any | Problem:
    """What `work` makes of an item, or the line of what is wrong with it."""
    try:
        return work(item)
    except (ValueError, OSError, MemoryError) as error:
        return Problem(" ".join(str(error).split()) or type(error).__name__)


def n_workers(cluster: str | None) -> int:
    """The worker processes on this machine, each with its share of the cores: 1 unless local. ValueError for
    what is no cluster.
    """
    if cluster is None or re.fullmatch(r"(tcp|tls)://\S+:[0-9]{1,5}", cluster):
        return 1
    found = LOCAL.fullmatch(cluster)
    if found is None:
        raise ValueError(f"--cluster: need {HELP}, got {cluster!r}")
    return int(found[1]) if found[1] else os.cpu_count() or 1


def _on_dask(work: Callable[[T], Any], items: Sequence[T], cluster: str) -> Iterator[tuple[int, Any]]:
    n_workers(cluster)
    if importlib.util.find_spec("distributed") is None:
        raise ValueError("--cluster needs the extra `cluster`: pip install 'kidseg_jax[cluster]'")
    import distributed

    with _client(cluster) as client:
        at = {client.submit(guarded, work, item, pure=False): i for i, item in enumerate(items)}
        for future in distributed.as_completed(at):
            yield at[future], _result(future, cluster)


def _result(future: Any, cluster: str) -> Any | Problem:
    """What a future holds; it is made again where the worker that held it is gone."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return Problem(f"{MOST_KILLS} workers died at it (memory?), not tried again")
    except CancelledError:
        line = f"--cluster {cluster}: lost the scheduler; the same command goes on where it was"
        raise ValueError(line) from None
    except Exception as error:  # of any kind: `work` raised it in its process
        return Problem(" ".join(f"{type(error).__name__}: {error}".split()))


@contextmanager
def _client(cluster: str) -> Iterator[Any]:
    """A client of a running scheduler, or of our own on the loopback that no other user can talk to."""
    import distributed
    from dask import config

    with config.set(CONFIG):
        if LOCAL.fullmatch(cluster) is None:
            try:
                client = distributed.Client(cluster, timeout=5)
            except (OSError, TimeoutError) as error:
                raise ValueError(f"--cluster {cluster}: no scheduler answers there") from error
            with client:
                yield client
            return
        with (
            distributed.LocalCluster(
                host="127.0.0.1",
                n_workers=n_workers(cluster),
                threads_per_worker=1,
                dashboard_address=None,  # pyright: ignore[reportArgumentType]
                security=distributed.Security.temporary(),
                silence_logs=logging.CRITICAL,
            ) as local,
            distributed.Client(local) as client,
        ):
            yield client
