"""The cases of a verb, all or a part of them, done by this process or by the workers of a Dask cluster (the
extra `cluster`).
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Annotated, Any, NamedTuple, TypeVar

import tyro

from kidseg_jax.cli.workers import MOST_KILLS, Watch, client_of, require

T = TypeVar("T")
Part = Annotated[
    str | None,
    tyro.conf.arg(
        help="3/16: the third of sixteen parts of the cases, for arrays of jobs; the same command without it"
        " does what is left and gathers the results."
    ),
]
Cluster = Annotated[
    str | None,
    tyro.conf.arg(
        help="local:N for N processes, each with its share of the cores, tcp://HOST:PORT or tls://HOST:PORT"
        " of a Dask scheduler, or slurm:FILE.toml (docs/cluster.md); default: this process."
    ),
]


class Problem(NamedTuple):
    """Why a case has no result, in one line."""

    line: str


def each(
    work: Callable[[T], Any], items: Sequence[T], cluster: str | None = None
) -> Iterator[tuple[int, Any | Problem]]:
    """(place of an item, what `work` makes of it), as they are done; a `Problem` for a case that failed.

    cluster: None for this process, in order; else `workers.HELP`. With a cluster `work` and the items are
    pickled, and `work` leaves nothing half done where its process is killed: it is then done again, by
    another worker. A case at which MOST_KILLS workers died is a `Problem`. A terminal shows a bar with the
    time left. Raises ValueError for another cluster, one that cannot be reached, and one whose scheduler is
    lost.
    """
    if cluster is None:
        made = ((at, guarded(work, item)) for at, item in enumerate(items))
    else:
        made = _on_dask(work, items, cluster)
    return _shown(made, len(items)) if len(items) > 1 else made


def in_order(found: Iterable[tuple[int, T]]) -> Iterator[T]:
    """What `each` yields, without places, in the order of the items."""
    waiting: dict[int, T] = {}
    following = 0
    for at, result in found:
        waiting[at] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def parted(items: Sequence[T], part: str | None) -> Sequence[T]:
    """The items of part "K/N", K from 1, which it says; all of them for None. ValueError for no such part."""
    if part is None:
        return items
    k, _, n = part.partition("/")
    if not (k.isascii() and k.isdigit() and n.isascii() and n.isdigit()):
        raise ValueError(f"--part: need K/N, such as 3/16, got {part!r}")
    if not 1 <= int(k) <= int(n):
        raise ValueError(f"--part: need 1 to {n} of {n} parts, got {part!r}")
    some = items[int(k) - 1 :: int(n)]
    print(f"part {k} of {n}: {len(some)} of {len(items)} cases, the others are not looked at")
    return some


def by_cause(failures: Mapping[str, str]) -> list[str]:
    """A line for every cause: its cases, and what failed there. failures: case to line."""
    causes: dict[str, list[str]] = {}
    for case, line in failures.items():
        causes.setdefault(line.removeprefix(f"{case}: ").replace(case, "CASE"), []).append(case)
    return [
        f"{cases[0]}: {failures[cases[0]].removeprefix(f'{cases[0]}: ')}"
        if len(cases) == 1
        else f"{len(cases)} cases: {cause}: {', '.join(cases)}"
        for cause, cases in causes.items()
    ]


def guarded(work: Callable[[T], Any], item: T) -> Any | Problem:
    """What `work` makes of an item, or the line of what is wrong with it."""
    try:
        return work(item)
    except (ValueError, OSError, MemoryError) as error:
        return Problem(" ".join(str(error).split()) or type(error).__name__)


def _shown(made: Iterator[tuple[int, T]], total: int) -> Iterator[tuple[int, T]]:
    """The same, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=getattr(sys.stderr, "bare", sys.stderr))
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("cases, left"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(made, total=total)


def _on_dask(work: Callable[[T], Any], items: Sequence[T], cluster: str) -> Iterator[tuple[int, Any]]:
    require(cluster)
    import distributed

    with client_of(cluster) as (client, watch):
        at = {client.submit(guarded, work, item, pure=False): i for i, item in enumerate(items)}
        for future in distributed.as_completed(at):
            yield at[future], _result(future, cluster, watch)


def _result(future: Any, cluster: str, watch: Watch | None) -> Any | Problem:
    """What a future holds; it is made again where the worker that held it is gone."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return Problem(f"{MOST_KILLS} workers died at it (memory?), not tried again")
    except CancelledError:
        why = watch.why if watch is not None and watch.why else "lost the scheduler"
        raise ValueError(f"--cluster {cluster}: {why}; the same command goes on where it was") from None
    except Exception as error:  # of any kind: `work` raised it in its process
        return Problem(" ".join(f"{type(error).__name__}: {error}".split()))
