"""Training over several devices, of one process or of several: who is in, and what lies where."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax._src import distributed  # its keys and values have no public name
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")
BATCH = "batch"
LISTEN_MS = 1000
LEFT = "kidseg_jax left"
GONE_S = 30  # without a sign of life from a process, the others end
ADDRESS, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")


def join_processes() -> None:
    """Make this process one of several that train together, where the environment says so.

    That is: a step of SLURM with more than one task (`srun`), or JAX_COORDINATOR_ADDRESS (HOST:PORT of the
    first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID (from 0). To be called before anything else makes JAX
    look for devices. Raises ValueError where the environment is not whole or the others do not come.
    """
    given = {name: os.environ[name] for name in (ADDRESS, PROCESSES, PROCESS) if os.environ.get(name)}
    slurm = all(name in os.environ for name in SLURM) and os.environ[SLURM[1]] != "1"
    if not given and not slurm:
        return
    how: dict[str, Any] = {}
    if given:
        if len(given) < 3 or not given[PROCESSES].isdigit() or not given[PROCESS].isdigit():
            wanted = f"{ADDRESS}=HOST:PORT, {PROCESSES} and {PROCESS}, from 0"
            raise ValueError(f"several processes: need {wanted}, got {given}")
        how = {
            "coordinator_address": given[ADDRESS],
            "num_processes": int(given[PROCESSES]),
            "process_id": int(given[PROCESS]),
        }
        if not how["process_id"] < how["num_processes"]:
            raise ValueError(f"{PROCESS}: need 0 to {how['num_processes'] - 1}, got {how['process_id']}")
    jax.config.update("jax_enable_recoverability", True)  # one that dies is an error here, not an abort
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM stays ours: see `stops`
    try:
        jax.distributed.initialize(**how, heartbeat_timeout_seconds=GONE_S)
    except RuntimeError as error:
        raise ValueError(f"several processes: the others did not come ({error})") from error


def is_first() -> bool:
    """Whether this is the process that writes: the only one, or the first of several."""
    return jax.process_index() == 0


def is_alone() -> bool:
    return jax.process_count() == 1


def mesh_of(n: int | None) -> Mesh | None:
    """The devices that share every step's batch; None where one device does all.

    n: how many; None takes one, of several processes all that they have. Raises ValueError where there are
    fewer, or where several processes would leave one out.
    """
    there = jax.devices()
    if n is None:
        n = 1 if is_alone() else len(there)
    if not 1 <= n <= len(there) or not (is_alone() or n == len(there)):
        need = (
            f"1 to {len(there)}" if is_alone() else f"all {len(there)} of the {jax.process_count()} processes"
        )
        raise ValueError(f"--devices: need {need}, got {n}")
    return None if n == 1 else Mesh(np.array(there[:n]), (BATCH,))


def replicated(mesh: Mesh, tree: T) -> T:
    """The same arrays, whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def replicated_key(mesh: Mesh, seed: int) -> jax.Array:
    """`jax.random.key(seed)`, whole on every device."""
    return jax.random.wrap_key_data(replicated(mesh, jax.random.key_data(jax.random.key(seed))))


def by_rows(mesh: Mesh, shape: tuple[int, ...], row: Callable[[int], np.ndarray]) -> jax.Array:
    """An array whose rows are dealt to the devices in order; a process is asked for those of its own."""

    def of(index: Any) -> np.ndarray:
        return np.stack([row(i) for i in range(*index[0].indices(shape[0]))])

    return jax.make_array_from_callback(shape, NamedSharding(mesh, PartitionSpec(BATCH)), of)


def on_this_device(tree: T) -> T:
    """What is whole on every device, as arrays of this process's first one."""
    return jax.tree.map(lambda a: jax.numpy.asarray(np.asarray(a)), tree)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any of the processes; each has to ask at the same place."""
    if is_alone():
        return flag
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.any(process_allgather(np.array(flag))))


def tell(key: str, text: str) -> None:
    """Let the other processes `hear` a text; each key is told once."""
    _client().key_value_set(key, text)


def hear(key: str, at_most_s: float = float("inf")) -> str | None:
    """What is told under a key, None if not in time; JaxRuntimeError where the first process is gone."""
    until = time.monotonic() + at_most_s
    while time.monotonic() < until:
        try:
            return _client().blocking_key_value_get(key, LISTEN_MS)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
    return None


def _client() -> Any:
    return distributed.global_state.client


def see_others_off() -> None:
    """Wait until the other processes have left: the end of the first one would be an error to them."""
    for i in range(1, jax.process_count()):
        hear(f"{LEFT} {i}", GONE_S)


def leave_before_the_first(code: int) -> NoReturn:
    """End a process that is not the first, which `see_others_off`."""
    tell(f"{LEFT} {jax.process_index()}", "")
    leave(code)


def leave(code: int) -> NoReturn:
    """End this process at once: the usual end would wait for others, which are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
